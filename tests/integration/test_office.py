"""One client's set-up, changed edit by edit in both databases: checked as a file is, and kept with who and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from b2bua.apply.difference import FieldChange
from b2bua.apply.file import apply_file
from b2bua.apply.office import Complaint, Edit, Offices, Outdated, Part, Refused, Thing, said
from b2bua.cdr import ClientId
from b2bua.sealing import Sealer
from b2bua.sip.auth import ha1
from b2bua.store.changes import LoggedChange
from b2bua.store.store import Store, open_store

ACME = ClientId("acme")
REALM = "smartswitch"
SEALER = Sealer(["a key of the tests, which is long enough"])
FILE = """\
[[client]]
id = "acme"
password = "correct horse battery"
[client.crm]
base_url = "https://acme.amocrm.ru"
token = "token-of-the-crm"
[[client.trunk]]
name = "operator"
host = "sip.example.org"
register = true
user = "u1"
password = "of-the-trunk"
[[client.extension]]
number = "101"
password = "of-the-phone"
[[client.extension]]
number = "102"
password = "of-the-phone"
on_busy = "101"
[[client.group]]
number = "600"
members = ["101", "102"]
[[client.number]]
number = "+74951112233"
destination = "600"
trunk = "operator"
[[client]]
id = "rival"
[[client.extension]]
number = "101"
login = "anna"
password = "of-the-phone"
"""


@asynccontextmanager
async def opened(url: str, tmp_path: Path) -> AsyncIterator[tuple[Store, Offices]]:
    file = tmp_path / "office.toml"
    file.write_text(FILE)
    async with open_store(url, sealer=SEALER) as store:
        await apply_file(store.directory, file, REALM, who="apply by root@pbx")
        yield store, Offices(store.directory, REALM, lambda: {"busy", "music"})


def thing(part: Part, key: str = "") -> Thing:
    return Thing(part, key)


EXTENSION_101 = Thing(Part.EXTENSION, "101")


async def refused(offices: Offices, *edits: Edit) -> list[Complaint]:
    with pytest.raises(Refused) as wrong:
        await offices.change(ACME, edits, "acme")
    return list(wrong.value.complaints)


async def last(store: Store) -> LoggedChange:
    return (await store.changes.last(ACME))[0]


async def test_one_field_changes_and_everything_else_stays(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (store, offices):
        before, generation = await store.directory.load()
        office = await offices.read(ACME)
        entry = office.get(EXTENSION_101)
        assert entry is not None
        edit = Edit(EXTENSION_101, {**said(entry), "name": "Анна"}, office.digest(EXTENSION_101))
        assert [str(one) for one in await offices.check(ACME, [edit])] == ["~ extension acme/101: name"]
        assert [str(one) for one in await offices.change(ACME, [edit], "acme")] == ["~ extension acme/101: name"]
        after, now = await store.directory.load()
        assert now == generation + 1
        assert after.extension[ACME, "101"].name == "Анна"
        assert after.extension[ACME, "101"].ha1 == before.extension[ACME, "101"].ha1
        assert (after.clients, after.trunks, after.groups, after.numbers) == (
            before.clients, before.trunks, before.groups, before.numbers)
        logged = await last(store)
        assert (logged.client, logged.who, logged.generation) == (ACME, "acme", now)
        assert (logged.sign, logged.what) == ("~", "extension acme/101")
        assert logged.values == (FieldChange("name", "", "Анна"),)
        assert abs(datetime.now(UTC) - logged.at) < timedelta(minutes=1)


async def test_an_edit_that_says_the_same_writes_nothing(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (store, offices):
        generation = await store.directory.generation()
        office = await offices.read(ACME)
        for one in (thing(Part.CLIENT), thing(Part.CRM), thing(Part.TRUNK, "operator"), EXTENSION_101,
                    thing(Part.GROUP, "600"), thing(Part.NUMBER, "+74951112233")):
            entry = office.get(one)
            assert entry is not None
            assert await offices.change(ACME, [Edit(one, said(entry), office.digest(one))], "acme") == []
        assert await store.directory.generation() == generation


async def test_faults_belong_to_fields_of_the_edited_thing(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (_, offices):
        found = await refused(offices, Edit(thing(Part.EXTENSION), {"number": "10x", "ring_seconds": "long"}))
        assert [(one.thing, one.field, one.edit) for one in found] == [
            (thing(Part.EXTENSION), "number", 0), (thing(Part.EXTENSION), "ring_seconds", 0)]
        found = await refused(offices, Edit(thing(Part.EXTENSION), {"number": "103", "on_busy": "109"}))
        assert [(one.field, one.problem, one.edit) for one in found] == [
            ("password", "extension 103 has neither a password nor a fixed address", 0),
            ("on_busy", "there is no extension or group 109", 0)]
        found = await refused(offices, Edit(thing(Part.EXTENSION), {"number": "101", "password": "of-the-phone"}))
        assert [(one.field, one.problem, one.edit) for one in found] == [
            ("number", "number 101 is there already", 0), ("login", "login 'acme-101' is there already", 0)]
        found = await refused(offices, Edit(thing(Part.EXTENSION), {"number": "600", "password": "of-the-phone"}))
        assert [(one.problem, one.edit) for one in found] == [("number 600 is there already", 0)]


async def test_what_would_break_elsewhere_is_told_of_that_thing(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (_, offices):
        found = await refused(offices, Edit(EXTENSION_101, None))
        assert [(one.thing, one.field, one.edit) for one in found] == [
            (thing(Part.GROUP, "600"), "members[0]", None), (thing(Part.EXTENSION, "102"), "on_busy", None)]
        assert [one.thing for one in await refused(offices, Edit(thing(Part.TRUNK, "operator"), None))] == [
            thing(Part.NUMBER, "+74951112233")]
        office = await offices.read(ACME)
        group, boris = office.get(thing(Part.GROUP, "600")), office.get(thing(Part.EXTENSION, "102"))
        assert group is not None
        assert boris is not None
        changes = await offices.change(ACME, [
            Edit(EXTENSION_101, None), Edit(thing(Part.GROUP, "600"), {**said(group), "members": ["102"]}),
            Edit(thing(Part.EXTENSION, "102"), {**said(boris), "on_busy": ""} | {"on_busy": None})], "acme")
        assert [str(one) for one in changes] == [
            "- extension acme/101", "~ extension acme/102: on_busy", "~ group acme/600: members"]


async def test_what_was_wrong_before_is_no_reason_to_refuse(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (store, offices):
        values = {"number": "103", "password": "of-the-phone", "on_busy": "announcement:busy"}
        await offices.change(ACME, [Edit(thing(Part.EXTENSION), values)], "acme")
        silent = Offices(store.directory, REALM, lambda: ())       # somebody has deleted the sound
        entry = (await silent.read(ACME)).get(EXTENSION_101)
        assert entry is not None
        assert await silent.change(ACME, [Edit(EXTENSION_101, {**said(entry), "name": "Anna"})], "acme")
        own = (await silent.read(ACME)).get(thing(Part.EXTENSION, "103"))
        assert own is not None
        found = await refused(silent, Edit(thing(Part.EXTENSION, "103"), {**said(own), "name": "Carl"}))
        assert [(one.field, one.edit) for one in found] == [("on_busy", 0)]


async def test_what_somebody_else_has_changed_meanwhile_is_not_overwritten(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (_, offices):
        office = await offices.read(ACME)
        seen = office.digest(EXTENSION_101)
        await offices.change(ACME, [Edit(EXTENSION_101, {"number": "101", "name": "Anna"}, seen)], "operator")
        with pytest.raises(Outdated) as outdated:
            await offices.change(ACME, [Edit(EXTENSION_101, {"number": "101", "name": "Boris"}, seen)], "acme")
        assert outdated.value.thing == EXTENSION_101
        assert outdated.value.now is not None
        assert said(outdated.value.now)["name"] == "Anna"
        with pytest.raises(Outdated):
            await offices.change(ACME, [Edit(EXTENSION_101, None, seen)], "acme")
        gone = thing(Part.EXTENSION, "109")
        with pytest.raises(Outdated) as outdated:
            await offices.change(ACME, [Edit(gone, {"number": "109"}, "what it was")], "acme")
        assert outdated.value.now is None


async def test_changes_of_different_things_at_one_moment_are_all_there(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (store, offices):
        edits = [Edit(thing(Part.EXTENSION), {"number": str(number), "password": "of-the-phone"})
                 for number in range(200, 204)]
        await asyncio.gather(*(offices.change(ACME, [edit], "acme") for edit in edits))
        directory, _ = await store.directory.load()
        assert {(ACME, str(number)) for number in range(200, 204)} <= set(directory.extension)
        logged = (await store.changes.last(ACME))[:4]
        assert {one.what for one in logged} == {f"extension acme/{number}" for number in range(200, 204)}
        assert len({one.generation for one in logged}) == 4


async def test_secrets_stay_unless_they_are_said_anew(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (store, offices):
        office = await offices.read(ACME)
        trunk, crm = office.get(thing(Part.TRUNK, "operator")), office.get(thing(Part.CRM))
        client = office.get(thing(Part.CLIENT))
        assert trunk is not None
        assert crm is not None
        assert client is not None
        await offices.change(ACME, [
            Edit(thing(Part.TRUNK, "operator"), {**said(trunk), "priority": 3}),
            Edit(thing(Part.CRM), {**said(crm), "pop_up": False}),
            Edit(thing(Part.CLIENT), {**said(client), "name": "Acme Ltd"}),
            Edit(EXTENSION_101, {"number": "101", "password": "another-password"})], "acme")
        directory, _ = await store.directory.load()
        (acme, _other) = directory.clients
        assert acme.crm is not None
        assert (directory.trunks[0].password, acme.crm.token) == ("of-the-trunk", "token-of-the-crm")
        assert acme.password_hash == office.directory.clients[0].password_hash
        assert directory.extension[ACME, "101"].ha1["MD5"] == ha1("MD5", "acme-101", REALM, "another-password")
        logged = {one.what: one for one in await store.changes.last(ACME, limit=4)}
        assert logged["extension acme/101"].values == (FieldChange("password", is_secret=True),)
        found = await refused(offices, Edit(thing(Part.CRM), {**said(crm), "base_url": "https://evil.example.org"}))
        assert ["there is no way into this account" in one.problem for one in found] == [True]


async def test_a_password_goes_with_its_login(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (store, offices):
        found = await refused(offices, Edit(EXTENSION_101, {"number": "101", "login": "anna-2"}))
        assert [one.field for one in found] == ["password"]
        found = await refused(offices, Edit(EXTENSION_101, {"number": "101", "login": "anna", "password": "12345678"}))
        assert [(one.field, one.problem) for one in found] == [("login", "the login anna is taken")]
        assert "rival" not in str(found)
        # Under an explicit login the number changes, and the phone goes on as it is.
        values = {"number": "102", "login": "acme-102", "on_busy": "101"}
        await offices.change(ACME, [Edit(thing(Part.EXTENSION, "102"), values)], "acme")
        assert said((await offices.read(ACME)).get(thing(Part.EXTENSION, "102")))  # type: ignore[arg-type]
        changes = await offices.change(ACME, [
            Edit(thing(Part.EXTENSION, "102"), {**values, "number": "103"}),
            Edit(thing(Part.GROUP, "600"), {"number": "600", "members": ["101", "103"]})], "acme")
        assert "+ extension acme/103" in [str(one) for one in changes]
        directory, _ = await store.directory.load()
        assert directory.extension[ACME, "103"].ha1["MD5"] == ha1("MD5", "acme-102", REALM, "of-the-phone")


async def test_who_names_what_is_renamed_follows(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (store, offices):
        old = (await store.directory.load())[0]
        hours = {"time_zone": "Europe/Moscow", "open": ["mon-fri 09:00-18:00"], "otherwise": "101"}
        number = {"number": "+74951112233", "destination": "600", "trunk": "operator", "hours": hours}
        await offices.change(ACME, [Edit(thing(Part.NUMBER, "+74951112233"), number)], "acme")
        trunk = (await offices.read(ACME)).get(thing(Part.TRUNK, "operator"))
        assert trunk is not None
        await offices.change(ACME, [
            Edit(EXTENSION_101, {"number": "111"}),
            Edit(thing(Part.GROUP, "600"), {"number": "700", "members": ["101", "102"]}),
            Edit(thing(Part.TRUNK, "operator"), {**said(trunk), "name": "line"})], "acme")
        new = (await store.directory.load())[0]
        moved, did = new.extension[ACME, "111"], new.did[ACME, "+74951112233"]
        assert (moved.login, moved.ha1) == ("acme-101", old.extension[ACME, "101"].ha1)
        assert new.extension[ACME, "102"].on_busy == "111"
        assert new.group[ACME, "700"].members == ("111", "102")
        assert (did.destination, did.trunk, did.hours.otherwise if did.hours else None) == ("700", "line", "111")
        assert new.trunk[ACME, "line"].password == "of-the-trunk"
        found = await refused(offices, Edit(thing(Part.EXTENSION, "111"), {"number": "700", "login": "acme-101"}))
        assert [(one.field, one.edit) for one in found] == [("number", 0)]


async def test_clients_come_and_go(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as (store, offices):
        await offices.add({"id": "new", "name": "New", "login": "boss"}, "operator")
        assert (await offices.read(ClientId("new"))).directory.clients[0].login == "boss"
        for values, field in (({"id": "acme"}, "id"), ({"id": "n w"}, "id"), ({"id": "x", "login": "boss"}, "login"),
                              ({}, "id")):
            with pytest.raises(Refused) as wrong:
                await offices.add(values, "operator")
            assert [one.field for one in wrong.value.complaints] == [field]
        await offices.change(ClientId("new"), [Edit(thing(Part.CLIENT), None)], "operator")
        with pytest.raises(LookupError):
            await offices.read(ClientId("new"))
        with pytest.raises(LookupError):
            await offices.change(ClientId("new"), [Edit(EXTENSION_101, None)], "operator")
        gone = (await store.changes.last(ClientId("new")))[0]
        assert (gone.sign, gone.what) == ("-", "client new")


async def test_what_came_by_a_file_is_in_the_log_and_old_changes_are_forgotten(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url, tmp_path) as (store, _):
        found = await store.changes.last()
        assert {(one.sign, one.who) for one in found} == {("+", "apply by root@pbx")}
        assert {one.client for one in found} == {"acme", "rival"}
        (crm,) = [one for one in found if one.what == "CRM of acme"]
        assert FieldChange("token", is_secret=True) in crm.values
        assert "token-of-the-crm" not in str(found)
        page = await store.changes.last(ACME, limit=2)
        more = await store.changes.last(ACME, before=page[-1].id)
        assert [one.id for one in (*page, *more)] == sorted((one.id for one in (*page, *more)), reverse=True)
        assert {one.client for one in more} == {"acme"}
        assert await store.changes.forget_older_than(datetime.now(UTC) - timedelta(days=1)) == 0
        assert await store.changes.forget_older_than(datetime.now(UTC) + timedelta(seconds=1)) == len(found)
        assert await store.changes.last() == []
