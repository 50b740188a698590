"""Who is switched off in the CRM, and extensions that change hands, as calls live them; and how the users are kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from structlog.testing import capture_logs

from b2bua.cdr import ClientId, Disposition
from b2bua.crm import user_keeper
from b2bua.crm.functions import CrmFunctions
from b2bua.crm.port import CallNote, CrmRejected, CrmUnauthorized, CrmUnavailable, Task
from b2bua.crm.user_keeper import UserKeeper
from b2bua.crm.users import CrmUser, FaultKind, KnownUsers, MapSource, UserMap
from b2bua.directory import Client, CrmAccount, Directory, Extension, UsersFrom
from b2bua.store.engine import StoreUnavailable
from tests.support.office import ACME, DID, Office, faultless_office
from tests.support.phone import Answers, Rings
from tests.support.virtual_loop import VirtualLoop

IVAN = "+79161234567"
ANNA, BORIS, VERA = CrmUser(77, "Анна Иванова"), CrmUser(78, "Борис Кузнецов"), CrmUser(79, "Вера Попова")
VERA_LEFT = replace(VERA, is_active=False)
LEFT = KnownUsers((ANNA, BORIS, VERA_LEFT))
DEFAULT = 70


@pytest.fixture
def office() -> AbstractAsyncContextManager[Office]:
    return faultless_office()


async def told(office: Office, users: KnownUsers, *, source: UsersFrom = UsersFrom.WIDGET) -> None:
    """The CRM has told that of its users; missed calls become tasks, and those of nobody the default user's."""
    (client,) = office.books.directory.clients
    account = CrmAccount("http://crm.test", "token", CrmFunctions(task_on_missed=True), default_user=DEFAULT,
                         users_from=source)
    office.change(clients=(replace(client, crm=account),))
    office.books.users = {ACME: replace(users, users=(*users.users, CrmUser(DEFAULT, "Старший")))}
    await office.pbx.settings_changed()


def owners(office: Office) -> tuple[int | None, list[int | None]]:
    """Of the note, and of the tasks."""
    (note,) = [one for one in office.books.writes if isinstance(one, CallNote)]
    return note.user, [one.user for one in office.books.writes if isinstance(one, Task)]


async def test_whose_contact_it_is_who_has_left_does_not_hold_up_the_call(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=VERA.id)
    await told(office, LEFT)
    vera, boris = await office.phone("103"), await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert vera.calls == []
    assert boris.calls[0].shown == "Иван Петров"
    assert (record.extension, record.crm_user) == ("102", BORIS.id)
    assert "user 79, responsible for Иван Петров, is not active in the CRM" in " ".join(record.why)
    await office.all_quiet()


async def test_the_missed_calls_of_who_has_left_are_the_default_users(office: Office) -> None:
    """Acceptance question 8: their phone rings on, but nothing in the CRM is theirs any more."""
    office.crm.knows(IVAN, "Иван Петров", responsible=VERA.id)
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="103"),))
    await told(office, LEFT)
    vera = await office.phone("103", Rings())
    await office.trunk.call(DID, as_=IVAN).over.wait()
    record = await office.record()
    assert len(vera.calls) == 1
    assert (record.disposition, record.rang, record.crm_user) == (Disposition.NO_ANSWER, ("103",), None)
    assert owners(office) == (DEFAULT, [None])
    assert office.crm.pop_ups == []


async def test_who_has_left_and_answers_all_the_same_is_in_the_books_by_extension(office: Office) -> None:
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="103"),))
    await told(office, LEFT)
    await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert (record.disposition, record.extension, record.crm_user) == (Disposition.ANSWERED, "103", None)
    assert owners(office) == (DEFAULT, [])


async def test_who_has_taken_over_the_extension_gets_what_rings_there(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=BORIS.id)
    await told(office, replace(LEFT, map={VERA.id: "103", BORIS.id: "103"}))
    boris, old_desk = await office.phone("103", Answers(after=1.0)), await office.phone("102")
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert (len(boris.calls), old_desk.calls) == (1, [])
    assert (record.extension, record.crm_user) == ("103", BORIS.id)
    assert [up.users for up in office.crm.pop_ups] == [(BORIS.id,)]


