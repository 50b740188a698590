"""A random day of a random office against the stand-in amoCRM, with random faults, while our process dies anywhere and
starts again; in the end a plain model of the day agrees with what the accounts hold: each outside call has one entry
with the right fields, each contact, deal, unsorted lead and task that a rule demanded is there once, and nothing else.

All of it is the product but for the edges: phones and trunks (tests/support/phone), the network, the stores
(tests/support/mortal_office, by the rules of the real ones), the audio. The model looks at what the driver did, at
the records of the journal, and at the switches in force; never at what the product thought it owed.

What is left out, as it cannot be promised (docs/decisions/0009): amoCRM carries out no request later than 25 s after
its sender died, nor after its sender, alive, has given up. A call that was up for less than two and a half seconds when
the process died may be in no books (calls/standing writes behind), nor is one that is turned away while the process
stops. What people do to a number's cards, and to switches, they do when nothing for it is on its way: the order in
which amoCRM hears of both is then told by the clock alone. Only amoCRM's clock jumps.

FUZZ_EXAMPLES=N looks at N days that nobody has seen before; `scripts/soak day` does that for as long as one likes.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Protocol

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from b2bua.cdr import CallId, CallRecord, ClientId, Direction, EndReason
from b2bua.control import AlreadyCalling, Unavailable
from b2bua.crm.functions import CardKind, CrmFunctions, CrmRules, DealRule, Responsible
from b2bua.directory import Client, CrmAccount, Directory, Extension, Group, Number, Trunk
from b2bua.sandbox import Act, Fault, in_process_sandbox
from b2bua.sandbox.account import Account
from b2bua.sandbox.entities import EntityType, Fate
from b2bua.sandbox.seed import (
    SandboxSeed,
    SeedAccount,
    SeedCompany,
    SeedContact,
    SeedIntegration,
    SeedLead,
    SeedUser,
)
from b2bua.sandbox.unsorted import accept, decline
from b2bua.sip.auth import ha1
from b2bua.sip.effects import Address
from b2bua.store.tokens import Connection, ConnectionState, TokenPair
from tests.support.amo_post import link_of
from tests.support.memory_outbox import State
from tests.support.mortal_office import Booked, Life, Process, World, wall
from tests.support.network import Network
from tests.support.office import PASSWORD, REALM, SERVER
from tests.support.phone import Answers, Behaviour, Phone, PhoneCall, Rejects, Rings
from tests.support.virtual_loop import EPOCH, VirtualLoop

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
HOUR = 3_600.0
DAY_ENDS = 2_400.0                     # seconds: the last event has begun by then, and all faults are over
SETTLES_WITHIN = 12 * HOUR             # what a refusal of the account holds up is tried once an hour
PER_SECOND = 5
MOMENT = 0.3                           # seconds beside the patience: the network's, and our own
SURELY_SAVED = 2.5                     # seconds after which a call is on the disk
LONGEST_TALK = 60.0
BETWEEN = 0.00137                      # seconds after which no call begins at the very moment

IVAN, MARIA, FIRM, DEAL = "+74951234567", "+79265554433", "+74957654321", "+79031112233"
BERLIN, NEW, NEWER, SHY = "+493023125000", "+79160000001", "+79160000002", "+79169999999"
PEOPLE = (IVAN, MARIA, FIRM, DEAL, BERLIN, NEW, NEW, NEWER, NEWER, SHY)
BOSS = 80                              # the default user, who stays
HTML = "<html>nginx</html>"


def spelled(number: str, how: int) -> str:
    """As trunks and people write it."""
    if number.startswith("+7"):
        return (number, number[1:], f"8{number[2:]}")[how % 3]
    return (number, f"00{number[1:]}", f"810{number[1:]}")[how % 3] if number.startswith("+") else number


# -- the offices


@dataclass(frozen=True)
class Plan:
    """One client."""

    index: int
    functions: CrmFunctions
    by_oauth: bool
    patience: float
    token_seconds: float

    @property
    def id(self) -> ClientId:
        return ClientId(("acme", "beta")[self.index])

    @property
    def extensions(self) -> tuple[str, ...]:
        return tuple(f"{self.index + 1}{last}" for last in ("01", "02", "03"))

    @property
    def users(self) -> dict[str, int]:
        return dict(zip(self.extensions, (77, 78, 79), strict=True))

    @property
    def dids(self) -> tuple[str, str]:
        return f"+7495111223{self.index}", f"+7495111224{self.index}"

    @property
    def operator(self) -> Address:
        return Address(f"10.0.{self.index + 3}.1", 5060)

    @property
    def account_id(self) -> int:
        return 31_000_001 + self.index

    @property
    def integration(self) -> SeedIntegration:
        return SeedIntegration(client_id=f"integration-{self.id}", token=f"token-{self.id}")

    def seed(self) -> SeedAccount:
        users = (SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис"), SeedUser(79, "Вера"),
                 SeedUser(BOSS, "Глеб"))
        contacts = [SeedContact("Иван Петров", ("8 (495) 123-45-67",), 77, 9001)]
        if self.index == 0:
            contacts += [SeedContact("Мария", ("926 555-44-33", "112"), 78, 9002),
                         SeedContact("Berlin", ("0049 30 2312 5000",), 79, 9003)]
        return SeedAccount(
            self.account_id, self.id, users=users, contacts=tuple(contacts),
            companies=(SeedCompany("Вектор", ("+7 495 765-43-21",), 78, 9501),),
            leads=(SeedLead("Кресла", contact=9001, id=7001), SeedLead("Заявка +7 (903) 111-22-33", id=7002)),
            integrations=(self.integration,),
        )

    def known(self) -> dict[str, str]:
        """Whom the account knows at first, and by what."""
        known = {IVAN: "contact", FIRM: "company", DEAL: "lead"}
        return known | ({MARIA: "contact", BERLIN: "contact"} if self.index == 0 else {})

    def account(self, functions: CrmFunctions) -> CrmAccount:
        account = CrmAccount(f"https://{self.id}.amocrm.test", functions=functions, patience=self.patience,
                             default_user=BOSS, responsible_ring_seconds=8)
        if self.by_oauth:
            one = self.integration
            return replace(account, client_id=one.client_id, client_secret=one.client_secret,
                           redirect_uri=one.redirect_uri)
        return replace(account, token=self.integration.token)

    def directory(self, functions: CrmFunctions) -> Directory:
        main, group = self.dids
        one, two, three = self.extensions
        return Directory(
            (Client(self.id, self.id, crm=self.account(functions)),),
            tuple(Extension(self.id, number, number, {"MD5": ha1("MD5", number, REALM, PASSWORD)},
                            name=f"Employee {number}", crm_user=user) for number, user in self.users.items()),
            (Trunk(self.id, "operator", self.operator.host, self.operator.port, caller_id=main,
                   networks=(ip_network(f"{self.operator.host}/32"),)),),
            (Group(self.id, "600", (two, three)),),
            (Number(self.id, main, two, ring_seconds=15, on_no_answer=three, on_busy=one),
             Number(self.id, group, "600", ring_seconds=20)),
        )


def joined(directories: Iterable[Directory]) -> Directory:
    parts = tuple(directories)
    return Directory(
        tuple(one for part in parts for one in part.clients), tuple(one for part in parts for one in part.extensions),
        tuple(one for part in parts for one in part.trunks), tuple(one for part in parts for one in part.groups),
        tuple(one for part in parts for one in part.numbers),
    )


# -- the day


@dataclass(frozen=True)
class Driven:
    """An outside call, as who made it saw it."""

    client: ClientId
    inbound: bool
    number: str
    began: float
    call: PhoneCall
    over: float


@dataclass(frozen=True)
class Done:
    """What a person has done to a number's cards, and what has gone with that."""

    at: float
    client: ClientId
    number: str
    what: str
    uniqs: frozenset[str] = frozenset()
    tasks: tuple[tuple[str, int], ...] = ()


