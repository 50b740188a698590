"""Who refuses our offer with 488, 606 or 415 gets another one with what is left, once."""

from __future__ import annotations

import pytest

from b2bua.cdr import Disposition
from tests.support.office import Office, open_office
from tests.support.phone import Phone

OUTSIDE = "+79265554433"


@pytest.fixture
def office():
    return open_office()


class Picky(Phone):
    """Takes only offers of G.711."""

    status = 488

    def _called(self, session):  # type: ignore[no-untyped-def]
        if b"opus" in session.offer:
            self.do(session.reject(self.status, self.now()))
        else:
            super()._called(session)


@pytest.mark.parametrize("status", [415, 488, 606])
async def test_plain_codecs_are_offered_once_more(office: Office, status: int) -> None:
    office.trunk.__class__ = Picky
    office.trunk.status = status  # type: ignore[attr-defined]
    anna = await office.phone("101")
    anna.codecs = {111: "opus/48000/2", 8: "PCMA/8000"}
    call = anna.call(OUTSIDE)
    await call.answered.wait()
    assert b"RTP/AVP 8 101\r\n" in office.trunk.calls[0].session.offer
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
    await office.all_quiet()


async def test_with_nothing_left_the_refusal_reaches_the_caller(office: Office) -> None:
    office.trunk.__class__ = Picky
    anna = await office.phone("101")
    anna.codecs = {111: "opus/48000/2"}
    call = anna.call(OUTSIDE)
    await call.over.wait()
    assert (call.status, office.trunk.calls) == (488, [])
    await office.record()
    await office.all_quiet()