async def test_a_call_keeps_the_user_with_whom_it_began(office: Office) -> None:
    """The extension changes hands in the midst of the talk: the next call is the new user's."""
    await told(office, KnownUsers((ANNA, BORIS, VERA)))
    await office.phone("102", Answers(after=1.0))
    first = office.trunk.call(DID, as_=IVAN)
    await first.answered.wait()
    await told(office, KnownUsers((ANNA, replace(BORIS, is_active=False), VERA), {VERA.id: "102"}))
    await asyncio.sleep(60)
    first.hang_up()
    assert (await office.record()).crm_user == BORIS.id
    second = office.trunk.call(DID, as_=IVAN)
    await second.answered.wait()
    second.hang_up()
    assert (await office.record(2)).crm_user == VERA.id
    assert [write.user for write in office.books.writes if isinstance(write, CallNote)] == [BORIS.id, VERA.id]


async def test_before_the_crm_has_told_anything_calls_go_by_the_file(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=VERA.id)
    vera = await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    assert (await office.record()).crm_user == VERA.id
    assert len(vera.calls) == 1


# -- the keeping

OTHER = ClientId("other")
ACCOUNT = CrmAccount("https://acme.amocrm.ru", "token", widget="smartswitch", users_from=UsersFrom.WIDGET)


@dataclass
class FakeUsers:
    """One CRM's users."""

    account: CrmAccount | None = None
    tells: tuple[CrmUser, ...] = (ANNA, BORIS, VERA)
    map: dict[int, str] = field(default_factory=lambda: {VERA.id: "103"})
    refuses: Exception | None = None
    asked: Counter[str] = field(default_factory=Counter)

    async def users(self) -> tuple[CrmUser, ...]:
        self.asked["users"] += 1
        await asyncio.sleep(1)
        if self.refuses is not None:
            raise self.refuses
        return self.tells

    async def extensions(self, widget: str) -> UserMap:
        self.asked[widget] += 1
        return dict(self.map)


@dataclass
class FakeStore:
    """Directory and what was told, with one generation."""

    directory: Directory
    known: dict[ClientId, KnownUsers] = field(default_factory=dict)
    generation: int = 1
    is_away: bool = False

    async def load(self) -> tuple[Directory, int]:
        return self.directory, self.generation

    async def save_users(self, client: ClientId, base_url: str, users: Sequence[CrmUser], at: datetime) -> bool:
        return self._save(client, users=tuple(users))

    async def save_map(
        self, client: ClientId, base_url: str, pairs: UserMap, source: MapSource, at: datetime
    ) -> bool:
        return self._save(client, map=dict(pairs), source=source)

    def _save(self, client: ClientId, **changes: object) -> bool:
        if self.is_away:
            raise StoreUnavailable("away")
        old = self.known.get(client, KnownUsers())
        self.known[client] = replace(old, **changes)  # type: ignore[arg-type]
        self.generation += self.known[client] != old
        return self.known[client] != old


@dataclass(frozen=True)
class FakeRows:
    """The same store, as the keeper sees it."""

    store: FakeStore

    async def load(self) -> Mapping[ClientId, KnownUsers]:
        return dict(self.store.known)

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)


def extension(client: ClientId, number: str, user: int | None = None) -> Extension:
    return Extension(client, number, f"{client}-{number}", {}, crm_user=user)


class Keeping:
    def __init__(self) -> None:
        self.store = FakeStore(Directory(
            (Client(ACME, "Acme", ACCOUNT), Client(OTHER, "Other", replace(ACCOUNT, base_url="https://b", widget="",
                                                                          users_from=UsersFrom.FILE)),
             Client(ClientId("none"), "None")),
            (extension(ACME, "101", 77), extension(ACME, "102"), extension(ACME, "103"), extension(OTHER, "101", 77))))
        self.crms = {ACME: FakeUsers(), OTHER: FakeUsers()}
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.keeper = UserKeeper(self.store, FakeRows(self.store), self.crm_of, loop.wall)  # type: ignore[arg-type]
        self.is_open = True

    def crm_of(self, client: ClientId) -> FakeUsers | None:
        crm = self.crms.get(client)
        if crm is not None and self.is_open:
            crm.account = self.store.directory.client[client].crm
        return crm if crm is None or crm.account is not None else None

    async def follow(self) -> None:
        """As upkeep.follow_directory."""
        seen = self.store.generation
        while True:
            await asyncio.sleep(1)
            if self.store.generation != seen:
                _, seen = await self.keeper.load()
                self.keeper.wake()

    async def users(self) -> dict[str, int | None]:
        directory, _ = await self.keeper.load()
        return {one.number: one.crm_user for one in directory.extensions if one.client == ACME}


