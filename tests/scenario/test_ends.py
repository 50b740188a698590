"""Every end of a call is one value of a closed set, told by the record: how it came out, who ended it, why, the status
that the caller got, and the cause of Q.850."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest

from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.directory import PrefixLimit
from b2bua.media.plane import MediaError, MediaSession
from b2bua.sip.core import CoreConfig
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.session_timer import SessionTimerPolicy
from tests.support.anchored import AnchoredPlane
from tests.support.office import DID, OPERATOR, SERVER, Office, faultless_office
from tests.support.phone import Answers, Dead, Phone, PhoneCall, Rejects, Rings
from tests.support.rogue import Rogue, sdp_of

IVAN, MARIA = "+79161234567", "+79265554433"

End = tuple[Disposition, EndedBy, EndReason, int, int | None]
Story = Callable[[Office], Awaitable[None]]
ENDS: dict[str, tuple[End, Story]] = {}

ABANDONED, ANSWERED, BUSY, DECLINED = (
    Disposition.ABANDONED, Disposition.ANSWERED, Disposition.BUSY, Disposition.DECLINED)
FAILED, NO_ANSWER, REFUSED, UNREACHABLE = (
    Disposition.FAILED, Disposition.NO_ANSWER, Disposition.REFUSED, Disposition.UNREACHABLE)
CALLER, CALLEE, SWITCH = EndedBy.CALLER, EndedBy.CALLEE, EndedBy.SWITCH


class Plane(AnchoredPlane):
    """One whose sessions may not be had."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def open(self, call: str) -> AbstractAsyncContextManager[MediaSession]:
        return _no_ports() if self.full else super().open(call)


@asynccontextmanager
async def _no_ports() -> AsyncIterator[MediaSession]:
    raise MediaError("no ports left")
    yield


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.fixture
def office(plane: Plane):
    return faultless_office(media=plane)


def ends(
    disposition: Disposition, by: EndedBy, reason: EndReason, status: int, cause: int | None
) -> Callable[[Story], Story]:
    """The one record of this story."""
    def told(story: Story) -> Story:
        ENDS[story.__name__] = (disposition, by, reason, status, cause), story
        return story

    return told


async def rings(office: Office) -> tuple[PhoneCall, PhoneCall]:
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    return call, boris.calls[0]


async def talks(office: Office) -> tuple[PhoneCall, PhoneCall]:
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(10)
    return call, boris.calls[0]


async def goes_out(office: Office) -> PhoneCall:
    anna = await office.phone("101")
    call = anna.call(MARIA)
    await call.over.wait()
    return call


# -- the caller gives up


@ends(ABANDONED, CALLER, EndReason.CANCELLED, 487, 16)
async def cancel_before_the_phone_says_anything(office: Office) -> None:
    boris = await office.phone("102")
    boris.does = Dead()
    call = office.trunk.call(DID, as_=IVAN)
    await asyncio.sleep(0.2)
    call.hang_up()
    boris.does = Rings()
    await office.record()
    assert boris.calls[0].over.is_set()                 # it was told as soon as it had said that it rings


@ends(ABANDONED, CALLER, EndReason.CANCELLED, 487, 16)
async def cancel_while_it_rings(office: Office) -> None:
    call, _ = await rings(office)
    call.hang_up()


@ends(ABANDONED, CALLER, EndReason.CANCELLED, 487, 16)
async def cancel_while_the_crm_is_asked(office: Office) -> None:
    office.crm.delay = 1.0
    await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await asyncio.sleep(0.5)
    call.hang_up()


@ends(ABANDONED, CALLER, EndReason.CANCELLED, 487, 16)
async def cancel_that_crosses_the_200_of_the_phone(office: Office) -> None:
    call, mine = await rings(office)
    call.hang_up()
    mine.answer()
    await mine.over.wait()
    assert mine.ladder()[-4:] == ["200", "ACK", "BYE", "200"] or "487" in mine.ladder()


@ends(ANSWERED, CALLER, EndReason.HUNG_UP, 200, None)
async def cancel_that_crosses_our_200(office: Office) -> None:
    call, mine = await rings(office)
    mine.answer()
    await asyncio.sleep(0.003)
    call.hang_up()
    await mine.over.wait()


