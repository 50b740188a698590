"""What is owed to the CRM arrives: retries, order, other clients, recordings, restarts; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.crm import outbox as limits
from b2bua.crm.outbox import Outbox, RecordingState
from b2bua.crm.port import CallNote, Crm, CrmNoCard, CrmRejected, CrmUnauthorized, CrmUnavailable
from tests.support.fake_crm import FakeCrm
from tests.support.memory_outbox import MemoryOutbox, State

EPOCH = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ACME, BETA = ClientId("acme"), ClientId("beta")
DAY = 86_400.0


def wall() -> datetime:
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def note(call: str, phone: str = "+74951234567", client: ClientId = ACME, recording: str | None = None) -> CallNote:
    return CallNote(
        call=CallId(call), client=client, direction=Direction.INBOUND, phone=phone, started_at=EPOCH, talk_seconds=5,
        disposition=Disposition.ANSWERED, user=77, contact_name=None, did="+74951112233", recording=recording,
    )


class Post:
    """An outbox with its store and the CRMs of two clients."""

    def __init__(self) -> None:
        self.crms: dict[ClientId, FakeCrm] = {ACME: FakeCrm(), BETA: FakeCrm()}
        self.store = MemoryOutbox(wall)
        self.recordings: dict[str, RecordingState] = {}
        self.outbox = self.another()

    def another(self) -> Outbox:
        return Outbox(self.store, self._crm_of, wall, self._recording, random=Random(1))

    @property
    def crm(self) -> FakeCrm:
        return self.crms[ACME]

    @property
    def calls(self) -> list[str]:
        return [write.call for write in self.crm.delivered]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Post]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.outbox.run())
            yield self
            self.outbox.stop()

    def _crm_of(self, client: ClientId) -> Crm | None:
        return self.crms.get(client)

    async def _recording(self, recording: str) -> RecordingState:
        return self.recordings.get(recording, RecordingState.NEVER)


async def test_a_new_row_is_delivered_when_the_outbox_is_woken() -> None:
    async with Post().running() as post:
        await asyncio.sleep(100)
        post.store.add(note("1"))
        post.outbox.wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert post.calls == ["1"]
        assert post.store.rows[0].state is State.DONE
        assert post.store.rows[0].said == "note 1"
        assert post.crm.repeats == [False]


async def test_an_idle_outbox_hardly_asks_its_store() -> None:
    async with Post().running() as post:
        await asyncio.sleep(3_600)
        assert post.store.questions <= 3_600 / limits.SWEEP_SECONDS + 1


async def test_rows_of_another_process_are_found() -> None:
    async with Post().running() as post:
        await asyncio.sleep(1)
        post.store.add(note("1"))
        await asyncio.sleep(limits.SWEEP_SECONDS + 1)
        assert post.calls == ["1"]


async def test_an_hour_without_the_crm_delivers_everything_once_and_in_order() -> None:
    post = Post()
    post.crm.failure = CrmUnavailable("down")
    for number in range(30):
        post.store.add(note(str(number), phone=f"+7495{number % 5:07d}"))
    async with post.running():
        await asyncio.sleep(3_600)
        assert not post.calls
        assert post.crm.attempts < 200                     # no storm
        assert "down" in post.outbox.ill[ACME].why
        post.crm.failure = None
        await asyncio.sleep(limits.LONGEST_RETRY * 2)
        assert sorted(post.calls, key=int) == [str(number) for number in range(30)]
        for lane in range(5):
            of_lane = [int(call) for call in post.calls if int(call) % 5 == lane]
            assert of_lane == sorted(of_lane)
        assert not post.outbox.ill


async def test_a_repeat_is_said_to_be_one() -> None:
    post = Post()
    fates: list[Exception | None] = [CrmUnavailable("answer lost"), None]
    post.crm.fate_of = lambda write: fates.pop(0)
    post.store.add(note("1"))
    async with post.running():
        await asyncio.sleep(60)
    assert post.crm.repeats == [True]


async def test_a_row_is_given_up_only_after_three_days() -> None:
    post = Post()
    post.crm.failure = CrmUnavailable("down")
    post.store.add(note("1"))
    async with post.running():
        await asyncio.sleep(0.9 * DAY)
        row = post.store.rows[0]
        assert row.state is State.PENDING
    assert row.attempts > 50


async def test_after_three_days_it_is_set_aside_with_the_reason() -> None:
    post = Post()
    post.crm.failure = CrmUnavailable("still down")
    row = post.store.add(note("1"))
    row.created_at -= timedelta(hours=71)
    async with post.running():
        await asyncio.sleep(3_000)
        assert row.state is State.PENDING
        await asyncio.sleep(3_000)
        assert row.state is State.ASIDE
        assert "still down" in row.said
        assert post.outbox.counts.set_aside == 1


async def test_an_old_row_gets_its_tries_even_when_we_were_not_running_for_three_days() -> None:
    post = Post()
    post.crm.failure = CrmUnavailable("down")
    row = post.store.add(note("1"))
    row.created_at -= timedelta(days=7)
    async with post.running():
        await asyncio.sleep(1_000)
        assert row.state is State.PENDING
        post.crm.failure = None
        await asyncio.sleep(limits.LONGEST_RETRY * 1.3)
        assert row.state is State.DONE


async def test_a_refused_row_is_set_aside_and_the_next_of_its_number_follows() -> None:
    post = Post()
    post.crm.fate_of = lambda write: CrmRejected("400: bad phone") if write.call == "1" else None
    first, _ = post.store.add(note("1")), post.store.add(note("2"))
    async with post.running():
        await asyncio.sleep(1)
    assert first.state is State.ASIDE
    assert first.said == "400: bad phone"
    assert post.calls == ["2"]


async def test_a_number_without_a_card_is_done() -> None:
    post = Post()
    post.crm.failure = CrmNoCard("nobody")
    row = post.store.add(note("1"))
    async with post.running():
        await asyncio.sleep(1)
    assert (row.state, row.said) == (State.DONE, "no card")
    assert post.outbox.counts.without_card == 1


async def test_a_failing_row_holds_up_its_number_and_no_other() -> None:
    post = Post()
    post.crm.fate_of = lambda write: CrmUnavailable("504") if write.call == "1" else None
    post.store.add(note("1"))
    post.store.add(note("2"))
    post.store.add(note("3", phone="+74950000000"))
    async with post.running():
        await asyncio.sleep(120)
    assert post.calls == ["3"]


async def test_one_clients_slow_crm_does_not_hold_up_another() -> None:
    post = Post()
    post.crm.answers_after = 60
    for number in range(20):
        post.store.add(note(str(number), phone=f"+7495000{number:04d}"))
    post.store.add(note("other", client=BETA))
    async with post.running():
        await asyncio.sleep(1)
        assert [write.call for write in post.crms[BETA].delivered] == ["other"]


async def test_an_unauthorized_account_is_tried_rarely_and_comes_back() -> None:
    post = Post()
    post.crm.failure = CrmUnauthorized("token revoked")
    for number in range(10):
        post.store.add(note(str(number), phone=f"+7495000000{number}"))
    async with post.running():
        await asyncio.sleep(0.9 * DAY)
        assert post.crm.attempts <= 0.9 * DAY / limits.UNAUTHORIZED_RETRY * limits.AT_ONCE + 2
        assert (post.outbox.ill[ACME].why, post.outbox.ill[ACME].needs_a_person) == ("token revoked", True)
        post.crm.failure = None
        await asyncio.sleep(2 * limits.UNAUTHORIZED_RETRY)
        assert len(post.calls) == 10


async def test_the_crms_own_pause_is_kept() -> None:
    post = Post()
    post.crm.failure = CrmUnavailable("429", retry_after=300)
    post.store.add(note("1"))
    post.store.add(note("2", phone="+74950000000"))
    async with post.running():
        await asyncio.sleep(299)
        assert post.crm.attempts == 2
        post.crm.failure = None
        await asyncio.sleep(120)
        assert len(post.calls) == 2


async def test_a_delivery_that_never_ends_is_ended() -> None:
    post = Post()
    post.crm.answers_after = 10_000
    row = post.store.add(note("1"))
    async with post.running():
        await asyncio.sleep(limits.DELIVERY_SECONDS + 1)
        assert "TimeoutError" in row.said
        post.crm.answers_after = 0
        await asyncio.sleep(60)
        assert row.state is State.DONE


async def test_unreadable_rows_and_rows_of_gone_clients_are_set_aside() -> None:
    post = Post()
    garbage = post.store.add_payload(ACME, "x", "x", "{}")
    gone = post.store.add(note("1", client=ClientId("gone")))
    async with post.running():
        await asyncio.sleep(1)
    assert garbage.state is gone.state is State.ASIDE
    assert "unreadable" in garbage.said
    assert "no CRM" in gone.said


async def test_our_own_fault_is_tried_some_times_and_then_shown() -> None:
    post = Post()
    post.crm.fate_of = lambda write: ZeroDivisionError("ours") if write.call == "1" else None
    faulty, _ = post.store.add(note("1")), post.store.add(note("2", phone="+74950000000"))
    async with post.running():
        await asyncio.sleep(7_200)
    assert faulty.state is State.ASIDE
    assert faulty.attempts == limits.MOST_FAULTS
    assert "ZeroDivisionError" in faulty.said
    assert post.calls == ["2"]


async def test_a_note_waits_for_its_recording() -> None:
    post = Post()
    post.recordings["rec"] = RecordingState.PENDING
    row = post.store.add(note("1", recording="rec"))
    async with post.running():
        await asyncio.sleep(7)
        assert not post.calls
        post.recordings["rec"] = RecordingState.READY
        post.outbox.recording_finished("rec")
        await asyncio.sleep(0.1)
        assert post.crm.delivered == [note("1", recording="rec")]
        assert post.crm.repeats == [False]                 # waiting was no attempt
        assert row.attempts == 1


async def test_a_recording_that_comes_while_its_note_is_put_off_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    post = Post()
    post.recordings["rec"] = RecordingState.PENDING
    post.store.add(note("1", recording="rec"))
    release = type(post.store).release

    async def slowly(self: object, row: int, at: datetime) -> None:
        post.recordings["rec"] = RecordingState.READY
        post.outbox.recording_finished("rec")
        await asyncio.sleep(0.1)
        await release(post.store, row, at)

    monkeypatch.setattr(type(post.store), "release", slowly)
    async with post.running():
        await asyncio.sleep(1)
        assert post.calls == ["1"]


async def test_a_recording_whose_end_nobody_tells_is_found_all_the_same() -> None:
    post = Post()
    post.recordings["rec"] = RecordingState.PENDING
    post.store.add(note("1", recording="rec"))
    async with post.running():
        await asyncio.sleep(7)
        post.recordings["rec"] = RecordingState.READY
        await asyncio.sleep(limits.RECORDING_RECHECK)
        assert post.calls == ["1"]


@pytest.mark.parametrize(("state", "seconds"), [(RecordingState.PENDING, 600.0), (RecordingState.NEVER, 0.0)])
async def test_a_recording_that_does_not_come_is_left_out(state: RecordingState, seconds: float) -> None:
    post = Post()
    post.recordings["rec"] = state
    post.store.add(note("1", recording="rec"))
    async with post.running():
        await asyncio.sleep(limits.RECORDING_CAP.total_seconds() + 60)
    assert post.crm.delivered == [replace(note("1"), recording=None)]
    assert post.crm.delivered_at[0] == pytest.approx(seconds, abs=1)


async def test_stopping_finishes_what_is_under_way() -> None:
    post = Post()
    post.crm.answers_after = 5
    post.store.add(note("1"))
    post.store.add(note("2"))
    async with post.running():
        await asyncio.sleep(1)
    assert post.calls == ["1"]
    assert [row.state for row in post.store.rows] == [State.DONE, State.PENDING]


async def test_what_a_killed_process_had_in_hand_comes_back_as_a_repeat() -> None:
    post = Post()
    post.crm.answers_after = 5
    post.store.add(note("1"))
    async with asyncio.TaskGroup() as tasks:
        killed = tasks.create_task(post.outbox.run())
        await asyncio.sleep(1)
        killed.cancel()
    post.outbox = post.another()
    async with post.running():
        await asyncio.sleep(limits.LEASE.total_seconds() + 10)
    assert post.calls == ["1"]
    assert post.crm.repeats == [True]


async def test_two_processes_deliver_each_row_once() -> None:
    post = Post()
    post.crm.answers_after = 0.2
    for number in range(20):
        post.store.add(note(str(number), phone=f"+7495000{number:04d}"))
    second = post.another()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(second.run())
        async with post.running():
            await asyncio.sleep(120)
        second.stop()
    assert sorted(post.calls, key=int) == [str(number) for number in range(20)]


async def test_a_database_that_is_away_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    post = Post()
    post.store.add(note("1"))

    async def away(*_: object) -> dict[ClientId, datetime]:
        raise ConnectionError("no database")

    with monkeypatch.context() as patch:
        patch.setattr(post.store, "agenda", away)
        async with post.running():
            await asyncio.sleep(60)
            assert not post.calls
            patch.undo()
            await asyncio.sleep(limits.STORE_REST + 1)
            assert post.calls == ["1"]