@dataclass
class Office:
    """One client's side of the day."""

    plan: Plan
    amo: Account
    trunk: Phone
    phones: dict[str, Phone]
    switches: list[tuple[float, CrmFunctions]]         # since when, the first from the beginning
    away: set[int] = field(default_factory=set)        # users who were switched off at some time

    def functions_at(self, at: float) -> CrmFunctions:
        return next(functions for since, functions in reversed(self.switches) if since <= at)


@dataclass
class Day:
    world: World
    offices: list[Office]
    driven: list[Driven] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    clicked: set[CallId] = field(default_factory=set)
    lines: defaultdict[tuple[ClientId, str], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def office(self, index: int) -> Office:
        return self.offices[index % len(self.offices)]

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def pending(self, client: ClientId, number: str = "") -> bool:
        digits = number[-10:]
        return any(row.state is State.PENDING and row.client == client and row.lane.startswith(digits)
                   for row in self.world.outbox.rows)

    async def nothing_is_on_its_way(self, client: ClientId, number: str = "") -> None:
        while self.pending(client, number):            # noqa: ASYNC110  (virtual time makes it cheap to look)
            await asyncio.sleep(1.7)

    def apply(self) -> None:
        plans = (office.plan.directory(office.switches[-1][1]) for office in self.offices)
        self.world.directory = joined(plans)


class Happens(Protocol):
    async def happen(self, day: Day) -> None: ...


async def within(happens: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await happens.wait()
    except TimeoutError:
        return False
    return True


async def to_its_end(call: PhoneCall, rings: float, talks: float, office: Office, then: str) -> None:
    """The caller's side: gives up, or talks; in the midst somebody may hand it over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + rings
    while not (call.answered.is_set() or call.over.is_set() or loop.time() >= until):      # noqa: ASYNC110
        await asyncio.sleep(0.05)
    if call.answered.is_set():
        await within(call.over, talks / 2)
        if then:
            await hand_over(call, office, then)
        await within(call.over, talks / 2)
    call.hang_up()
    await asyncio.sleep(2)


async def hand_over(call: PhoneCall, office: Office, how: str) -> None:
    """Whoever of the office talks with that caller sends them on to a colleague: blind, attended, or not after all."""
    talking = [(phone, mine) for phone in office.phones.values() for mine in phone.calls
               if mine.caller.endswith(call.caller[-10:]) and mine.answered.is_set() and not mine.over.is_set()]
    if not talking or call.over.is_set():
        return
    phone, mine = talking[-1]
    colleague = next(number for number in office.plan.extensions if number != phone.user)
    if how == "blind":
        mine.refer(f"<sip:{colleague}@{SERVER.host}>")
        return
    mine.offer("sendonly")
    await asyncio.sleep(1)
    asking = phone.call(colleague)
    is_there = await within(asking.answered, 10.0)
    await asyncio.sleep(1)
    if is_there and how == "attended" and not (mine.over.is_set() or asking.over.is_set()):
        mine.refer_to(asking)
        await within(asking.over, 5.0)
    asking.hang_up()


@dataclass(frozen=True)
class ComesIn:
    client: int
    who: str
    spelling: int
    did: int
    phones: tuple[Behaviour, Behaviour, Behaviour]
    rings: float
    talks: float
    then: str

    async def happen(self, day: Day) -> None:
        office = day.office(self.client)
        async with day.lines[office.plan.id, self.who]:
            for phone, does in zip(office.phones.values(), self.phones, strict=True):
                phone.does = does
            began = day.now
            call = office.trunk.call(office.plan.dids[self.did], as_=spelled(self.who, self.spelling))
            await to_its_end(call, self.rings, self.talks, office, self.then)
            day.driven.append(Driven(office.plan.id, True, self.who, began, call, day.now))


@dataclass(frozen=True)
class GoesOut:
    client: int
    who: str
    spelling: int
    by: int
    trunk: Behaviour
    rings: float
    talks: float
    then: str

    async def happen(self, day: Day) -> None:
        office = day.office(self.client)
        async with day.lines[office.plan.id, self.who]:
            office.trunk.does = self.trunk
            began = day.now
            call = office.phones[office.plan.extensions[self.by]].call(spelled(self.who, self.spelling))
            await to_its_end(call, self.rings, self.talks, office, "")
            day.driven.append(Driven(office.plan.id, False, self.who, began, call, day.now))


@dataclass(frozen=True)
class Clicks:
    """On a number, in amoCRM's page; the page hangs up in the end, if nobody else has."""

    client: int
    who: str
    by: int
    phone: Behaviour
    trunk: Behaviour
    talks: float

    async def happen(self, day: Day) -> None:
        office, process = day.office(self.client), day.world.process
        client, extension = office.plan.id, office.plan.extensions[self.by]
        async with day.lines[client, self.who]:
            if process.life.is_over or process.pbx is None:
                return
            office.phones[extension].does, office.trunk.does = self.phone, self.trunk
            try:
                clicked = process.pbx.click2call(client, extension, self.who, f"{day.now}")
            except (AlreadyCalling, Unavailable):
                return
            day.clicked.add(clicked.id)
            await asyncio.sleep(self.talks)
            if not process.life.is_over:
                process.pbx.hang_up(client, clicked.id)
            await asyncio.sleep(SURELY_SAVED)


@dataclass(frozen=True)
class Inside:
    client: int
    talks: float

    async def happen(self, day: Day) -> None:
        office = day.office(self.client)
        one, _, three = office.plan.extensions
        await to_its_end(office.phones[one].call(three), 10.0, self.talks, office, "")


@dataclass(frozen=True)
class Leaves:
    """A user is switched off in the account."""

    client: int
    user: int

    async def happen(self, day: Day) -> None:
        office = day.office(self.client)
        office.amo.users[self.user].is_active = False
        office.away.add(self.user)


@dataclass(frozen=True)
class Moves:
    """The account gets another subdomain. By a long-lived token nobody would find it."""

    client: int
    number: int

    async def happen(self, day: Day) -> None:
        office = day.office(self.client)
        new = f"{office.plan.id}{self.number}"
        if office.plan.by_oauth and office.amo.subdomain != new:
            day.world.sandbox.state.rename(office.amo.subdomain, new)


@dataclass(frozen=True)
class JumpsClock:
    seconds: float

    async def happen(self, day: Day) -> None:
        day.world.sandbox.state.clock.advance(self.seconds)


@dataclass(frozen=True)
class SeesToUnsorted:
    client: int
    accepts: bool

    async def happen(self, day: Day) -> None:
        office, now = day.office(self.client), day.world.sandbox.state.clock.now
        waiting = [one for one in office.amo.unsorted.values() if one.fate is Fate.OPEN]
        if not waiting:
            return
        one, client = waiting[0], office.plan.id
        await day.nothing_is_on_its_way(client, one.phone)
        if one.fate is not Fate.OPEN:
            return
        if self.accepts:
            accept(office.amo, one, BOSS, None, now())
            day.done.append(Done(day.now, client, one.phone, "accepts"))
        else:
            before = uniqs_of(office.amo)
            decline(office.amo, one, now())
            day.done.append(Done(day.now, client, one.phone, "declines", before - uniqs_of(office.amo)))


@dataclass(frozen=True)
class CompletesTask:
    client: int
    which: int

    async def happen(self, day: Day) -> None:
        office = day.office(self.client)
        if not (tasks := [task for task in office.amo.tasks.values() if not task.is_completed]):
            return
        task = tasks[self.which % len(tasks)]
        number = number_in(task.text)
        await day.nothing_is_on_its_way(office.plan.id, number)
        if task.id in office.amo.tasks and not task.is_completed:
            task.is_completed, task.result = True, "Сделано"
            key = (task.text, task.complete_till)
            day.done.append(Done(day.now, office.plan.id, number, "completes", tasks=(key,)))


@dataclass(frozen=True)
class DeletesContact:
    client: int
    who: str

    async def happen(self, day: Day) -> None:
        office, client = day.office(self.client), day.office(self.client).plan.id
        await day.nothing_is_on_its_way(client, self.who)
        found = office.amo.by_phone(EntityType.CONTACTS, self.who)
        if found is None:
            return
        uniqs, tasks = uniqs_of(office.amo), tasks_of(office.amo)
        day.world.sandbox.state.delete_card(EntityType.CONTACTS, found.id, office.amo.subdomain)
        gone = tuple((tasks - tasks_of(office.amo)).elements())
        day.done.append(Done(day.now, client, self.who, "deletes", uniqs - uniqs_of(office.amo), gone))


@dataclass(frozen=True)
class Switches:
    client: int
    functions: CrmFunctions

    async def happen(self, day: Day) -> None:
        office = day.office(self.client)
        await asyncio.sleep(BETWEEN)
        await day.nothing_is_on_its_way(office.plan.id)
        office.switches.append((day.now, self.functions))
        day.apply()
        process = day.world.process
        if process.pbx is not None and not process.life.is_over:
            await process.pbx.settings_changed()


@dataclass(frozen=True)
class Trouble:
    fault: Fault
    seconds: float

    async def happen(self, day: Day) -> None:
        fault = replace(self.fault)
        day.world.sandbox.state.faults.add(fault)
        await asyncio.sleep(self.seconds if fault.times is None else max(0.0, DAY_ENDS - day.now))
        fault.times = 0


@dataclass(frozen=True)
class Dies:
    """At the n-th await from now on in which a store or amoCRM is asked, or has answered; 0: in whatever it does. Or
    with the n-th write to amoCRM, which nobody hears the answer to."""

    step: int
    down: float
    in_write: bool = False

    async def happen(self, day: Day) -> None:
        process = day.world.process
        if process.life.is_over:
            return
        if self.step:
            if self.in_write:
                process.life.posts_left = self.step
            else:
                process.life.steps_left = self.step
            for _ in range(600):
                if process.life.is_over:
                    break
                await asyncio.sleep(0.5)
        process.dies()
        await next_one(day, process, self.down)


@dataclass(frozen=True)
class Restarts:
    patience: float
    down: float

    async def happen(self, day: Day) -> None:
        process = day.world.process
        if not process.life.is_over:
            await process.stops(self.patience)
            await next_one(day, process, self.down)


async def next_one(day: Day, after: Process, down: float) -> None:
    await asyncio.sleep(down)
    if day.world.process is after:
        day.world.start()


async def keeps_registered(world: World, phone: Phone) -> None:
    """With each process anew, as phones do that notice."""
    known = 0
    while True:
        await world.up.wait()
        if world.process.number == known:
            await asyncio.sleep(0.5)
            continue
        number = world.process.number
        if (await phone.register()).status == 200:
            known = number
        else:
            await asyncio.sleep(1.0)


# -- the model


def number_in(text: str) -> str:
    found = re.search(r"\+[0-9]+", text)
    assert found is not None, text
    return found[0]


def uniqs_of(amo: Account) -> frozenset[str]:
    return frozenset(str(note.params.get("uniq")) for note in amo.notes.values())


def tasks_of(amo: Account) -> Counter[tuple[str, int]]:
    return Counter((task.text, task.complete_till) for task in amo.tasks.values())


@dataclass(frozen=True)
class Entry:
    """A call as the card must show it."""

    inbound: bool
    talk: int
    created_at: int
    phone: str
    link: str | None
    users: frozenset[int]              # whose it may be: several when one of them was switched off


@dataclass
class OfNumber:
    """What one account must hold for one outside number."""

    number: str
    card: str = ""                     # "contact", "company", "lead" of the beginning
    contacts: int = 0                  # that a person would see
    made: list[tuple[str, int]] = field(default_factory=list)      # contacts of ours: name, created_at
    leads: int = 0                     # that say the number in their name, and are there
    waiting: bool = False
    unsorted: dict[str, Fate] = field(default_factory=dict)        # uniq -> what became of it
    entries: dict[str, Entry] = field(default_factory=dict)
    deals: list[str] = field(default_factory=list)
    tasks: dict[tuple[str, int], bool] = field(default_factory=dict)       # (text, due) -> whether it is completed
    call_back: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        self.contacts = int(self.card == "contact")
        self.leads = int(self.card == "lead")

    @property
    def is_known(self) -> bool:
        return self.contacts > 0 or self.leads > 0 or self.card == "company"

    # what people did

    def is_done(self, done: Done) -> None:
        for uniq in done.uniqs:
            self.entries.pop(uniq, None)
        match done.what:
            case "accepts":
                self._unsorted_becomes(Fate.ACCEPTED)
                self.contacts += 1
                self.leads += 1
            case "declines":
                self._unsorted_becomes(Fate.DECLINED)
            case "completes":
                self.tasks[done.tasks[0]] = True
                self.call_back = None if self.call_back in done.tasks else self.call_back
            case "deletes":
                self.contacts -= 1
                self.made.clear()
                for key in done.tasks:
                    del self.tasks[key]
                self.call_back = None if self.call_back in done.tasks else self.call_back

    def _unsorted_becomes(self, fate: Fate) -> None:
        uniq = next(uniq for uniq, one in self.unsorted.items() if one is Fate.OPEN)
        self.unsorted[uniq], self.waiting = fate, False

    # what a call demands

    def is_called(self, record: CallRecord, then: CrmFunctions, now: CrmFunctions, office: Office) -> None:
        """`then`: the switches when it began; `now`: when it was told."""
        if self.number in then.not_told or self.number in now.not_told:
            return
        inbound, answered = record.direction is Direction.INBOUND, record.answered_at is not None
        rules = then.rules_for(record.dialled) if inbound else then.rules
        wish = CardKind.NOTHING
        if inbound and then.create_on_incoming:
            wish = rules.incoming_answered if answered else rules.incoming_missed
        elif not inbound and then.create_on_outgoing and record.trunk is not None:
            wish = rules.outgoing_answered if answered else rules.outgoing_unanswered
        is_new = self._card(record, wish, now, inbound, rules, office)
        did = record.dialled if inbound else record.trunk or ""

        def said(template: str) -> str:
            return template.replace("{number}", self.number).replace("{did}", did).replace(
                "{name}", record.contact or "")

        if is_new and wish is CardKind.CONTACT and rules.deal and (now.create_on_incoming or now.create_on_outgoing):
            self.deals.append(said(rules.deal.name))
            self.leads += 1
        if self.is_known or self.waiting:
            self.entries[record.id] = self._entry(record, inbound, answered, office, rules)
        ended = record.ended_at
        if inbound and not answered and then.task_on_missed:
            if now.task_on_missed and self.is_known and self.call_back is None:
                due = seconds(ended + timedelta(minutes=rules.call_back_minutes))
                self.call_back = said(rules.call_back_text), due
                self.tasks[self.call_back] = False
        elif is_new and wish is CardKind.CONTACT and then.task_on_new_contact and now.task_on_new_contact:
            due = seconds(ended + timedelta(minutes=rules.fill_in_minutes))
            self.tasks[said(rules.fill_in_text), due] = False
        if answered and then.task_on_missed and now.task_on_missed and self.call_back is not None:
            self.tasks[self.call_back], self.call_back = True, None

    def _card(
        self, record: CallRecord, wish: CardKind, now: CrmFunctions, inbound: bool, rules: CrmRules, office: Office
    ) -> bool:
        """Whether it has made a contact."""
        allowed = now.create_on_incoming if inbound else now.create_on_outgoing
        if wish is CardKind.NOTHING or not allowed or self.is_known or self.waiting:
            return False
        if wish is CardKind.UNSORTED and inbound:
            self.waiting, self.unsorted[record.id] = True, Fate.OPEN
            return False
        self.contacts += 1
        self.made.append((rules.contact_name.replace("{number}", self.number), seconds(record.started_at)))
        return True

    def _entry(
        self, record: CallRecord, inbound: bool, answered: bool, office: Office, rules: CrmRules
    ) -> Entry:
        own = record.crm_user
        if own is None and not answered and len(record.rang) == 1:
            own = office.plan.users[record.rang[0]]
        users = {own} if own is not None else {BOSS}
        if own is None and record.contact is not None:
            users = {card.responsible_user_id for kind in EntityType for card in office.amo.entities[kind].values()
                     if card.name == record.contact} or {77, 78, 79, BOSS}
        if self.unsorted.get(record.id) is Fate.OPEN and not answered:
            users = {record.crm_user if record.crm_user and rules.responsible is Responsible.ANSWERED else BOSS}
        if users & office.away:
            users |= {BOSS}
        link = link_of(record.recording) if record.recording is not None else None
        return Entry(inbound, record.talk_seconds, seconds(record.started_at), self.number, link, frozenset(users))


def seconds(at: datetime) -> int:
    return int(at.timestamp())


def model_of(day: Day, office: Office) -> dict[str, OfNumber]:
    client = office.plan.id
    numbers = {number: OfNumber(number, office.plan.known().get(number, "")) for number in PEOPLE}
    happened: list[tuple[float, Booked | Done]] = [
        (booked.at, booked) for booked in day.world.books.booked.values() if booked.record.client == client]
    happened += [(done.at, done) for done in day.done if done.client == client]
    for at, one in sorted(happened, key=lambda pair: pair[0]):
        if isinstance(one, Done):
            numbers[one.number].is_done(one)
            continue
        record = one.record
        number = record.caller if record.direction is Direction.INBOUND else record.dialled
        if record.id in day.clicked and record.trunk is None:
            continue                   # whoever clicked did not pick up, or no line was free: nobody was called
        if record.direction is not Direction.INTERNAL and number in numbers:
            then = office.functions_at((record.started_at - EPOCH).total_seconds())
            numbers[number].is_called(record, then, office.functions_at(at), office)
    return numbers


# -- what is true in the end


def check(day: Day) -> None:
    assert [(row.said, row.payload) for row in day.world.outbox.rows if row.state is not State.DONE] == []
    assert not day.world.sandbox.state.journal.warnings
    for office in day.offices:
        check_calls(day, office)
        check_account(day, office)
        check_requests(day, office)
        check_patience(day, office)


def check_account(day: Day, office: Office) -> None:
    amo, numbers = office.amo, model_of(day, office)
    entries = {uniq: entry for number in numbers.values() for uniq, entry in number.entries.items()}
    told = day.world.sandbox.state.calls(amo.subdomain)
    assert Counter(entry.uniq for entry in told) == Counter(entries.keys())
    for shown in told:
        due = entries[shown.uniq]
        assert (shown.direction == "inbound", shown.talk_seconds, shown.created_at, shown.phone, shown.link) == (
            due.inbound, due.talk, due.created_at, due.phone, due.link)
        assert shown.user in due.users, (shown, due)
    ours = [one for one in amo.entities[EntityType.CONTACTS].values() if one.id >= 40_000_000]
    accepted = {number for one in amo.unsorted.values() if one.fate is Fate.ACCEPTED
                for number in one.embedded[EntityType.CONTACTS]}
    visible = [one for one in ours if not one.is_hidden and one.id not in accepted]
    assert Counter((*one.phones, one.name, one.created_at) for one in visible) == Counter(
        (number.number, *made) for number in numbers.values() for made in number.made)
    assert {str(one.metadata["uniq"]): one.fate for one in amo.unsorted.values()} == {
        uniq: fate for number in numbers.values() for uniq, fate in number.unsorted.items()}
    assert len(amo.unsorted) == sum(len(number.unsorted) for number in numbers.values())
    of_unsorted = {number for one in amo.unsorted.values() for number in one.embedded[EntityType.LEADS]}
    deals = [one.name for one in amo.entities[EntityType.LEADS].values()
             if one.id >= 40_000_000 and one.id not in of_unsorted]
    assert sorted(deals) == sorted(name for number in numbers.values() for name in number.deals)
    tasks = {key: done for number in numbers.values() for key, done in number.tasks.items()}
    assert tasks_of(amo) == Counter(tasks.keys())
    assert {(task.text, task.complete_till): task.is_completed for task in amo.tasks.values()} == tasks


def check_calls(day: Day, office: Office) -> None:
    """The books have what the callers have seen: each call once, its talk to the second."""
    records = [one.record for one in day.world.books.booked.values()
               if one.record.client == office.plan.id and one.record.id not in day.clicked]
    for one in (one for one in day.driven if one.client == office.plan.id):
        direction = Direction.INBOUND if one.inbound else Direction.OUTBOUND
        number = "" if one.number == "anonymous" else one.number
        mine = [record for record in records if record.direction is direction
                and number == (record.caller if one.inbound else record.dialled)
                and one.began <= (record.started_at - EPOCH).total_seconds() <= one.over]
        lives = [process.life for process in day.world.processes
                 if process.life.began < one.over and (process.life.ended is None or process.life.ended > one.began)]
        is_whole = len(lives) == 1 and lives[0].began < one.began - 1 and is_up_until(
            lives[0], one.over, inbound=one.inbound)
        if is_whole:
            assert len(mine) == 1, (one, mine)
            (record,) = mine
            if record.reason is EndReason.SHUTDOWN:
                continue
            talked = 0.0
            if one.call.answered_at is not None:
                talked = (one.call.ended_at or one.over) - one.call.answered_at
            assert (record.answered_at is not None) == (one.call.answered_at is not None), (one, record)
            assert abs(record.talk_seconds - talked) <= 1.1, (one, record)
        else:
            assert len(mine) <= len(lives), (one, mine)
            saved = one.began + SURELY_SAVED
            if any(life.began < one.began - 1 and is_up_until(life, saved, inbound=one.inbound) for life in lives):
                assert mine, one


def is_up_until(life: Life, at: float, *, inbound: bool) -> bool:
    """Taking such calls until then."""
    ends = (life.ended, life.stops_at if inbound else life.drains_at)
    return all(end is None or end > at for end in ends)


def check_requests(day: Day, office: Office) -> None:
    """Never too many in a second, whichever process sent them; none for a function that was off."""
    recent: deque[float] = deque()
    for sent in day.world.sent:
        if not sent.host.startswith(office.plan.id) or not sent.path.startswith("/api/"):
            continue
        recent.append(sent.at)
        while recent[0] <= sent.at - 1.0:
            recent.popleft()
        assert len(recent) <= PER_SECOND, f"{len(recent)} requests in the second before {sent.at}"
        here = [functions for at, functions in office.switches if at <= sent.at][-1:]
        lately = here + [functions for at, functions in office.switches if sent.at - 600 <= at <= sent.at]
        lately += [office.functions_at(max(0.0, sent.at - 600))]
        may_create = any(one.create_on_incoming or one.create_on_outgoing for one in here)
        match sent.method, sent.path:
            case "POST", "/api/v4/contacts" | "/api/v4/leads" | "/api/v4/leads/unsorted/sip":
                assert may_create, sent
            case "POST" | "PATCH", path if path.startswith("/api/v4/tasks"):
                assert any(one.task_on_missed or one.task_on_new_contact for one in here), sent
            case "POST", "/api/v2/events":
                assert any(one.pop_up for one in lately), sent
            case "GET", _ if "order%5Bupdated_at%5D" in sent.query:
                assert any(one.wants_to_know_callers for one in lately), sent


INVITE = re.compile(rb"INVITE (?:.*\r\n)*?(?:From|f): .*?sip:([^@;>]+)", re.IGNORECASE)


def check_patience(day: Day, office: Office) -> None:
    """From the moment at which the caller's INVITE comes to a process to the INVITE of the first phone."""
    phones = {phone.transport.local for phone in office.phones.values()}
    invites = [(one.at, found[1].decode()) for one in day.world.network.log
               if one.source == SERVER and one.target in phones and (found := INVITE.match(one.data)) is not None]
    came = [(one.at, one.data) for one in day.world.network.log
            if one.source == office.plan.operator and one.target == SERVER and one.fate == "carried"
            and one.data.startswith(b"INVITE ")]
    for one in (one for one in day.driven if one.client == office.plan.id and one.inbound):
        if one.number == "anonymous":
            continue
        first = next((at for at, user in invites if user == one.number and one.began <= at <= one.over), None)
        if first is None:
            continue
        born = max(process.life.began for process in day.world.processes if process.life.began <= first)
        since = min(at for at, data in came if one.call.call_id.encode() in data and at >= born)
        assert first - since <= office.plan.patience + MOMENT, (one, first - since)


# -- to live it


def let_in(day: Day, office: Office, life: float) -> None:
    """A person has allowed our integration into the account."""
    state, plan, now = day.world.sandbox.state, office.plan, wall()
    one = plan.integration
    code = state.tokens.issue_code(state.grant(office.amo, one.client_id), state.clock.now())
    row = state.tokens.exchange(
        {"client_id": one.client_id, "client_secret": one.client_secret, "redirect_uri": one.redirect_uri,
         "grant_type": "authorization_code", "code": code}, state.clock.now())
    pair = TokenPair(str(row["access_token"]), str(row["refresh_token"]), now, now + timedelta(seconds=life),
                     now + timedelta(days=90))
    base = f"https://{plan.id}.amocrm.test"
    day.world.tokens.rows[plan.id] = Connection(
        plan.id, one.client_id, base, base, plan.account_id, "api-a.amocrm.test", pair, now)


async def sees_to_the_connection(day: Day) -> None:
    """Each quarter of an hour the administrator looks whether the account has thrown us out, and lets us in again."""
    while True:
        await asyncio.sleep(900)
        for office in day.offices:
            row = day.world.tokens.rows.get(office.plan.id)
            connections = day.world.process.connections
            if row is None or connections is None or row.state is ConnectionState.CONNECTED:
                continue
            state, client_id = day.world.sandbox.state, office.plan.integration.client_id
            code = state.tokens.issue_code(state.grant(office.amo, client_id), state.clock.now())
            connections.code_arrived(code, f"{office.amo.subdomain}.amocrm.test", "", client_id)


@asynccontextmanager
async def opened(plans: Sequence[Plan], seed: int) -> AsyncIterator[Day]:
    sandbox = in_process_sandbox(SandboxSeed(tuple(plan.seed() for plan in plans)), lambda: wall().timestamp())
    sandbox.state.faults.seed(seed)
    network = Network(seed)
    async with asyncio.TaskGroup() as tasks:
        world = World(network, sandbox, Directory(), tasks)
        day = Day(world, [])
        for plan in plans:
            trunk = Phone("operator", SERVER, does=Answers(after=3.0), seed=90 + plan.index).on(network, plan.operator)
            phones = {number: Phone(number, SERVER, password=PASSWORD, seed=int(number)).on(
                network, Address(f"10.0.2.{number}", 5060)) for number in plan.extensions}
            amo = sandbox.state.account(plan.id)
            day.offices.append(Office(plan, amo, trunk, phones, [(float("-inf"), plan.functions)]))
            if plan.by_oauth:
                let_in(day, day.offices[-1], plan.token_seconds)
        day.apply()
        keepers = [tasks.create_task(keeps_registered(world, phone))
                   for office in day.offices for phone in office.phones.values()]
        keepers.append(tasks.create_task(sees_to_the_connection(day)))
        world.start()
        try:
            yield day
        finally:
            for keeper in keepers:
                keeper.cancel()
            world.process.dies()
            await asyncio.sleep(CLOSING)
            for office in day.offices:
                for phone in (office.trunk, *office.phones.values()):
                    phone.close()


CLOSING = 40.0                         # seconds: what a dead process leaves on its way is over


async def live(plans: Sequence[Plan], events: Sequence[tuple[float, Happens]], seed: int) -> Day:
    async with opened(plans, seed) as day:
        async with asyncio.TaskGroup() as happening:
            for at, one in events:
                happening.create_task(happens(day, at, one))
        async with asyncio.timeout(SETTLES_WITHIN):
            for office in day.offices:
                await day.nothing_is_on_its_way(office.plan.id)
        await asyncio.sleep(10)
        for office in day.offices:
            await day.nothing_is_on_its_way(office.plan.id)
    return day


async def happens(day: Day, at: float, one: Happens) -> None:
    await asyncio.sleep(at)
    await one.happen(day)


# -- random days

kinds = st.sampled_from((CardKind.CONTACT, CardKind.CONTACT, CardKind.UNSORTED, CardKind.NOTHING))
outgoing = st.sampled_from((CardKind.CONTACT, CardKind.NOTHING))
rules = st.builds(
    CrmRules, kinds, kinds, outgoing, outgoing, st.sampled_from(("{number}", "Клиент {number}")),
    st.sampled_from(Responsible), st.sampled_from(("", "звонок")),
    st.sampled_from((None, DealRule(), DealRule(1_000, 1_002, "Сделка {number}"))),
    call_back_minutes=st.sampled_from((15, 60)),
)
mostly = st.sampled_from((True, True, True, False))


def functions_of(index: int) -> st.SearchStrategy[CrmFunctions]:
    group = f"+7495111224{index}"
    return st.builds(
        CrmFunctions, mostly, mostly, mostly, mostly, mostly, mostly, mostly, rules,
        st.one_of(st.just(()), rules.map(lambda one: ((group, one),))), st.sampled_from(((), (SHY,), (SHY, NEWER))),
    )


def plans_of(index: int) -> st.SearchStrategy[Plan]:
    return st.builds(Plan, st.just(index), functions_of(index), st.booleans(), st.sampled_from((0.5, 1.5)),
                     st.sampled_from((86_400.0, 900.0)))


offices = st.one_of(st.tuples(plans_of(0)), st.tuples(plans_of(0), plans_of(1)))
client = st.integers(0, 1)
talks = st.sampled_from((1.0, 4.0, 4.0, 20.0, LONGEST_TALK))
rings = st.sampled_from((1.0, 3.0, 12.0, 30.0, 30.0))
behaviours: st.SearchStrategy[Behaviour] = st.sampled_from(
    (Answers(1.0), Answers(1.0), Answers(3.0, 5.0), Answers(2.0), Rejects(486), Rejects(603), Rings()))
people = st.sampled_from(PEOPLE)
calls_in = st.builds(ComesIn, client, st.one_of(people, people, people, st.sampled_from(("anonymous", "1234"))),
                     st.integers(0, 2), st.integers(0, 1), st.tuples(behaviours, behaviours, behaviours), rings, talks,
                     st.sampled_from(("", "", "", "blind", "attended", "asks")))
calls_out = st.builds(GoesOut, client, people, st.integers(0, 2), st.integers(0, 2),
                      st.sampled_from((Answers(2.0), Answers(2.0), Rejects(486), Rings())), rings, talks, st.just(""))
clicks = st.builds(Clicks, client, people, st.integers(0, 2), behaviours,
                   st.sampled_from((Answers(2.0), Answers(2.0), Rejects(486), Rings())), talks)
acts = st.one_of(
    st.builds(Leaves, client, st.sampled_from((78, 79))), st.builds(Moves, client, st.integers(2, 4)),
    st.builds(JumpsClock, st.sampled_from((HOUR, -HOUR))), st.builds(SeesToUnsorted, client, st.booleans()),
    st.builds(CompletesTask, client, st.integers(0, 3)), st.builds(DeletesContact, client, people),
    client.flatmap(lambda index: st.builds(Switches, st.just(index), functions_of(index))),
)
faults = st.builds(
    replace,
    st.sampled_from((
        Fault(act=Act.RESET), Fault(act=Act.RESET), Fault(act=Act.CUT), Fault(act=Act.SILENCE),
        Fault(act=Act.ANSWER, status=500), Fault(act=Act.ANSWER, status=502, body=HTML),
        Fault(act=Act.ANSWER, status=504), Fault(act=Act.ANSWER, status=200, body=HTML),
        Fault(act=Act.ANSWER, status=200, body=""), Fault(delay=1.0), Fault(delay=5.0), Fault(delay=60.0),
    )),
    path=st.sampled_from(("/api/*", "/api/*", "/api/v4/calls", "/api/v4/contacts", "/api/v4/tasks*", "/api/v4/leads*",
                          "/api/v4/*/notes*", "/oauth2/*")),
    method=st.sampled_from(("*", "POST", "POST", "GET", "PATCH")),
    committed=st.booleans(),
    probability=st.sampled_from((1.0, 1.0, 0.5, 0.2)),
    times=st.sampled_from((1, 1, 2, 3, None)),
)
refusals = st.sampled_from((
    Fault("/api/*", act=Act.ANSWER, status=429, times=3), Fault("/api/*", act=Act.ANSWER, status=402, times=1),
    Fault("/api/*", act=Act.ANSWER, status=401, times=1), Fault("/api/*", act=Act.ANSWER, status=401, times=2),
    Fault("/api/*", act=Act.ANSWER, status=403, body=HTML, times=1),
))
some_fault = st.one_of(faults, faults, faults, faults, refusals)
lost = st.builds(                      # done, or about to be, and its sender does not hear of it
    replace,
    st.sampled_from((Fault(act=Act.RESET, committed=True), Fault(act=Act.ANSWER, status=502, body=HTML, committed=True),
                     Fault(act=Act.SILENCE, committed=True), Fault(delay=20.0))),
    path=st.sampled_from(("/api/v4/calls", "/api/v4/contacts", "/api/v4/tasks", "/api/v4/leads", "/api/v4/*/sip",
                          "/api/v4/*/notes")),
    method=st.just("POST"), times=st.integers(1, 3),
)
troubles = st.builds(Trouble, st.one_of(some_fault, lost, lost), st.sampled_from((20.0, 120.0, 600.0)))
deaths = st.one_of(
    st.builds(Dies, st.sampled_from((0, 1, 2, 3, 5, 8, 13, 21, 50, 200)), st.sampled_from((2.0, 5.0, 40.0))),
    st.builds(Dies, st.integers(1, 4), st.sampled_from((2.0, 5.0)), st.just(True)),
)
restarts = st.builds(Restarts, st.sampled_from((0.0, 10.0)), st.sampled_from((2.0, 20.0)))
moments = st.one_of(st.floats(5.0, 200.0), st.floats(5.0, DAY_ENDS)).map(lambda at: round(at, 2))


def at_times(what: st.SearchStrategy[Happens], least: int, most: int) -> st.SearchStrategy[list[tuple[float, Happens]]]:
    return st.lists(st.tuples(moments, what), min_size=least, max_size=most)


events = st.tuples(
    at_times(st.one_of(calls_in, calls_in, calls_in, calls_out, clicks, st.builds(Inside, client, talks)), 6, 24),
    at_times(acts, 0, 8), at_times(troubles, 2, 10), at_times(st.one_of(deaths, deaths, deaths, restarts), 0, 4),
).map(lambda parts: sorted((one for part in parts for one in part), key=lambda one: one[0]))


@settings(
    max_examples=EXAMPLES or 40, derandomize=not EXAMPLES, deadline=None, database=None,
    suppress_health_check=list(HealthCheck), phases=set(Phase) - {Phase.explain},
)
@given(plans=offices, day=events, seed=st.integers(0, 2**16))
def test_amocrm_holds_what_the_day_demands(
    plans: tuple[Plan, ...], day: list[tuple[float, Happens]], seed: int
) -> None:
    with capture_logs(), asyncio.Runner(loop_factory=lambda: VirtualLoop(3 * 24 * HOUR)) as runner:
        lived = runner.run(live(plans, day, seed))
    event(f"{len(lived.world.books.booked) // 5 * 5} calls or more")
    event(f"{len(lived.world.processes)} processes")
    check(lived)
