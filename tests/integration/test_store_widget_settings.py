"""What is saved in the widget, in both databases: all of it or nothing, and nothing twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from b2bua.apply.difference import FieldChange
from b2bua.cdr import ClientId
from b2bua.crm.users import MapSource
from b2bua.directory import Client, CrmAccount, Directory
from b2bua.sealing import Sealer
from b2bua.store.directory import DirectoryChanged
from b2bua.store.store import open_store
from tests.support.records import NOON

ACME = ClientId("acme")
URL = "https://acme.amocrm.ru"
CLIENT = Client(ACME, "Acme", CrmAccount(URL, "token"), login="acme")


async def test_settings_are_one_change_and_the_same_again_is_none(database_url: str) -> None:
    async with open_store(database_url, sealer=Sealer(["a key of the tests, which is long enough"])) as store:
        generation = await store.directory.replace(Directory(), Directory((CLIENT,)), 0)
        saved = store.widget_settings.save

        async def save(url: str = URL, *, on: bool = True) -> bool:
            return await saved(ACME, url, 101, lambda now: replace(now, task_on_missed=on), {77: "101"}, NOON,
                               who="the widget")

        with pytest.raises(DirectoryChanged):
            await save("https://other.amocrm.ru")
        assert await store.crm_users.load() == {}
        assert await save()
        assert not await save()
        assert CLIENT.crm is not None
        functions = replace(CLIENT.crm.functions, task_on_missed=True)
        expected = replace(CLIENT, crm=replace(CLIENT.crm, functions=functions, account=101))
        assert await store.directory.load() == (Directory((expected,)), generation + 1)
        known = (await store.crm_users.load())[ACME]
        assert (known.map, known.source) == ({77: "101"}, MapSource.SETTINGS)
        (logged,) = await store.changes.last(ACME, limit=1)
        assert (logged.sign, logged.what, logged.who, logged.generation) == (
            "~", "CRM of acme", "the widget", generation + 1)
        assert logged.values == (FieldChange("task_on_missed", False, True), FieldChange("account", None, 101),
                                 FieldChange("users", {}, {"77": "101"}))
        assert await save(on=False)
        assert (await store.directory.load())[1] == generation + 2