@ends(ABANDONED, CALLER, EndReason.HUNG_UP, 487, 16)
async def bye_before_the_answer(office: Office) -> None:
    """As a caller may, too (RFC 3261 §15)."""
    boris = await office.phone("102", Rings())
    office.trunk.close()
    operator = Rogue("operator", office.network, OPERATOR, SERVER)
    operator.call(DID, IVAN, sdp_of(operator.here))
    await (await boris.was_called()).rang.wait()
    await asyncio.sleep(1)
    operator.ask("BYE", b"")
    await boris.calls[0].over.wait()


# -- nobody answers


@ends(NO_ANSWER, SWITCH, EndReason.NOBODY_ANSWERED, 480, 18)
async def rings_in_vain(office: Office) -> None:
    await rings(office)


@ends(UNREACHABLE, SWITCH, EndReason.NOTHING_TO_RING, 480, 18)
async def nobody_is_registered(office: Office) -> None:
    office.trunk.call(DID, as_=IVAN)


@ends(UNREACHABLE, SWITCH, EndReason.NO_RESPONSE, 408, 102)
async def a_trunk_that_is_silent(office: Office) -> None:
    office.trunk.does = Dead()
    await goes_out(office)


@ends(FAILED, SWITCH, EndReason.TRANSPORT_FAILED, 500, 41)
async def a_trunk_whose_program_is_gone(office: Office) -> None:
    office.trunk.close()
    await goes_out(office)


def _refusals() -> None:
    """Of the trunk; what the caller is told of it is another row each."""
    for status, end in {
        302: (NO_ANSWER, SWITCH, EndReason.NOTHING_TO_RING, 480, 18),
        401: (FAILED, CALLEE, EndReason.REJECTED, 500, 41),
        404: (UNREACHABLE, CALLEE, EndReason.REJECTED, 404, 1),
        408: (UNREACHABLE, SWITCH, EndReason.NO_RESPONSE, 408, 102),
        415: (FAILED, CALLEE, EndReason.NO_COMMON_CODEC, 488, 31),
        480: (NO_ANSWER, CALLEE, EndReason.REJECTED, 480, 18),
        484: (FAILED, CALLEE, EndReason.REJECTED, 484, 28),
        486: (BUSY, CALLEE, EndReason.REJECTED, 486, 17),
        488: (FAILED, CALLEE, EndReason.NO_COMMON_CODEC, 488, 31),
        499: (FAILED, CALLEE, EndReason.REJECTED, 499, None),
        500: (FAILED, CALLEE, EndReason.REJECTED, 500, 41),
        503: (FAILED, CALLEE, EndReason.REJECTED, 500, 41),
        504: (FAILED, CALLEE, EndReason.REJECTED, 504, 102),
        600: (BUSY, CALLEE, EndReason.REJECTED, 600, 17),
        603: (DECLINED, CALLEE, EndReason.REJECTED, 603, 21),
        606: (FAILED, CALLEE, EndReason.NO_COMMON_CODEC, 606, 31),
    }.items():
        async def refused(office: Office, status: int = status, told: int = end[3]) -> None:
            office.trunk.does = Rejects(status)
            assert (await goes_out(office)).status == told

        ENDS[f"refused_with_{status}"] = end, refused


_refusals()


@ends(FAILED, SWITCH, EndReason.PROTOCOL_ERROR, 500, 41)
async def an_answer_without_a_session_description(office: Office) -> None:
    office.trunk.close()
    operator = Rogue("operator", office.network, OPERATOR, SERVER)
    anna = await office.phone("101")
    call = anna.call(MARIA)
    await asyncio.sleep(1)
    operator.respond(200, 1, b"")
    await call.over.wait()


# -- the switch says no


@ends(REFUSED, SWITCH, EndReason.NOT_ALLOWED, 404, 1)
async def a_number_that_is_none(office: Office) -> None:
    anna = await office.phone("101")
    anna.call("nobody")


@ends(UNREACHABLE, SWITCH, EndReason.NOTHING_TO_RING, 404, 1)
async def a_number_of_ours_that_is_nobodys(office: Office) -> None:
    office.trunk.call("+74959999999", as_=IVAN)


@ends(REFUSED, SWITCH, EndReason.LIMIT_REACHED, 503, 41)
async def too_many_calls(office: Office) -> None:
    office.change(clients=(replace(office.books.directory.clients[0], max_calls=0),))
    await office.pbx.settings_changed()
    office.trunk.call(DID, as_=IVAN)


