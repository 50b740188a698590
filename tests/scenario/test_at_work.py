"""One client in numbers, for the pages."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.cdr import ClientId
from b2bua.control import AtWork
from b2bua.directory import Directory, Trunk
from tests.support.office import ACME, Office, open_office


@pytest.fixture
def office():
    return open_office()


async def test_a_client_is_counted_by_what_is_its_own(office: Office) -> None:
    first, *others = office.books.directory.extensions
    trunks = (*office.books.directory.trunks, Trunk(ACME, "nowhere", "nowhere.test"))
    office.change(extensions=(replace(first, address="sip:101@10.0.2.50"), *others), trunks=trunks)
    await office.pbx.settings_changed()
    await asyncio.sleep(1)
    assert office.pbx.at_work(ACME) == AtWork(calls=0, phones=1, trunks=2, trunks_up=1)
    boris = await office.phone("102")
    call = boris.call("+79265554433")
    await call.answered.wait()
    assert office.pbx.at_work(ACME) == AtWork(calls=1, phones=2, trunks=2, trunks_up=1)
    call.hang_up()
    await office.record()
    assert office.pbx.at_work(ACME).calls == 0
    assert office.pbx.at_work(ClientId("beta")) == AtWork()


async def test_of_two_reloads_at_once_the_last_one_counts(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by whoever follows the database, one by the page that has changed something."""
    load, delays = office.books.load, iter((1.0, 0.0))

    async def slow() -> tuple[Directory, int]:
        found = await load()
        await asyncio.sleep(next(delays))
        return found

    monkeypatch.setattr(office.books, "load", slow)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(office.pbx.settings_changed())
        await asyncio.sleep(0.1)
        office.change(extensions=())
        tasks.create_task(office.pbx.settings_changed())
    assert office.pbx.directory.extensions == ()
