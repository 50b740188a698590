"""A card that is set aside holds what its call owes to it, until a person decides on the card."""

from __future__ import annotations

from datetime import timedelta

import pytest

from b2bua.cdr import ClientId
from b2bua.crm.port import CrmWrite, Delivered
from b2bua.crm.writes import OutboxRow, from_json, kind_of
from b2bua.store.outbox import Owed
from b2bua.store.store import Store, open_store
from tests.support.amo_post import ACME, NEW, call_back, card, deal, fill_in, note, talked_to
from tests.support.records import NOON, record

OTHER = "+79160000002"
LATER = NOON + timedelta(hours=1)
LEASE = LATER + timedelta(minutes=5)


@pytest.fixture(autouse=True)
def _house_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of today all of this was long ago."""
    monkeypatch.setattr("b2bua.store.store.KEEP_DELIVERED_DAYS", 36_500)


async def _owe(store: Store, call: str, *writes: CrmWrite) -> None:
    await store.calls.finish(record(call), writes)


async def _claim(store: Store) -> OutboxRow:
    (row,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
    return row


async def _goes_on(store: Store) -> list[tuple[str, str, int]]:
    """All that is delivered now, in its order: call, kind, tries."""
    delivered = []
    while rows := await store.outbox.claim(ACME, LATER, LEASE, 10):
        for row in rows:
            write = from_json(row.payload)
            delivered.append((str(write.call), kind_of(write), row.attempts))
            await store.outbox.done(row.id, Delivered("ok"), LATER)
    return delivered


def _waiting(rows: list[Owed]) -> dict[str, str]:
    return {kind_of(from_json(row.payload)): row.said for row in rows}


async def _with_its_card_aside(store: Store) -> OutboxRow:
    await _owe(store, "c1", card(), deal(), note(), fill_in(), talked_to("c1", NEW))
    row = await _claim(store)
    await store.outbox.set_aside(row.id, "400: bad name", LATER)
    return row


async def test_what_is_owed_to_the_card_waits_with_it_and_the_rest_goes_on(database_url: str) -> None:
    async with open_store(database_url) as store:
        row = await _with_its_card_aside(store)
        await _owe(store, "c2", card("c2"), note("c2"), call_back("c2", NEW))
        await _owe(store, "c3", card("c3", OTHER), note("c3", OTHER))
        waits = f"waits for its card, row {row.id}"
        assert _waiting(await store.outbox.aside(ACME, 10)) == {
            "card": "400: bad name", "deal": waits, "call note": waits, "task": waits}
        on = await _goes_on(store)
        assert [one for one in on if one[0] != "c3"] == [
            ("c1", "talked to", 1), ("c2", "card", 1), ("c2", "call note", 1), ("c2", "task", 1)]
        assert [one for one in on if one[0] == "c3"] == [("c3", "card", 1), ("c3", "call note", 1)]


async def test_a_card_that_is_resent_brings_them_back_behind_it(database_url: str) -> None:
    async with open_store(database_url) as store:
        row = await _with_its_card_aside(store)
        await _goes_on(store)
        assert await store.outbox.resend([row.id], LATER, ClientId("beta")) == 0
        assert await store.outbox.resend([row.id], LATER) == 1
        assert await _goes_on(store) == [
            ("c1", "card", 2), ("c1", "deal", 1), ("c1", "call note", 1), ("c1", "task", 1)]
        assert await store.outbox.aside(ACME, 10) == []


async def test_a_card_that_is_refused_once_more_takes_them_along_once_more(database_url: str) -> None:
    async with open_store(database_url) as store:
        row = await _with_its_card_aside(store)
        await _goes_on(store)
        await store.outbox.resend([row.id], LATER)
        again = await _claim(store)
        assert again.id == row.id
        await store.outbox.set_aside(row.id, "400: still", LATER)
        assert await _goes_on(store) == []
        assert len(await store.outbox.aside(ACME, 10)) == 4


async def test_without_the_card_that_is_dropped_they_are_tried_alone(database_url: str) -> None:
    async with open_store(database_url) as store:
        row = await _with_its_card_aside(store)
        await _goes_on(store)
        assert await store.outbox.drop([row.id, row.id + 1], "by root: a fax", LATER) == 2
        assert await _goes_on(store) == [("c1", "call note", 1), ("c1", "task", 1)]
        assert await store.outbox.resend([row.id, row.id + 1], LATER) == 0


async def test_a_note_that_a_person_sends_alone_is_left_alone_while_it_is_on_its_way(database_url: str) -> None:
    async with open_store(database_url) as store:
        row = await _with_its_card_aside(store)
        await _goes_on(store)
        (told,) = [one for one in await store.outbox.aside(ACME, 10) if kind_of(from_json(one.payload)) == "call note"]
        assert await store.outbox.resend([told.id], LATER) == 1
        assert (await _claim(store)).id == told.id
        await store.outbox.resend([row.id], LATER)
        assert (await _claim(store)).id == row.id
        await store.outbox.set_aside(row.id, "400: still", LATER)
        await store.outbox.done(told.id, Delivered("note 5"), LATER)
        assert set(_waiting(await store.outbox.aside(ACME, 10))) == {"card", "deal", "task"}
