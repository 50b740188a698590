"""What `smartswitch trace` tells of whole calls: every message of every leg, and what was decided between them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

from b2bua.calls import ladder_keeper
from b2bua.calls.ladder import Line, from_plain, story, unpack
from b2bua.cdr import CallId, CallRecord, Direction
from b2bua.sip.effects import Address, Transport
from b2bua.store.call_traces import CallTrace
from b2bua.store.engine import StoreUnavailable
from b2bua.store.row_writer import RowsRefused
from b2bua.ua.ladders import FIRST, LAST, MAX_LONE
from tests.scenario.test_attended_transfer import from_outside, to
from tests.support.anchored import AnchoredPlane
from tests.support.office import DID, IVAN, MARIA, OPERATOR, PASSWORD, Office
from tests.support.phone import Answers, Dead, Rings
from tests.support.stranger import message

CODECS = "PCMA, PCMU, telephone-event; audio"

ANSWERED = """\
0.000  <- trunk operator at 10.0.1.1:5060  INVITE (CSeq 1): AUDIO 10.0.1.1:40000
0.000  -> trunk operator at 10.0.1.1:5060  100 Trying (CSeq 1 INVITE)
0.000     the CRM knows +79161234567 as Иван Петров
0.000     Иван Петров has no responsible user
0.000     +74951112233 goes to 102
0.000  -> phone 102 at 10.0.2.102:5060  INVITE (CSeq 1): AUDIO 10.0.0.1:20006
0.004  <- phone 102 at 10.0.2.102:5060  100 Trying (CSeq 1 INVITE)
0.004  <- phone 102 at 10.0.2.102:5060  180 Ringing (CSeq 1 INVITE)
0.004     it rings
0.004  -> trunk operator at 10.0.1.1:5060  180 Ringing (CSeq 1 INVITE)
0.004     the CRM shows user 78 the pop-up
2.004  <- phone 102 at 10.0.2.102:5060  200 OK (CSeq 1 INVITE): AUDIO 10.0.2.102:40000
2.004     answered
2.004  -> phone 102 at 10.0.2.102:5060  ACK (CSeq 1)
2.004  -> trunk operator at 10.0.1.1:5060  200 OK (CSeq 1 INVITE): AUDIO 10.0.0.1:20004
2.008  <- trunk operator at 10.0.1.1:5060  ACK (CSeq 1)
7.008  <- trunk operator at 10.0.1.1:5060  BYE (CSeq 2)
7.008     ended by caller: hung up (answered, 200, 5 s of talk)
7.008  -> trunk operator at 10.0.1.1:5060  200 OK (CSeq 2 BYE)
7.008  -> phone 102 at 10.0.2.102:5060  BYE (CSeq 2)
7.012  <- phone 102 at 10.0.2.102:5060  200 OK (CSeq 2 BYE)
"""

CANCELLED = """\
0.000  <- trunk operator at 10.0.1.1:5060  INVITE (CSeq 1): AUDIO 10.0.1.1:40000
0.000  -> trunk operator at 10.0.1.1:5060  100 Trying (CSeq 1 INVITE)
0.000     the CRM gave no contact for +79161234567
0.000     +74951112233 goes to 102
0.000  -> phone 102 at 10.0.2.102:5060  INVITE (CSeq 1): AUDIO 10.0.0.1:20006
0.004  <- phone 102 at 10.0.2.102:5060  100 Trying (CSeq 1 INVITE)
0.004  <- phone 102 at 10.0.2.102:5060  180 Ringing (CSeq 1 INVITE)
0.004     it rings
0.004  -> trunk operator at 10.0.1.1:5060  180 Ringing (CSeq 1 INVITE)
0.004     the CRM shows user 78 the pop-up
3.008  <- trunk operator at 10.0.1.1:5060  CANCEL (CSeq 1)
3.008     ended by caller: cancelled (abandoned, 487, cause 16)
3.008  -> trunk operator at 10.0.1.1:5060  200 OK (CSeq 1 CANCEL)
3.008  -> trunk operator at 10.0.1.1:5060  487 Request Terminated (CSeq 1 INVITE)
3.008  -> phone 102 at 10.0.2.102:5060  CANCEL (CSeq 1)
3.012  <- trunk operator at 10.0.1.1:5060  ACK (CSeq 1)
3.012  <- phone 102 at 10.0.2.102:5060  200 OK (CSeq 1 CANCEL)
3.012  <- phone 102 at 10.0.2.102:5060  487 Request Terminated (CSeq 1 INVITE)
3.012  -> phone 102 at 10.0.2.102:5060  ACK (CSeq 1)
"""

TRANSFERRED = """\
0.000  <- trunk operator at 10.0.1.1:5060  INVITE (CSeq 1): AUDIO 10.0.1.1:40000
0.000  -> trunk operator at 10.0.1.1:5060  100 Trying (CSeq 1 INVITE)
0.000     the CRM gave no contact for +79161234567
0.000     +74951112233 goes to 102
0.000  -> phone 102 at 10.0.2.102:5060  INVITE (CSeq 1): AUDIO 10.0.0.1:20006
0.004  <- phone 102 at 10.0.2.102:5060  100 Trying (CSeq 1 INVITE)
0.004  <- phone 102 at 10.0.2.102:5060  180 Ringing (CSeq 1 INVITE)
0.004     it rings
0.004  -> trunk operator at 10.0.1.1:5060  180 Ringing (CSeq 1 INVITE)
0.004     the CRM shows user 78 the pop-up
1.004  <- phone 102 at 10.0.2.102:5060  200 OK (CSeq 1 INVITE): AUDIO 10.0.2.102:40000
1.004     answered
1.004  -> phone 102 at 10.0.2.102:5060  ACK (CSeq 1)
1.004  -> trunk operator at 10.0.1.1:5060  200 OK (CSeq 1 INVITE): AUDIO 10.0.0.1:20004
1.008  <- trunk operator at 10.0.1.1:5060  ACK (CSeq 1)
4.008  <- phone 102 at 10.0.2.102:5060  INVITE (CSeq 1): AUDIO 10.0.2.102:40000; hold (sendonly)
4.008  -> phone 102 at 10.0.2.102:5060  100 Trying (CSeq 1 INVITE)
4.008  -> trunk operator at 10.0.1.1:5060  INVITE (CSeq 1): AUDIO 10.0.0.1:20004; hold (sendonly)
4.012  <- trunk operator at 10.0.1.1:5060  100 Trying (CSeq 1 INVITE)
4.012  <- trunk operator at 10.0.1.1:5060  200 OK (CSeq 1 INVITE): AUDIO 10.0.1.1:40000; recvonly
4.012  -> trunk operator at 10.0.1.1:5060  ACK (CSeq 1)
4.012  -> phone 102 at 10.0.2.102:5060  200 OK (CSeq 1 INVITE): AUDIO 10.0.0.1:20006; recvonly
4.016  <- phone 102 at 10.0.2.102:5060  ACK (CSeq 1)
9.020  <- phone 102 at 10.0.2.102:5060  REFER (CSeq 2)
9.020     102 joins +79161234567 and 103
9.020  -> phone 102 at 10.0.2.102:5060  202 Accepted (CSeq 2 REFER)
9.020  -> phone 102 at 10.0.2.102:5060  NOTIFY (CSeq 2)
9.020  -> phone 103 at 10.0.2.103:5060  INVITE (CSeq 2)
9.024  <- phone 102 at 10.0.2.102:5060  200 OK (CSeq 2 NOTIFY)
9.024  <- phone 103 at 10.0.2.103:5060  100 Trying (CSeq 2 INVITE)
9.024  <- phone 103 at 10.0.2.103:5060  200 OK (CSeq 2 INVITE): AUDIO 10.0.2.103:40000
9.024  -> trunk operator at 10.0.1.1:5060  INVITE (CSeq 2): AUDIO 10.0.0.1:20004
9.028  <- trunk operator at 10.0.1.1:5060  100 Trying (CSeq 2 INVITE)
9.028  <- trunk operator at 10.0.1.1:5060  200 OK (CSeq 2 INVITE): AUDIO 10.0.1.1:40000
9.028     102 has handed +79161234567 over to 103
9.028  -> trunk operator at 10.0.1.1:5060  ACK (CSeq 2)
9.028  -> phone 103 at 10.0.2.103:5060  ACK (CSeq 2): AUDIO 10.0.0.1:20006
9.028  -> phone 102 at 10.0.2.102:5060  NOTIFY (CSeq 3)
9.032  <- phone 102 at 10.0.2.102:5060  200 OK (CSeq 3 NOTIFY)
13.028  -> phone 102 at 10.0.2.102:5060  BYE (CSeq 4)
13.032  <- phone 102 at 10.0.2.102:5060  200 OK (CSeq 4 BYE)
19.020  <- phone 103 at 10.0.2.103:5060  BYE (CSeq 1)
19.020     ended by callee: hung up (answered, 200, 18 s of talk)
19.020  -> phone 103 at 10.0.2.103:5060  200 OK (CSeq 1 BYE)
19.020  -> trunk operator at 10.0.1.1:5060  BYE (CSeq 3)
19.024  <- trunk operator at 10.0.1.1:5060  200 OK (CSeq 3 BYE)
"""

CONSULTATION = """\
-0.004  <- phone 102 at 10.0.2.102:5060  INVITE (CSeq 1)
-0.004  -> phone 102 at 10.0.2.102:5060  401 Unauthorized (CSeq 1 INVITE)
0.000  <- phone 102 at 10.0.2.102:5060  ACK (CSeq 1)
0.000  <- phone 102 at 10.0.2.102:5060  INVITE (CSeq 2): AUDIO 10.0.2.102:40000
0.000  -> phone 102 at 10.0.2.102:5060  100 Trying (CSeq 2 INVITE)
0.000     102 dialled 103
0.000  -> phone 103 at 10.0.2.103:5060  INVITE (CSeq 1): AUDIO 10.0.0.1:20010
0.004  <- phone 103 at 10.0.2.103:5060  100 Trying (CSeq 1 INVITE)
0.004  <- phone 103 at 10.0.2.103:5060  180 Ringing (CSeq 1 INVITE)
0.004     it rings
0.004  -> phone 102 at 10.0.2.102:5060  180 Ringing (CSeq 2 INVITE)
1.004  <- phone 103 at 10.0.2.103:5060  200 OK (CSeq 1 INVITE): AUDIO 10.0.2.103:40000
1.004     answered
1.004  -> phone 103 at 10.0.2.103:5060  ACK (CSeq 1)
1.004  -> phone 102 at 10.0.2.102:5060  200 OK (CSeq 2 INVITE): AUDIO 10.0.0.1:20008
1.008  <- phone 102 at 10.0.2.102:5060  ACK (CSeq 2)
4.008     102 joins +79161234567 and 103
4.008     ended by caller: transferred (answered, 200, 3 s of talk)
4.008  -> phone 102 at 10.0.2.102:5060  BYE (CSeq 1)
4.012  <- phone 102 at 10.0.2.102:5060  200 OK (CSeq 1 BYE)
"""

CHALLENGED = """\
-0.004  <- phone 101 at 10.0.2.101:5060  INVITE (CSeq 1)
-0.004  -> phone 101 at 10.0.2.101:5060  401 Unauthorized (CSeq 1 INVITE)
0.000  <- phone 101 at 10.0.2.101:5060  ACK (CSeq 1)
0.000  <- phone 101 at 10.0.2.101:5060  INVITE (CSeq 2): AUDIO 10.0.2.101:40000
0.000  -> phone 101 at 10.0.2.101:5060  100 Trying (CSeq 2 INVITE)
0.000     101 dialled 102
"""


def told(office: Office, record: CallRecord) -> str:
    """As the command prints it, without its margin."""
    text = "\n".join(str(line).strip() for line in lines(office, record.id, record))
    return text.replace(CODECS, "AUDIO") + "\n"


def lines(office: Office, call: CallId, record: CallRecord) -> Sequence[Line]:
    return story(record, unpack(office.traces.kept[call].steps), is_over=True)


async def kept(office: Office, count: int = 1) -> CallRecord:
    """The last record, once so many ladders are kept."""
    record = await office.record(count)
    await asyncio.sleep(10)
    assert len(office.traces.kept) == count
    return record


async def answered(office: Office) -> None:
    """Ivan calls, and talks with 102 for five seconds."""
    await office.phone("102", Answers(after=2.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(5)
    call.hang_up()


# -- what is in it


async def test_an_inbound_call_from_its_invite_to_the_answer_to_its_bye(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров")
    await answered(office)
    assert told(office, await kept(office)) == ANSWERED


async def test_a_cancelled_one(office: Office) -> None:
    await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    await asyncio.sleep(3)
    call.hang_up()
    assert told(office, await kept(office)) == CANCELLED


async def test_an_attended_transfer(office: Office, plane: AnchoredPlane) -> None:
    """The leg that moves is told in each of the two calls so long as it was that call's."""
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    _, first = await from_outside(office, boris, IVAN)
    second = await to(boris, "103")
    first.refer_to(second)
    await asyncio.sleep(10)
    vera.calls[0].hang_up()
    await kept(office, 2)
    by = {record.direction: record for record in office.books.records}
    assert told(office, by[Direction.INBOUND]) == TRANSFERRED
    assert told(office, by[Direction.INTERNAL]) == CONSULTATION
    await office.all_quiet()


