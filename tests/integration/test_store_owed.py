"""The outbox as people see it: of one call, page by page, hastened, dropped; on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from b2bua.cdr import CallId, ClientId
from b2bua.crm.port import Delivered, RecordingLink
from b2bua.crm.writes import from_json, key_of, keys_of_call, name_of
from b2bua.store.deliveries import OwedState
from b2bua.store.outbox import OutboxRows, Owed, Place
from b2bua.store.store import Store, open_store
from tests.support.amo_post import ACME, call_back, card, deal, fill_in, note, talked_to
from tests.support.records import record

BETA = ClientId("beta")
NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
LEASE = timedelta(minutes=2)


async def owe(store: Store, count: int, client: ClientId = ACME) -> None:
    for number in range(count):
        call, phone = f"{client}-{number}", f"+791600000{number:02}"
        await store.calls.finish(record(call, client=client), [note(call, phone, client=client)])


async def all_pages(rows: OutboxRows, state: OwedState, client: ClientId | None, limit: int) -> list[Owed]:
    found: list[Owed] = []
    after: Place | None = None
    while page := await rows.page_of(state, client, limit, after):
        found += page
        after = page[-1].place
    return found


def test_a_call_has_no_other_keys_than_those_that_are_looked_for() -> None:
    link = RecordingLink(CallId("c-1"), ACME, "+79160000001", NOW, "rec-1")
    writes = [*[make("c-1") for make in (card, deal, note, fill_in, call_back)], link, talked_to("c-1")]
    assert {key_of(write) for write in writes} == set(keys_of_call(CallId("c-1")))
    assert [name_of(write) for write in writes] == ["card", "deal", "note", "fill in", "call back", "recording link",
                                                    "talked to"]


async def test_a_call_says_what_became_of_all_that_it_owed(database_url: str) -> None:
    phone = "+79160000001"
    async with open_store(database_url) as store:
        await store.calls.finish(record("other"), [note("other", "+79169999999")])
        await store.calls.finish(record("theirs", client=BETA), [note("c-1", phone, client=BETA)])
        await store.calls.finish(record("c-1"), [card("c-1", phone), note("c-1", phone), call_back("c-1", phone)])
        for number in range(2):
            rows = await store.outbox.claim(ACME, NOW, NOW + LEASE, 10)
            row = next(row for row in rows if phone in row.payload)
            if number == 0:
                await store.outbox.done(row.id, Delivered("contact 9001", card="contacts/9001"), NOW)
            else:
                await store.outbox.set_aside(row.id, "400", NOW + LEASE)
        told = await store.outbox.of_call(ACME, CallId("c-1"))
        assert [(name_of(from_json(one.payload)), one.state, one.said, one.card, one.ended_at) for one in told] == [
            ("card", OwedState.DELIVERED, "contact 9001", "contacts/9001", NOW),
            ("note", OwedState.ASIDE, "400", "", NOW + LEASE),
            ("call back", OwedState.WAITING, "", "", None)]
        assert await store.outbox.get(told[1].id) == told[1]
        assert await store.outbox.get(999_999) is None
        await store.outbox.resend([told[1].id], NOW + LEASE)
        (again,) = [one for one in await store.outbox.of_call(ACME, CallId("c-1")) if one.id == told[1].id]
        assert (again.state, again.ended_at) == (OwedState.WAITING, None)


async def test_pages_go_client_by_client_and_miss_nothing(database_url: str) -> None:
    async with open_store(database_url) as store:
        await owe(store, 7)
        await owe(store, 5, BETA)
        rows = store.outbox
        for client in (ACME, BETA):
            for row in (await rows.claim(client, NOW, NOW + LEASE, 10))[:3]:
                await rows.set_aside(row.id, "400", NOW)
        for state, counts in ((OwedState.ASIDE, (3, 3)), (OwedState.WAITING, (4, 2))):
            found = await all_pages(rows, state, None, 2)
            assert [one.client for one in found] == [ACME] * counts[0] + [BETA] * counts[1]
            assert {one.state for one in found} == {state}
            assert await rows.ids_of(state, None, 100) == [one.id for one in found]
            assert await rows.ids_of(state, BETA, 100) == [one.id for one in await all_pages(rows, state, BETA, 1)]
            assert await rows.counted(state, None, 100) == sum(counts)
            assert await rows.counted(state, BETA, 2) == 2


async def test_only_what_is_not_on_its_way_is_hastened_or_dropped(database_url: str) -> None:
    async with open_store(database_url) as store:
        await owe(store, 3)
        under_way, far, farther = [row.id for row in await store.outbox.claim(ACME, NOW, NOW + LEASE, 3)]
        for row in (far, farther):
            await store.outbox.retry(row, NOW + timedelta(hours=3), "503")
        rows = [under_way, far, farther]
        assert await store.outbox.hasten_rows(rows, NOW, NOW + LEASE, BETA) == 0
        assert await store.outbox.hasten_rows([under_way, far], NOW, NOW + LEASE, ACME) == 1
        assert await store.outbox.drop(rows, "a test", NOW, BETA, NOW + LEASE) == 0
        assert await store.outbox.drop(rows, "a test", NOW, ACME) == 0
        assert await store.outbox.drop(rows, "a test", NOW, ACME, NOW + LEASE) == 1
        (dropped,) = await store.outbox.of_call(ACME, CallId("acme-2"))
        assert (dropped.state, dropped.said, dropped.ended_at) == (OwedState.DROPPED, "a test; before: 503", NOW)
        assert [row.id for row in await store.outbox.claim(ACME, NOW, NOW + LEASE, 5)] == [far]