@pytest.fixture
def keeping() -> AbstractAsyncContextManager[Keeping]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Keeping]:
        keeping = Keeping()
        await keeping.keeper.load()
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(keeping.keeper.run()), tasks.create_task(keeping.follow())]
            yield keeping
            for one in work:
                one.cancel()

    return running()


async def test_users_are_read_at_the_start_and_every_hour(keeping: Keeping) -> None:
    await asyncio.sleep(10)
    assert await keeping.users() == {"101": 77, "102": None, "103": 79}
    assert keeping.crms[ACME].asked == {"users": 1, "smartswitch": 1}
    assert keeping.crms[OTHER].asked == {"users": 1}
    keeping.crms[ACME].tells = (ANNA, BORIS, VERA_LEFT)
    await asyncio.sleep(3_600)
    assert keeping.crms[ACME].asked == {"users": 2, "smartswitch": 2}
    assert await keeping.users() == {"101": 77, "102": None, "103": None}
    assert keeping.keeper.alarms() == [
        "acme: Вера Попова is switched off in the CRM, but extension 103 is still theirs"]


async def test_what_does_not_change_raises_no_generation(keeping: Keeping) -> None:
    await asyncio.sleep(10)
    generation = keeping.store.generation
    await asyncio.sleep(35_000)
    assert keeping.crms[ACME].asked["users"] == 10
    assert keeping.store.generation == generation


async def test_a_crm_that_does_not_answer_is_asked_again_soon_and_users_stay(keeping: Keeping) -> None:
    await asyncio.sleep(10)
    keeping.crms[ACME].refuses = CrmUnavailable("no answer")
    with capture_logs() as logs:
        await asyncio.sleep(3_600 + 3 * user_keeper.AGAIN)
    assert keeping.crms[ACME].asked["users"] in (4, 5)
    assert keeping.crms[OTHER].asked["users"] == 2
    assert await keeping.users() == {"101": 77, "102": None, "103": 79}
    assert keeping.keeper.alarms() == []
    (fault,) = keeping.keeper.listing(ACME).faults
    assert fault.kind is FaultKind.UNREACHED
    assert [entry["problem"] for entry in logs if entry["event"] == "CRM users"] == [fault.problem]
    keeping.crms[ACME].refuses = None
    await asyncio.sleep(user_keeper.AGAIN + 10)
    assert keeping.keeper.faults() == {}


async def test_that_an_administrators_token_is_lacking_is_said_once_and_the_widget_is_read_all_the_same(
        keeping: Keeping) -> None:
    keeping.crms[ACME].refuses = CrmRejected("403: Forbidden")
    with capture_logs() as logs:
        await asyncio.sleep(36_000)
    assert keeping.crms[ACME].asked["users"] == 10
    said = [entry for entry in logs if entry["event"] == "CRM users"]
    assert len(said) == 1
    assert said[0]["remedy"] == "Connect the account with the token of an administrator."
    assert await keeping.users() == {"101": 77, "102": None, "103": 79}
    listing = keeping.keeper.listing(ACME)
    assert listing.read_at is None
    assert [(user.id, user.extension, user.source) for user in listing.users] == [
        (77, "101", "file"), (79, "103", "widget")]
    assert len(keeping.keeper.alarms()) == 1


async def test_a_fault_is_logged_when_it_comes_and_when_it_goes(keeping: Keeping) -> None:
    await asyncio.sleep(10)
    with capture_logs() as logs:
        keeping.crms[ACME].map = {VERA.id: "103", BORIS.id: "103"}
        await asyncio.sleep(3_610)
        keeping.crms[ACME].map = {VERA.id: "103", BORIS.id: "102"}
        await asyncio.sleep(3_610)
    problem = "Борис Кузнецов and Вера Попова both have extension 103"
    assert [(entry["log_level"], entry["problem"]) for entry in logs] == [("warning", problem), ("info", problem)]