async def test_the_challenge_of_a_phone_that_calls_comes_before_the_beginning(office: Office) -> None:
    anna = await office.phone("101")
    await office.phone("102", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    call.hang_up()
    assert told(office, await kept(office)).startswith(CHALLENGED)


async def test_what_is_said_again_is_told_again_even_after_the_end(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(5)
    boris.does = Dead()
    call.hang_up()
    text = told(office, await kept(office))
    assert text.count("-> phone 102 at 10.0.2.102:5060  BYE (CSeq 2) again") == 3
    assert text.index("ended by caller") < text.index("BYE (CSeq 2) again")


async def test_a_pop_up_that_is_not_shown_says_why(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def too_slow(_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(office.crm, "pop_up", too_slow)
    await answered(office)
    assert "2.004     pop-up not shown to user 78: too slow" in told(office, await kept(office))


async def test_the_trunks_servers_are_told_apart_by_their_addresses(office: Office) -> None:
    anna = await office.phone("101")
    call = anna.call(MARIA)
    await call.answered.wait()
    call.hang_up()
    text = told(office, await kept(office))
    assert f"-> trunk operator at {OPERATOR.host}:5060  INVITE (CSeq 1): AUDIO" in text
    assert PASSWORD not in text
    assert "Authorization" not in text


# -- limits


async def test_of_too_many_messages_the_first_and_the_last_are_kept(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    for number in range(30):
        await asyncio.sleep(1)
        boris.calls[0].offer("sendonly" if number % 2 else "sendrecv")
    await asyncio.sleep(1)
    call.hang_up()
    record = await kept(office)
    messages = unpack(office.traces.kept[record.id].steps)
    assert len(messages.steps) == FIRST + LAST
    assert messages.left_out > 0
    said = lines(office, record.id, record)
    assert sum(line.kind in ("in", "out", "happened") for line in said) == FIRST + LAST
    cut = next(place for place, line in enumerate(said) if line.kind == "left out")
    assert said[cut].text == f"… {messages.left_out} messages in between were not kept"
    assert "INVITE (CSeq 1)" in said[0].text
    assert "BYE" in said[-1].text
    times = [line.after for line in said if line.after is not None]
    assert all(one <= other for one, other in pairwise(times))


async def test_strangers_invites_fill_no_memory_and_make_no_ladder(office: Office) -> None:
    stranger = Address("10.9.9.9", 5060)
    flow = office.agent.flow_to(Transport.UDP, stranger)
    assert flow is not None
    for number in range(2 * MAX_LONE):
        office.agent.on_message(message("INVITE", stranger, call_id=f"strange-{number}"), flow)
    assert len(office.ladders) == 0
    assert office.ladders.lone == MAX_LONE
    await answered(office)
    assert told(office, await kept(office)).startswith("0.000  <- trunk operator")


# -- a call that is up, or has just ended


async def test_a_call_that_is_up_tells_what_was_said_until_now(office: Office) -> None:
    await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    (id_,) = (live.id for live in office.pbx.live_calls())
    assert office.pbx.calls_beginning_with(id_[:4]) == [id_]
    assert office.pbx.calls_beginning_with("x") == []
    traced = office.pbx.trace(id_)
    assert traced is not None
    assert not traced.is_over
    said = story(traced.record, from_plain(traced.messages), is_over=False)
    assert said[-1].text.startswith("trunk operator at 10.0.1.1:5060  200 OK")
    assert not any(line.kind == "ended" for line in said)
    call.hang_up()
    await office.record()
    traced = office.pbx.trace(id_)         # not written down yet
    assert traced is not None
    assert traced.is_over
    assert story(traced.record, from_plain(traced.messages), is_over=True)[-1].text.endswith("200 OK (CSeq 2 BYE)")
    await kept(office)
    assert office.pbx.trace(id_) is None
    assert office.pbx.calls_beginning_with(id_) == []


# -- while the database is away


async def test_ladders_wait_for_the_database_and_no_call_waits_for_them(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Sequence[CallTrace]) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(office.traces, "save", away)
        await answered(office)
        await office.record()
        await asyncio.sleep(30)
        assert (office.keeper.waiting, office.traces.kept) == (1, {})
    await kept(office)
    assert office.keeper.waiting == 0


async def test_what_finds_no_room_is_dropped_and_counted(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_keeper, "MAX_WAITING", 0)
    await answered(office)
    await office.record()
    await asyncio.sleep(10)
    assert (office.keeper.dropped, office.traces.kept, len(office.ladders)) == (1, {}, 0)


async def test_one_that_the_database_refuses_takes_no_other_with_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = office.traces.save

    async def refusing(traces: Sequence[CallTrace]) -> None:
        if any(one.started_at == office.books.records[0].started_at for one in traces):
            raise RowsRefused("no")
        await save(traces)

    monkeypatch.setattr(office.traces, "save", refusing)
    await office.phone("102", Rings())
    for _ in range(2):
        call = office.trunk.call(DID, as_=IVAN)
        await call.rang.wait()
        call.hang_up()
    await office.record(2)
    await asyncio.sleep(10)
    assert list(office.traces.kept) == [office.books.records[1].id]
    assert office.keeper.dropped == 1


async def test_the_end_of_the_process_leaves_none_unwritten(office: Office) -> None:
    await answered(office)
    await office.record()
    await office.keeper.finish()
    assert list(office.traces.kept) == [office.books.records[0].id]


async def test_a_silent_database_does_not_hold_up_the_end_of_the_process(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_: Sequence[CallTrace]) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(office.traces, "save", silent)
    await answered(office)
    await office.record()
    began = office.agent.now()
    await office.keeper.finish()
    assert office.agent.now() - began == ladder_keeper.LAST_SECONDS
    assert office.keeper.waiting == 1


async def test_with_nothing_noted_there_is_nothing_to_keep(office: Office) -> None:
    """`log.call_trace_days = 0`."""
    office.agent.ladders = None
    await answered(office)
    await office.record()
    await asyncio.sleep(10)
    assert (office.traces.kept, office.keeper.waiting) == ({}, 0)
