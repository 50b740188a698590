"""A whole office on the in-memory network: real core, agent, registrar and call scripts; fake phones, CRM and books."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import ip_network

from b2bua.calls.dial import StepDialler
from b2bua.calls.errands import Errands
from b2bua.calls.ladder import unpack
from b2bua.calls.ladder_keeper import LadderKeeper
from b2bua.calls.standing import StandingCalls
from b2bua.calls.switchboard import Limits, Switchboard
from b2bua.cdr import CallId, CallRecord, ClientId
from b2bua.crm.lookup import Lookup
from b2bua.crm.port import Contact, Crm, CrmError, CrmWrite, Delivered, EntityKind, Made, PopUp
from b2bua.crm.users import KnownUsers, effective
from b2bua.directory import Client, CrmAccount, Directory, Extension, Group, Number, Trunk
from b2bua.media.none import PassThroughPlane
from b2bua.media.plane import MediaPlane
from b2bua.net.resolver import Answers as DnsAnswers
from b2bua.net.resolver import DnsResolver, Records
from b2bua.sip.admission import Verdict
from b2bua.sip.auth import DigestPolicy, DigestServer, ha1
from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Address, Flow
from b2bua.sip.message import Request
from b2bua.store.call_traces import CallTrace
from b2bua.store.standing import LeftBehind, StandingCall
from b2bua.ua.agent import UserAgent
from b2bua.ua.ladders import Ladders
from b2bua.ua.qualifier import Qualifier
from b2bua.ua.registrar import Registrar
from b2bua.ua.trunk_table import TrunkTable
from tests.support.network import Conditions, Network
from tests.support.phone import Answers, Behaviour, Phone, PhoneCall
from tests.support.virtual_loop import VirtualLoop

ACME = ClientId("acme")
DID = "+74951112233"
IVAN, MARIA = "+79161234567", "+79265554433"       # outside
SERVER = Address("10.0.0.1", 5060)
OPERATOR = Address("10.0.1.1", 5060)
REALM = "smartswitch"
PASSWORD = "secret-of-a-phone"
USERS = {"101": 77, "102": 78, "103": 79}


Remarking = Callable[[str, str, str], None]


def _no_remark(source: str, target: str, text: str) -> None:
    """To nobody."""


def _in_words(contact: Contact) -> str:
    return contact.name + (f", user {contact.responsible}" if contact.responsible else "")


def _entry(record: CallRecord, writes: Sequence[CrmWrite]) -> str:
    """What the books say of a call, in a few words."""
    by = f" by {record.extension}" if record.extension and record.answered_at else ""
    return f"{record.disposition.value}{by}; {record.reason.value}" + ("; note to amoCRM" if writes else "")


@dataclass
class FakeCrm:
    """Knows some numbers; answers after `delay` seconds, with an error while it is `ill`."""

    contacts: dict[str, Contact] = field(default_factory=dict)
    delay: float = 0.0
    ill: bool = False
    asked: list[str] = field(default_factory=list)
    pop_ups: list[PopUp] = field(default_factory=list)
    remark: Remarking = _no_remark

    async def find_contact(self, phone: str) -> Contact | None:
        self.asked.append(phone)
        self.remark("S", "amoCRM", f"who is {phone}?")
        await asyncio.sleep(self.delay)
        if self.ill:
            raise CrmError("ill")
        contact = self.contacts.get(phone)
        self.remark("amoCRM", "S", "nobody" if contact is None else _in_words(contact))
        return contact

    async def deliver(self, write: CrmWrite, known: tuple[Made, ...] = (), *, repeated: bool = False) -> Delivered:
        raise AssertionError("scenarios deliver nothing: the outbox has its own tests")

    async def pop_up(self, pop_up: PopUp) -> None:
        self.pop_ups.append(pop_up)
        self.remark("S", "amoCRM", f"pop-up to {', '.join(f'user {user}' for user in pop_up.users)}")

    async def use(self, directory: Directory) -> None:
        """There is only this one."""

    def alarms(self) -> list[str]:
        return []

    def crm_of(self, client: ClientId) -> Crm | None:
        return self

    def knows(self, phone: str, name: str, responsible: int | None = None) -> None:
        self.contacts[phone] = Contact(EntityKind.CONTACT, 9001, name, responsible)


@dataclass
class FakeBooks:
    """Journal and directory in one: what was finished, in order."""

    directory: Directory
    users: dict[ClientId, KnownUsers] = field(default_factory=dict)
    records: list[CallRecord] = field(default_factory=list)
    writes: list[CrmWrite] = field(default_factory=list)
    standing: dict[CallId, LeftBehind] = field(default_factory=dict)
    delay: float = 0.0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    remark: Remarking = _no_remark

    async def finish(self, record: CallRecord, writes: Sequence[CrmWrite]) -> None:
        await asyncio.sleep(self.delay)
        self.records.append(record)
        self.writes.extend(writes)
        self.news.set()
        self.remark("S", "S", _entry(record, writes))

    async def save(self, standing: Sequence[StandingCall], now: datetime) -> None:
        self.standing.update({call.record.id: LeftBehind(call, now) for call in standing})
        self.standing = {call: replace(left, seen_at=now) for call, left in self.standing.items()}

    async def tidy(self) -> int:
        for record in self.records:
            self.standing.pop(record.id, None)
        return len(self.standing)

    async def left_behind(self) -> Sequence[LeftBehind]:
        return list(self.standing.values())

    async def spilled_before_is_back(self) -> None:
        """Nothing was."""

    async def load(self) -> tuple[Directory, int]:
        return effective(self.directory, self.users).directory, 1

    def alarms(self) -> Sequence[str]:
        return ()


@dataclass
class FakeTraces:
    """What was said in calls, as it was kept."""

    kept: dict[CallId, CallTrace] = field(default_factory=dict)

    async def save(self, traces: Sequence[CallTrace]) -> None:
        self.kept.update({one.call: one for one in traces})


@dataclass
class FakeDns:
    """Knows what a scenario wrote down."""

    records: dict[tuple[str, str], Records] = field(default_factory=dict)

    async def query(self, name: str, kind: str) -> DnsAnswers:
        return DnsAnswers(self.records.get((name, kind), ()), 30.0)


@dataclass
class Office:
    """What a scenario handles."""

    network: Network
    pbx: Switchboard
    agent: UserAgent
    crm: FakeCrm
    books: FakeBooks
    trunk: Phone
    trunks: TrunkTable
    dns: FakeDns
    standing: StandingCalls
    ladders: Ladders
    keeper: LadderKeeper
    traces: FakeTraces
    _phones: dict[str, Phone] = field(default_factory=dict)

    async def phone(
        self, number: str, does: Behaviour = Answers(), *, host: str = "", registered: bool = True
    ) -> Phone:
        """A phone of this extension; `host` for a second one of the same."""
        phone = Phone(number, SERVER, password=PASSWORD, does=does, seed=len(self._phones) + 1)
        phone.on(self.network, Address(host or f"10.0.2.{number}", 5060))
        if registered:
            response = await phone.register()
            assert response.status == 200, response
        self._phones[host or number] = phone
        return phone

    async def record(self, count: int = 1) -> CallRecord:
        """The last record, when there are so many, and what was on the wire then has arrived."""
        while len(self.books.records) < count:
            self.books.news.clear()
            await self.books.news.wait()
        await asyncio.sleep(1)
        assert len(self.books.records) == count
        return self.books.records[-1]

    async def all_quiet(self) -> None:
        """Let everything that lingers (RFC 3261 timers, 32 s) come to its end; nothing may be left."""
        for phone in self._phones.values():
            await phone.register(expires=0)
        await asyncio.sleep(100)
        assert not self.pbx.live_calls()
        assert self.agent.core.session_count == 0
        assert self.agent.leg_count == 0
        assert self.pbx.turns.talking == 0
        assert set(self.traces.kept) == {record.id for record in self.books.records}
        assert all(unpack(one.steps) for one in self.traces.kept.values())
        assert len(self.ladders) == 0

    def change(self, **changes: object) -> None:
        """Another directory, as after `apply`."""
        self.books.directory = replace(self.books.directory, **changes)  # type: ignore[arg-type]


def directory() -> Directory:
    """One client with three extensions, a group, a trunk and a number that goes to 102."""
    def extension(number: str) -> Extension:
        hashes = {"MD5": ha1("MD5", number, REALM, PASSWORD)}
        return Extension(ACME, number, number, hashes, name=f"Employee {number}", crm_user=USERS[number])

    account = CrmAccount("http://crm.test", "token")
    return Directory(
        clients=(Client(ACME, "Acme", crm=account),),
        extensions=tuple(extension(number) for number in USERS),
        trunks=(
            Trunk(ACME, "operator", OPERATOR.host, OPERATOR.port, networks=(ip_network("10.0.1.0/24"),), caller_id=DID),
        ),
        groups=(Group(ACME, "600", ("102", "103")),),
        numbers=(Number(ACME, DID, "102", ring_seconds=20),),
    )


@asynccontextmanager
async def open_office(
    *, seed: int = 1, conditions: Conditions = Conditions(), media: MediaPlane | None = None, limits: Limits = Limits(),
    qualify_every: float = 0.0, crm: FakeCrm | None = None,
) -> AsyncIterator[Office]:
    network = Network(seed, conditions)
    crm, books = crm or FakeCrm(remark=network.remark), FakeBooks(directory(), remark=network.remark)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with AsyncExitStack() as parts:
        lookup = await parts.enter_async_context(Lookup(crm.crm_of))
        errands = await parts.enter_async_context(Errands())
        calls = await parts.enter_async_context(asyncio.TaskGroup())
        door: list[Switchboard] = []
        randomness = random.Random(seed)

        def admit(request: Request, flow: Flow) -> Verdict:
            return door[0].door.admit(request, flow)

        ladders, traces = Ladders(), FakeTraces()
        agent = UserAgent(UserAgentCore(CoreConfig(), randomness, admit), ladders=ladders)
        keeper = LadderKeeper(ladders, traces, agent.now)
        parts.callback(agent.close)
        dns = FakeDns()
        resolver = DnsResolver(dns, randomness)
        registrar = Registrar(books.directory, DigestServer(DigestPolicy(realm=REALM), b"k" * 32))
        trunks = TrunkTable(agent, resolver, randomness)
        trunks.use(books.directory)
        standing = StandingCalls(books, loop.wall)
        pbx = Switchboard(
            agent,
            directory=books.directory,
            registrar=registrar,
            trunks=trunks,
            dialler=StepDialler(agent, registrar, trunks, resolver),
            media=media or PassThroughPlane(),
            lookup=lookup,
            crm=crm,
            journal=books,
            books=books,
            recordings=None,
            standing=standing,
            errands=errands,
            calls=calls,
            clock=loop.wall,
            delivered=lambda: None,
            ladders=keeper,
            limits=limits,
        )
        door.append(pbx)
        qualifier = Qualifier(registrar, agent, randomness, every=qualify_every)
        agent.serve(pbx.door, [network.attach(SERVER, agent)])
        trunk = Phone("operator", SERVER, does=Answers(after=3.0), seed=99).on(network, OPERATOR)
        running = calls.create_task(trunks.run())
        keeping = calls.create_task(keeper.run())
        qualifying = calls.create_task(qualifier.run())
        office = Office(network, pbx, agent, crm, books, trunk, trunks, dns, standing, ladders, keeper, traces)
        try:
            yield office
        finally:
            await pbx.drain(0)
            running.cancel()
            keeping.cancel()
            qualifying.cancel()
            for phone in (trunk, *office._phones.values()):
                phone.close()


@asynccontextmanager
async def faultless_office(media: MediaPlane | None = None) -> AsyncIterator[Office]:
    """One in which nothing may break us, not even where the call goes on all the same."""
    async with open_office(media=media) as office:
        yield office
        assert office.agent.counters.faults == 0
        assert office.pbx.counters.faults == 0


async def call_in(office: Office) -> tuple[PhoneCall, PhoneCall]:
    """Ivan calls, Boris (102) answers: how the two see it."""
    boris = await office.phone("102", Answers(after=1.0))
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    await asyncio.sleep(5)
    return outside, boris.calls[-1]


def has(record: CallRecord, *sentences: str) -> bool:
    """Each of them somewhere in why the call went as it went."""
    return all(any(sentence in reason for reason in record.why) for sentence in sentences)