async def test_an_account_that_is_applied_is_read_at_once_and_one_that_goes_no_more(keeping: Keeping) -> None:
    await asyncio.sleep(10)
    acme, *others = keeping.store.directory.clients
    for account in (replace(ACCOUNT, widget="other"), replace(ACCOUNT, widget="other", patience=1.0), None):
        keeping.store.directory = replace(keeping.store.directory, clients=(replace(acme, crm=account), *others))
        keeping.store.generation += 1
        await asyncio.sleep(10)
    await asyncio.sleep(7_200)
    assert keeping.crms[ACME].asked == {"users": 2, "smartswitch": 1, "other": 1}
    assert keeping.crms[OTHER].asked == {"users": 3}
    with pytest.raises(LookupError):
        keeping.keeper.listing(ACME)


async def test_an_account_that_is_not_open_as_it_was_applied_is_not_asked_until_it_is(keeping: Keeping) -> None:
    await asyncio.sleep(10)
    keeping.is_open = False
    acme, *others = keeping.store.directory.clients
    elsewhere = replace(acme, crm=replace(ACCOUNT, base_url="https://elsewhere"))
    keeping.store.directory = replace(keeping.store.directory, clients=(elsewhere, *others))
    keeping.store.generation += 1
    await asyncio.sleep(60)
    assert keeping.crms[ACME].asked["users"] == 1
    keeping.is_open = True
    await asyncio.sleep(user_keeper.SOON + 2)
    assert keeping.crms[ACME].asked["users"] == 2


async def test_on_demand_the_crm_is_asked_before_the_answer(keeping: Keeping) -> None:
    await asyncio.sleep(10)
    keeping.crms[ACME].tells = (ANNA,)
    await keeping.keeper.refresh(ACME)
    assert [(user.name, user.extension) for user in keeping.keeper.listing(ACME).users] == [
        ("Анна Иванова", "101"), ("", None)]
    for unknown in ("nobody", "none"):
        with pytest.raises(LookupError):
            await keeping.keeper.refresh(ClientId(unknown))


async def test_what_somebody_saves_is_taken_whole_or_not_at_all(keeping: Keeping) -> None:
    await asyncio.sleep(10)
    faults = await keeping.keeper.set_user_map(ACME, {"77": "102", "78": "102", "79": "103"})
    assert [fault.problem for fault in faults] == ["Анна Иванова and Борис Кузнецов both have extension 102"]
    assert await keeping.users() == {"101": 77, "102": None, "103": 79}
    assert await keeping.keeper.set_user_map(ACME, {"77": " 102 ", "78": "101", "79": " "}) == ()
    assert await keeping.users() == {"101": 78, "102": 77, "103": None}
    assert keeping.store.known[ACME].source is MapSource.SETTINGS
    with pytest.raises(LookupError):
        await keeping.keeper.set_user_map(ClientId("none"), {})


@pytest.mark.parametrize("refuses", [CrmUnauthorized("401"), RuntimeError("ours"), TimeoutError()], ids=repr)
async def test_whatever_befalls_one_reading_the_others_go_on(keeping: Keeping, refuses: Exception) -> None:
    with capture_logs():
        keeping.crms[ACME].refuses = refuses
        await asyncio.sleep(7_000)
        assert keeping.crms[OTHER].asked["users"] == 2
        keeping.crms[ACME].refuses = None
        await asyncio.sleep(user_keeper.AGAIN + 10)
    assert len(keeping.keeper.listing(ACME).users) == 3
    assert keeping.keeper.faults() == {}


async def test_a_database_that_is_away_ends_nothing(keeping: Keeping) -> None:
    keeping.store.is_away = True
    with capture_logs() as logs:
        await asyncio.sleep(10)
        keeping.store.is_away = False
        await asyncio.sleep(user_keeper.AGAIN)
    assert {entry["event"] for entry in logs} == {"users not kept"}
    assert (await keeping.users())["103"] == 79
