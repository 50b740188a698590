"""A trunk answers 3xx: where the call goes then (RFC 3261 §8.1.3.4, §21.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from b2bua.calls.redirection import MAX_REDIRECTIONS
from b2bua.cdr import CallRecord, Disposition, EndedBy, EndReason
from b2bua.directory import PrefixLimit
from b2bua.sip.effects import Address
from b2bua.sip.invite_session import InviteSession
from tests.scenario.test_trunks import OUTSIDE, SPARE, THIRD, call_out, operator, operator_at, spare, with_trunks
from tests.support.office import DID, OPERATOR, SERVER, Office, faultless_office
from tests.support.phone import Answers, Behaviour, Phone, PhoneCall, Rejects, Rings

HOME = OPERATOR.host                        # and 10.0.1.0/24 is the operator's network
FAR = Address("203.0.113.7", 5060)


@pytest.fixture
def office():
    return faultless_office()


class Scripted(Phone):
    """Does one thing at the first call, another at the next, ...: the last one over and over."""

    script: list[Behaviour]

    def _called(self, session: InviteSession) -> None:
        self.does = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        super()._called(session)


async def redirecting(office: Office, *script: Behaviour) -> Phone:
    office.trunk.close()
    trunk = Scripted("operator", SERVER, seed=98).on(office.network, OPERATOR)
    trunk.script = list(script)
    office._phones["scripted"] = trunk
    return trunk


def to(*contacts: str, status: int = 302) -> Rejects:
    return Rejects(status, contact=", ".join(contacts))


async def out(office: Office, number: str = OUTSIDE) -> tuple[PhoneCall, CallRecord]:
    """The call of a phone that hangs up once somebody has answered."""
    count = len(office.books.records)
    await call_out(office, number)
    record = await office.record(count + 1)
    return office._phones["101"].calls[-1], record


@pytest.mark.parametrize("status", [300, 301, 302, 399])
async def test_the_operators_own_contact_is_called_as_it_stands(office: Office, status: int) -> None:
    home = await redirecting(office, to(f"<sip:+74950000009;npdi@{SPARE.host};user=phone;maddr=10.9.9.9?X=y>",
                                        status=status))
    other = operator_at(office, SPARE)
    call, record = await out(office)
    invite = other.calls[0].session.invite
    assert str(invite.uri) == f"sip:+74950000009;npdi@{SPARE.host};user=phone"
    assert (invite.to.uri.user, invite.from_.uri.user) == (OUTSIDE, home.calls[0].session.invite.from_.uri.user)
    assert (call.status, record.trunk, record.dialled) == (200, "operator", OUTSIDE)
    assert f"operator answered {status}" in record.why
    assert f"operator sends the call on to sip:+74950000009;npdi@{SPARE.host}" in record.why
    await office.all_quiet()


async def test_another_port_of_the_same_name(office: Office) -> None:
    office.dns.records["trunk.test", "A"] = (SPARE.host,)
    operator_at(office, SPARE, to("<sip:+74950000009@trunk.test:5090>"))
    other = operator_at(office, Address(SPARE.host, 5090))
    await with_trunks(office, replace(operator(office), host="trunk.test"))
    call, _ = await out(office)
    assert (call.status, len(other.calls)) == (200, 1)
    assert str(other.calls[0].session.invite.uri) == "sip:+74950000009@trunk.test:5090"


@pytest.mark.parametrize("contact", [f"<sip:+74950000009@{FAR.host}>", "<tel:+7-495-000-00-09>",
                                     "<sip:+74950000009@elsewhere.test;transport=tcp>"])
async def test_whom_a_stranger_shall_be_asked_for_is_dialled_through_the_trunk(office: Office, contact: str) -> None:
    home = await redirecting(office, to(contact), Answers(after=1.0))
    far = operator_at(office, FAR)
    call, record = await out(office)
    assert call.status == 200
    assert [str(each.session.invite.uri) for each in home.calls] == [
        f"sip:{OUTSIDE}@{HOME}:5060", f"sip:+74950000009@{HOME}:5060"]
    assert far.calls == []
    assert f"operator sends the call on to sip:+74950000009@{HOME}" in record.why
    await office.all_quiet()


async def test_contacts_are_tried_in_the_order_of_q(office: Office) -> None:
    home = await redirecting(
        office, to("<sip:3@x.test>;q=0.1", "<sip:1@x.test>", "<sip:2@x.test>;q=0.5"),
        Rejects(404), Rejects(503), Answers(after=1.0))
    call, record = await out(office)
    assert [each.session.invite.uri.user for each in home.calls] == [OUTSIDE, "1", "2", "3"]
    assert (call.status, record.disposition) == (200, Disposition.ANSWERED)


async def test_who_has_rung_is_the_last(office: Office) -> None:
    home = await redirecting(office, to("<sip:1@x.test>", "<sip:2@x.test>"), Rings())
    anna = await office.phone("101")
    call = anna.call(OUTSIDE)
    await call.rang.wait()
    home.calls[1].reject(486)
    await call.over.wait()
    assert (call.status, len(home.calls)) == (486, 2)
    assert (await office.record()).disposition is Disposition.BUSY
    await office.all_quiet()


async def test_6xx_speaks_for_all(office: Office) -> None:
    home = await redirecting(office, to("<sip:1@x.test>", "<sip:2@x.test>"), Rejects(603))
    call, _ = await out(office)
    assert (call.status, len(home.calls)) == (603, 2)


@pytest.mark.parametrize("answer", [
    to(f"<sip:{OUTSIDE}@{HOME}:5060>"),                         # where it was
    to(f"<sip:{OUTSIDE}@elsewhere.test>"),                      # and by another name
    to(f"<sip:1@{HOME}>", status=305), to(f"<sip:1@{HOME}>", status=380),
    Rejects(302), to("nonsense<"), to("<sip:elsewhere.test>"), to("<mailto:a@b.test>"), to("<sips:1@x.test>"),
    to("*"), to("<sip:1@x.test>;q=7"),
])
async def test_what_leads_nowhere_is_a_fault_of_the_trunk(office: Office, answer: Rejects) -> None:
    home = await redirecting(office, answer)
    call, record = await out(office)
    assert (call.status, call.session.invite.uri.user) == (480, OUTSIDE)
    assert (len(home.calls), record.status, record.ended_by, record.reason) == (
        1, 480, EndedBy.SWITCH, EndReason.NOTHING_TO_RING)
    other = operator_at(office, FAR)
    await with_trunks(office, operator(office), spare(host=FAR.host))
    call, record = await out(office)
    assert (call.status, record.trunk, len(other.calls)) == (200, "spare", 1)
    await office.all_quiet()


async def test_loops_and_endless_chains_end(office: Office) -> None:
    home = await redirecting(office, to("<sip:1@x.test>"), to("<sip:2@x.test>"), to("<sip:1@y.test>"))
    call, record = await out(office)
    assert (call.status, len(home.calls)) == (480, 3)
    assert "it has been there already" in record.why
    home.script[:] = [to(f"<sip:{n}@x.test>", f"<sip:{n + 100}@x.test>") for n in range(40)]
    home.calls.clear()
    call, record = await out(office)
    assert (call.status, len(home.calls)) == (480, 1 + MAX_REDIRECTIONS)
    assert f"it has been sent on {MAX_REDIRECTIONS} times already" in record.why
    await office.all_quiet()


async def test_a_trunk_that_redirects_into_silence_is_followed_by_the_next(office: Office) -> None:
    home = await redirecting(office, to(f"<sip:1@{THIRD.host}>"))
    operator_at(office, FAR)
    await with_trunks(office, operator(office), spare(host=FAR.host))
    call, record = await out(office)
    assert (call.status, record.trunk) == (200, "spare")
    assert "operator: no response within 5 s" in record.why
    assert office.trunks.line(record.client, "operator")._failed == {}      # its own server has answered
    assert len(home.calls) == 1


async def test_where_a_trunk_sends_a_call_the_limits_hold(office: Office) -> None:
    client = replace(office.books.directory.clients[0], limits=(PrefixLimit("+7809", refused=True),))
    office.change(clients=(client,))
    await office.pbx.settings_changed()
    home = await redirecting(office, to("<sip:88091234567@x.test>"))
    call, record = await out(office)
    assert (call.status, record.reason, len(home.calls)) == (403, EndReason.LIMIT_REACHED, 1)
    home.script[:] = [to("<sip:112@x.test>"), Answers(after=1.0)]       # help is never refused
    call, _ = await out(office)
    assert call.status == 200


async def test_its_place_may_ask_for_a_password(office: Office) -> None:
    office.change(trunks=(replace(operator(office), user="account", password="pw"),))
    await office.pbx.settings_changed()
    await redirecting(office, to(f"<sip:1@{SPARE.host}>"))
    challenge = ("WWW-Authenticate", 'Digest realm="op", nonce="n1", qop="auth"')
    other = Scripted("other", SERVER, seed=97).on(office.network, SPARE)
    other.script = [Rejects(401, headers=(challenge,)), Answers(after=1.0)]
    office._phones["other"] = other
    call, _ = await out(office)
    assert call.status == 200
    assert f'uri="sip:1@{SPARE.host}"' in (other.calls[-1].session.invite.headers.get("Authorization") or "")


async def test_a_caller_who_leaves_leaves_there(office: Office) -> None:
    home = await redirecting(office, to("<sip:1@x.test>"), Rings())
    anna = await office.phone("101")
    call = anna.call(OUTSIDE)
    await call.rang.wait()
    call.hang_up()
    record = await office.record()
    assert (record.disposition, home.calls[1].over.is_set()) == (Disposition.ABANDONED, True)
    await office.all_quiet()


async def test_an_incoming_call_that_goes_on_outside_is_redirected_too(office: Office) -> None:
    home = await redirecting(office, to("<sip:1@x.test>"), Answers(after=1.0))
    extensions = tuple(replace(one, forward_always="+79160000001") if one.number == "102" else one
                       for one in office.books.directory.extensions)
    client = replace(office.books.directory.clients[0], forward_outside=True)
    office.change(extensions=extensions, clients=(client,))
    await office.pbx.settings_changed()
    call = home.call(DID, as_="+79161234567")
    await call.answered.wait()
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
    assert home.calls[-1].session.invite.uri.user == "1"
