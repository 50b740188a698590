"""The questions that users of amoCRM ask before they trust a telephone system: the whole system answers them, on real
sockets, beside the stand-in amoCRM. docs/amocrm.md gives the same answers in words.

The fifth one takes an hour, and is in tests/scenario/test_crm_hour.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx

from b2bua.app import System, running
from b2bua.cdr import CallRecord
from b2bua.crm.functions import CardKind, CrmFunctions, CrmRules
from b2bua.demo.endpoint import Endpoint
from b2bua.directory import Client, CrmAccount, Directory, Extension, Group, Number, Trunk
from b2bua.net.udp import UdpTransport
from b2bua.sandbox import (
    CallEntry,
    Sandbox,
    SandboxSeed,
    SandboxState,
    SeedAccount,
    SeedContact,
    SeedUser,
    running_sandbox,
)
from b2bua.sandbox.entities import EntityType, Task, Unsorted
from b2bua.sip.auth import ha1
from b2bua.sip.effects import Address
from tests.integration.test_app import ACME, BLOCK, DID, PASSWORD, hand_in, settings
from tests.support.phone import Answers, Behaviour, Phone, PhoneCall, Rings

OPERATOR = f"127.{BLOCK}.21.1"
MOBILE, IVAN = "+79160000001", "+74951234567"
ANNA, BORIS, VERA = 77, 78, 79             # Boris is who gets what is nobody's
PEOPLE = {"101": (ANNA, "Анна"), "102": (BORIS, "Борис"), "103": (VERA, "Вера")}
SEED = SandboxSeed((
    SeedAccount(
        users=tuple(SeedUser(id_, name, is_admin=id_ == ANNA) for id_, name in PEOPLE.values()),
        contacts=(SeedContact("Иван Петров", ("8 (495) 123-45-67",), ANNA, 9001),
                  SeedContact("Мария Сидорова", ("+7 926 555-44-33",), VERA, 9002)),
    ),
))
MARIA = "+79265554433"
EVERYTHING = CrmFunctions(create_on_incoming=True, create_on_outgoing=True, task_on_new_contact=True,
                          task_on_missed=True, rules=CrmRules(incoming_missed=CardKind.CONTACT))
TALKED, NOT_REACHED = 4, 6                 # amoCRM's call_status


@dataclass(frozen=True, slots=True)
class Office:
    """What a question handles: Anna at 101, Boris at 102, Vera at 103, all three of them at 600."""

    system: System
    sandbox: Sandbox
    trunk: Phone
    phones: AsyncExitStack

    @property
    def amo(self) -> SandboxState:
        return self.sandbox.state

    async def phone(self, number: str, does: Behaviour) -> Phone:
        address = Address(f"127.{BLOCK}.22.{int(number) % 100}", 0)
        phone = Phone(number, self.system.sip[0], password=PASSWORD, does=does).plug(
            partial(UdpTransport.open, address))
        self.phones.callback(phone.close)
        assert (await phone.register()).status == 200
        return phone

    async def called_in_vain(self, caller: str) -> PhoneCall:
        """Somebody calls from outside until they are told that nobody answers."""
        call = self.trunk.call(DID, as_=caller)
        await call.over.wait()
        return call

    async def books(self, calls: int) -> CallRecord:
        """The last record, when there are so many."""
        async with asyncio.timeout(10):
            while len(records := await self.system.store.calls.last_calls()) < calls:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert len(records) == calls
        return records[0]

    async def told(self) -> None:
        """Everything that the CRM was owed has arrived there, or was found to be none of its business."""
        async with asyncio.timeout(20):
            while (await self.system.store.outbox.backlog()).pending:  # noqa: ASYNC110 - looked at as a person would
                await asyncio.sleep(0.02)

    @property
    def calls(self) -> list[CallEntry]:
        return self.amo.calls()

    @property
    def new_contacts(self) -> list[tuple[str, list[str], int]]:
        return [(one.name, one.phones, one.responsible_user_id) for one in self.amo.contacts() if one.id not in (
            9001, 9002)]

    @property
    def tasks(self) -> list[Task]:
        return self.amo.tasks()

    @property
    def unsorted(self) -> list[Unsorted]:
        return self.amo.unsorted()


def directory(url: str, operator: Address, *, destination: str, functions: CrmFunctions, sync: bool, record: bool
              ) -> Directory:
    account = CrmAccount(url, "sandbox-token", functions, responsible_ring_seconds=1, default_user=BORIS, sync=sync)
    extensions = tuple(
        Extension(ACME, number, number, {"MD5": ha1("MD5", number, "smartswitch", PASSWORD)}, name=name, crm_user=user)
        for number, (user, name) in PEOPLE.items())
    return Directory(
        clients=(Client(ACME, "Acme", account, record=record),),
        extensions=extensions,
        trunks=(Trunk(ACME, "operator", operator.host, operator.port, caller_id=DID),),
        groups=(Group(ACME, "600", tuple(PEOPLE)),),
        numbers=(Number(ACME, DID, destination, ring_seconds=1),),
    )


@asynccontextmanager
async def open_office(
    home: Path, *, destination: str = "101", functions: CrmFunctions = EVERYTHING, sync: bool = True
) -> AsyncIterator[Office]:
    async with running_sandbox(SEED) as sandbox, running(settings(home)) as system, AsyncExitStack() as phones:
        trunk = Phone("operator", system.sip[0], does=Answers(after=0.1)).plug(
            partial(UdpTransport.open, Address(OPERATOR, 0)))
        phones.callback(trunk.close)
        await hand_in(system, directory(sandbox.base_url, trunk.transport.local, destination=destination,
                                        functions=functions, sync=sync, record=False))
        yield Office(system, sandbox, trunk, phones)
        assert not sandbox.state.journal.warnings
        assert system.switchboard.counters.faults == 0


async def test_1_i_call_from_an_unknown_mobile_and_nobody_answers(tmp_path: Path) -> None:
    """Within a minute, what do I see, where, and at whom?"""
    async with open_office(tmp_path) as office:
        await office.phone("101", Rings())
        assert (await office.called_in_vain(MOBILE)).status == 480
        record = await office.books(1)
        await office.told()
        (pop_up,) = office.amo.pop_ups()
        assert (pop_up.phone, pop_up.users) == (MOBILE, (ANNA,))
        assert office.new_contacts == [(MOBILE, [MOBILE], BORIS)]
        (entry,) = office.calls
        started = int(record.started_at.timestamp())
        assert (entry.direction, entry.status, entry.user, entry.talk_seconds, entry.created_at) == (
            "inbound", NOT_REACHED, ANNA, 0, started)
        (task,) = office.tasks
        assert (task.responsible_user_id, task.text) == (ANNA, f"Перезвонить {MOBILE}")
        assert task.complete_till == int(record.ended_at.timestamp()) + 15 * 60
        assert [card.id for card in office.amo.cards() if entry in card.entries] == [task.entity_id]


async def test_1_an_unknown_caller_is_an_unsorted_lead_unless_the_rules_say_contact(tmp_path: Path) -> None:
    """The same with the rules as they are at first: amoCRM's own list of what came in, and nobody is asked for more."""
    async with open_office(tmp_path, functions=replace(EVERYTHING, rules=CrmRules())) as office:
        await office.phone("101", Rings())
        await office.called_in_vain(MOBILE)
        await office.books(1)
        await office.told()
        (waiting,) = office.unsorted
        assert waiting.phone == MOBILE
        assert office.tasks == []