@ends(REFUSED, SWITCH, EndReason.LIMIT_REACHED, 403, 21)
async def a_prefix_that_is_refused(office: Office) -> None:
    limits = (PrefixLimit("+7926", refused=True),)
    office.change(clients=(replace(office.books.directory.clients[0], limits=limits),))
    await office.pbx.settings_changed()
    await goes_out(office)


@ends(REFUSED, SWITCH, EndReason.NO_COMMON_CODEC, 400, 41)
async def an_offer_that_is_junk(office: Office) -> None:
    await office.phone("102")
    office.trunk.close()
    Rogue("operator", office.network, OPERATOR, SERVER).call(DID, IVAN, b"v=0 junk")


@ends(REFUSED, SWITCH, EndReason.NO_COMMON_CODEC, 488, 31)
async def an_offer_without_audio(office: Office) -> None:
    await office.phone("102")
    office.trunk.close()
    operator = Rogue("operator", office.network, OPERATOR, SERVER)
    operator.call(DID, IVAN, sdp_of(operator.here).replace(b"RTP/AVP", b"RTP/SAVP"))


# -- it was answered


@ends(UNREACHABLE, SWITCH, EndReason.ANNOUNCED, 200, 16)
async def an_announcement_that_is_heard_to_its_end(office: Office) -> None:
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="announcement:busy"),))
    await office.pbx.settings_changed()
    office.trunk.call(DID, as_=IVAN)


@ends(ANSWERED, CALLER, EndReason.HUNG_UP, 200, None)
async def bye_of_the_caller(office: Office) -> None:
    call, mine = await talks(office)
    call.hang_up()
    await mine.over.wait()


@ends(ANSWERED, CALLEE, EndReason.HUNG_UP, 200, None)
async def bye_of_the_callee(office: Office) -> None:
    call, mine = await talks(office)
    mine.hang_up()
    await call.over.wait()


@ends(ANSWERED, CALLER, EndReason.HUNG_UP, 200, None)
async def bye_of_both_at_once(office: Office) -> None:
    """The first one to arrive counts."""
    call, mine = await talks(office)
    call.hang_up()
    mine.hang_up()
    await office.record()
    assert call.ladder()[-2:] == mine.ladder()[-2:] == ["BYE", "200"]


@ends(ANSWERED, CALLER, EndReason.HUNG_UP, 200, None)
async def bye_that_crosses_ours(office: Office) -> None:
    """Each gets its 200 (RFC 5407 §3.1)."""
    call, mine = await talks(office)
    call.hang_up()
    await asyncio.sleep(0.003)
    mine.hang_up()
    await office.record()
    assert call.ladder()[-2:] == ["BYE", "200"]
    assert sorted(mine.ladder()[-4:]) == ["200", "200", "BYE", "BYE"]


@ends(ANSWERED, CALLER, EndReason.HUNG_UP, 200, None)
async def a_bye_that_is_lost(office: Office) -> None:
    call, mine = await talks(office)
    office.network.lose(lambda data, flow: data.startswith(b"BYE"), times=4)
    call.hang_up()
    await mine.over.wait()


@ends(ANSWERED, CALLER, EndReason.HUNG_UP, 200, None)
async def a_bye_that_nobody_hears(office: Office) -> None:
    call, mine = await talks(office)
    mine.phone.does = Dead()
    call.hang_up()


