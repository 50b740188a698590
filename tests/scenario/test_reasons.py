"""Why a leg ended is told to the other one (RFC 3326)."""

from __future__ import annotations

import pytest

from tests.support.office import DID, Office, open_office
from tests.support.phone import Answers, Phone, PhoneCall, Rings

IVAN = "+79161234567"


@pytest.fixture
def office():
    return open_office()


def reasons(call: PhoneCall) -> list[str]:
    message = call.ended.message if call.ended is not None else None
    return [] if message is None else message.headers.get_all("Reason")


async def test_who_has_lost_is_told_that_the_call_was_taken_elsewhere(office: Office) -> None:
    slow, _ = await office.phone("102", Rings()), await office.phone("103", Answers(after=1.0))
    anna = await office.phone("101")
    call = anna.call("600")
    await call.answered.wait()
    call.hang_up()
    await office.record()
    assert reasons(slow.calls[0]) == ['SIP;cause=200;text="Call completed elsewhere"']
    await office.all_quiet()


@pytest.mark.parametrize("answered", [True, False])
async def test_the_reason_of_who_hangs_up_reaches_the_other(office: Office, answered: bool) -> None:
    boris = await office.phone("102", Answers(after=1.0) if answered else Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await (call.answered if answered else call.rang).wait()
    told = 'Q.850;cause=16;text="Normal call clearing"'
    office.trunk.do(call.session.hang_up(office.trunk.now(), headers=(
        ("Reason", told), ("Reason", 'X.999;cause=1'), ("Reason", 'SIP;cause="x y"'))))
    call.finish()
    record = await office.record()
    assert reasons(boris.calls[0]) == [told]
    assert record.cause == 16
    assert any(told in why for why in record.why)
    await office.all_quiet()


async def test_the_reason_of_a_refusal_reaches_the_caller(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(Phone):
        def _called(self, session):  # type: ignore[no-untyped-def]
            told = (("Reason", "q.850;cause=17"), ("Reason", "Q.850;cause=999"))
            self.do(session.reject(486, self.now(), headers=told))

    office.trunk.__class__ = Busy
    anna = await office.phone("101")
    heard: list[str] = []
    hear = PhoneCall._rejected
    monkeypatch.setattr(PhoneCall, "_rejected", lambda call, response: (
        heard.extend(response.headers.get_all("Reason")), hear(call, response)))
    call = anna.call("+79265554433")
    await call.over.wait()
    assert (await office.record()).cause == 17
    assert (call.status, heard[-1:]) == (486, ["Q.850;cause=17"])
    await office.all_quiet()