async def test_2_i_call_again_three_times(tmp_path: Path) -> None:
    """Still one contact, one task? And who talks to me closes it."""
    async with open_office(tmp_path) as office:
        anna = await office.phone("101", Rings())
        for _ in range(4):
            await office.called_in_vain(MOBILE)
        await office.books(4)
        await office.told()
        assert len(office.new_contacts) == 1
        (task,) = office.tasks
        assert not task.is_completed
        assert [entry.status for entry in office.calls] == [NOT_REACHED] * 4
        (card,) = [card for card in office.amo.cards() if card.entries]
        assert (card.id, len(card.entries)) == (task.entity_id, 4)
        back = anna.call(MOBILE)
        await back.answered.wait()
        back.hang_up()
        await office.books(5)
        await office.told()
        (task,) = office.tasks
        assert task.is_completed
        assert len(office.new_contacts) == 1


async def test_3_two_colleagues_ring_and_one_answers(tmp_path: Path) -> None:
    """One entry, his name?"""
    async with open_office(tmp_path, destination="600") as office:
        anna = await office.phone("101", Rings())
        await office.phone("102", Answers(after=0.2))
        call = office.trunk.call(DID, as_=MOBILE)
        await call.answered.wait()
        await asyncio.sleep(1.1)
        call.hang_up()
        await office.books(1)
        await office.told()
        assert len(anna.calls) == 1
        (entry,) = office.calls
        assert (entry.user, entry.user_name, entry.status) == (BORIS, "Борис", TALKED)
        assert entry.talk_seconds >= 1
        assert office.new_contacts == [(MOBILE, [MOBILE], BORIS)]
        (task,) = office.tasks             # to fill the new contact in; nobody is to be called back
        assert (task.responsible_user_id, task.text) == (BORIS, f"Заполнить контакт {MOBILE}")