@ends(ANSWERED, SWITCH, EndReason.NO_ACK, 200, None)
async def an_ack_that_never_comes(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    office.network.lose(lambda data, flow: data.startswith(b"ACK") and flow.local == OPERATOR, times=100)
    call = office.trunk.call(DID, as_=IVAN)
    await (await boris.was_called()).answered.wait()
    began = asyncio.get_running_loop().time()
    await office.record()
    to_the_trunk = [sent for sent in office.network.log if sent.target == OPERATOR and sent.at >= began]
    assert sum(sent.data.startswith(b"SIP/2.0 200") for sent in to_the_trunk) == 11     # RFC 3261 §13.3.1.4
    bye = next(sent for sent in to_the_trunk if sent.data.startswith(b"BYE"))
    assert bye.at - began == pytest.approx(32, abs=0.1)
    assert b'Reason: SIP;cause=408;text="No ACK"' in bye.data
    assert call.over.is_set()
    assert boris.calls[0].over.is_set()


@ends(ANSWERED, SWITCH, EndReason.SESSION_EXPIRED, 200, None)
async def a_caller_that_refreshes_no_more(office: Office) -> None:
    boris = await office.phone("102")
    office.trunk.close()
    timer = CoreConfig(session_timer=SessionTimerPolicy(expires=180, ask=True))
    operator = Phone("operator", SERVER, seed=9, config=timer).on(office.network, OPERATOR)
    office._phones["timer"] = operator
    call = operator.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(10)
    operator.close()
    await boris.calls[0].over.wait()


@ends(ANSWERED, CALLEE, EndReason.DIALOG_GONE, 200, None)
async def a_phone_whose_network_is_gone(office: Office) -> None:
    """It shows as soon as something is asked there: a hold of the other side."""
    call, mine = await talks(office)
    mine.phone.does = Dead()
    call.offer("sendonly")
    await call.over.wait()


@ends(ANSWERED, CALLER, EndReason.DIALOG_GONE, 200, None)
async def a_trunk_that_has_started_anew(office: Office) -> None:
    """It answers 481 to whatever is asked in a call of before."""
    _, mine = await talks(office)
    office.trunk.close()
    fresh = Phone("operator", SERVER, seed=77).on(office.network, OPERATOR)
    office._phones["fresh"] = fresh
    mine.offer("sendonly")
    await mine.over.wait()


@ends(ANSWERED, CALLER, EndReason.TRANSPORT_FAILED, 200, None)
async def a_trunk_whose_program_has_ended(office: Office) -> None:
    _, mine = await talks(office)
    office.trunk.close()
    mine.offer("sendonly")
    await mine.over.wait()


@ends(ANSWERED, SWITCH, EndReason.MEDIA_TIMEOUT, 200, None)
async def no_audio_for_too_long(office: Office) -> None:
    call, mine = await talks(office)
    plane = office.pbx.media
    assert isinstance(plane, Plane)
    plane.sessions[0].relay_is_gone()
    await mine.over.wait()
    await call.over.wait()


@ends(FAILED, SWITCH, EndReason.FAULT, 503, 41)
async def no_media_to_be_had(office: Office) -> None:
    plane = office.pbx.media
    assert isinstance(plane, Plane)
    plane.full = True
    await office.phone("102")
    office.trunk.call(DID, as_=IVAN)


@ends(ANSWERED, SWITCH, EndReason.SHUTDOWN, 200, None)
async def a_shutdown_while_they_talk(office: Office) -> None:
    call, mine = await talks(office)
    await office.pbx.drain(0)
    await call.over.wait()
    await mine.over.wait()


@ends(FAILED, SWITCH, EndReason.SHUTDOWN, 503, 41)
async def a_shutdown_while_it_rings(office: Office) -> None:
    call, mine = await rings(office)
    await office.pbx.drain(0)
    await call.over.wait()
    await mine.over.wait()
    assert call.status == 503


@pytest.mark.parametrize("name", ENDS)
async def test_an_end_is_told_by_the_record(office: Office, name: str) -> None:
    end, story = ENDS[name]
    await story(office)
    record = await office.record()
    assert (record.disposition, record.ended_by, record.reason, record.status, record.cause) == end
    assert record.status in final_to_the_caller(office)
    await office.all_quiet()


def final_to_the_caller(office: Office) -> set[int]:
    """The final responses that went to the first one who sent an INVITE; challenges are none of its call's."""
    sent = [(one, parse(one.data)) for one in office.network.log]
    caller = next(one.source for one, message in sent if isinstance(message, Request) and message.method == "INVITE")
    answers = (message for one, message in sent if one.target == caller and isinstance(message, Response))
    return {answer.status for answer in answers if answer.status >= 200 and answer.cseq.method == "INVITE"} - {401}


def test_the_set_is_closed() -> None:
    """What is told of no call here has its tests elsewhere."""
    told = {end[2] for end, _ in ENDS.values()}
    assert set(EndReason) - told == {EndReason.TRANSFERRED, EndReason.RESTARTED, EndReason.ENGAGED}
    assert {end[0] for end, _ in ENDS.values()} == set(Disposition)
    assert {end[1] for end, _ in ENDS.values()} == set(EndedBy)