async def test_4_i_transfer_to_a_colleague(tmp_path: Path) -> None:
    """Whose call is it? The last who talked has it, and both are named."""
    async with open_office(tmp_path) as office:
        anna = await office.phone("101", Answers(after=0.1))
        boris = await office.phone("102", Answers(after=0.1))
        call = office.trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        anna.calls[0].refer(f"<sip:102@{office.system.sip[0].host}>")
        await (await boris.was_called()).answered.wait()
        await anna.calls[0].over.wait()
        call.hang_up()
        await office.books(1)
        await office.told()
        (entry,) = office.calls
        assert entry.user == BORIS
        assert "говорили: Анна (101), Борис (102)" in entry.result
        (card,) = [card for card in office.amo.cards() if card.entries]
        assert (card.type, card.id) == (EntityType.CONTACTS, 9001)


async def test_6_the_client_is_stored_in_a_form_of_their_own(tmp_path: Path) -> None:
    """As `8 (495) …`. Found?"""
    async with open_office(tmp_path, destination="102") as office:
        anna = await office.phone("101", Answers(after=0.1))
        boris = await office.phone("102", Rings())
        call = office.trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        assert (anna.calls[0].shown, boris.calls) == ("Иван Петров", [])
        call.hang_up()
        await office.books(1)
        await office.told()
        assert [card.id for card in office.amo.cards() if card.entries] == [9001]
        assert office.new_contacts == []


async def test_8_i_leave_the_company_and_am_switched_off_in_amocrm(tmp_path: Path) -> None:
    """Who gets my missed calls? The default user; of my customers, too."""
    async with open_office(tmp_path, destination="103") as office:
        await office.phone("103", Rings())
        await office.called_in_vain(MARIA)
        await office.books(1)
        await office.told()
        assert [task.responsible_user_id for task in office.tasks] == [VERA]
        await _switch_off(office, VERA)
        office.amo.account().tasks.clear()     # somebody has cleaned up after her
        await office.called_in_vain(MARIA)
        await office.books(2)
        await office.told()
        assert [entry.user for entry in office.calls] == [VERA, BORIS]
        assert [task.responsible_user_id for task in office.tasks] == [BORIS]
        assert "Вера is switched off in the CRM, but extension 103 is still theirs" in str(
            office.system.switchboard.alarms())


async def _switch_off(office: Office, user: int) -> None:
    """In amoCRM, whose users the office reads again."""
    def knows() -> bool:
        account = office.system.switchboard.directory.client[ACME].crm
        return account is not None and account.active_users is not None and user not in account.active_users

    async with httpx.AsyncClient(base_url=office.sandbox.base_url) as amocrm:
        (await amocrm.post("/_fake/users", json={"id": user, "is_active": False})).raise_for_status()
    await office.system.users.refresh(ACME)
    await becomes(knows)


async def becomes(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not so():  # noqa: ASYNC110 - the daemon looks at its database once a second
            await asyncio.sleep(0.02)


async def test_9_can_anyone_with_the_link_hear_the_recording(tmp_path: Path) -> None:
    """For how long? Whoever has it, nobody who guesses, and until it is withdrawn."""
    async with running_sandbox(SEED) as sandbox, running(settings(tmp_path)) as system:
        server = system.sip[0]
        async with (
            Endpoint.open("trunk", server, 440, host=OPERATOR) as trunk,
            Endpoint.open("phone 101", server, 620, host=f"127.{BLOCK}.22.1") as anna,
            httpx.AsyncClient() as anybody,
        ):
            await hand_in(system, directory(sandbox.base_url, trunk.address, destination="101", functions=EVERYTHING,
                                            sync=True, record=True))
            assert await anna.register("101", PASSWORD) == 200
            await trunk.call(DID, shown_as=IVAN, talk_seconds=1.0)
            await becomes(lambda: bool(sandbox.state.calls()))
            (entry,) = sandbox.state.calls()
            assert entry.link is not None
            heard = await anybody.get(entry.link)
            assert (heard.status_code, heard.headers["content-type"]) == (200, "audio/mpeg")
            seal = entry.link.rpartition(".mp3")[0]
            guessed = seal[:-1] + ("A" if seal[-1] != "A" else "B") + ".mp3"
            assert (await anybody.get(guessed)).status_code == 404
            (record,) = await system.store.calls.last_calls()
            assert record.recording is not None
            await system.store.recordings.revoke(record.recording, "operator")
            assert (await anybody.get(entry.link)).status_code == 410


async def test_10_internal_calls(tmp_path: Path) -> None:
    """Anything in amoCRM? No, and it is not even asked."""
    async with open_office(tmp_path, sync=False) as office:
        anna = await office.phone("101", Rings())
        await office.phone("102", Answers(after=0.1))
        await becomes(lambda: bool(office.amo.journal.of("GET", "/api/v4/users")))     # as at every start
        asked = len(office.amo.journal)
        call = anna.call("102")
        await call.answered.wait()
        call.hang_up()
        await office.books(1)
        await office.told()
        assert len(office.amo.journal) == asked
        await office.called_in_vain(MOBILE)            # an outside call is told after it, and nothing but that
        await office.books(2)
        await office.told()
        assert [entry.phone for entry in office.calls] == [MOBILE]

