"""Whole calls through core, agent, switchboard and scripts, with far ends that keep to no rule: whatever comes on
either leg, and in whatever order, nothing breaks, nothing is left, and each call is in the books once.

FUZZ_EXAMPLES=N looks at N calls that nobody has seen before, where the default is the same few ones each time.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from b2bua.calls.call import CallInProgress
from b2bua.cdr import CallRecord, Disposition, EndReason
from b2bua.control import AlreadyCalling, Draining
from b2bua.sip.effects import Address
from b2bua.sip.invite_session import InviteSession
from b2bua.ua.leg import Leg
from tests.support.anchored import AnchoredPlane
from tests.support.network import Conditions
from tests.support.office import ACME, DID, OPERATOR, PASSWORD, SERVER, USERS, Office, directory, open_office
from tests.support.phone import Rejects
from tests.support.rogue import Rogue, Twist, sdp_of
from tests.support.virtual_loop import VirtualLoop

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
MARIA = "+79265554433"
ANNA = "+79161234567"
PARTS_OF_A_CALL = (InviteSession, Leg, CallInProgress)
TRANSACTION = 40.0                        # virtual seconds: longer than one lives
LINGER = 400.0                            # virtual seconds: longer than anybody rings and any transaction lives


class Kind(Enum):
    INBOUND = ("operator", DID, "102")
    OUTBOUND = ("101", MARIA, "operator")
    INTERNAL = ("101", "102", "102")
    GROUP = ("101", "600", "102")         # 103 rings too, and says nothing
    CLICKED = ("101", "8 926 555-44-33", "operator")        # 101 is rung first


class Sdp(Enum):
    NONE = ""
    FINE = "sendrecv"
    HOLD = "sendonly"
    OTHER_CODEC = "18"
    JUNK = "v=0 junk"
    NO_MEDIA = "v=0\r\no=- 1 1 IN IP4 10.9.9.9\r\ns=-\r\nc=IN IP4 10.9.9.9\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\n"

    def of(self, rogue: Rogue) -> bytes:
        match self:
            case Sdp.FINE | Sdp.HOLD:
                return sdp_of(rogue.here, direction=self.value)
            case Sdp.OTHER_CODEC:
                return sdp_of(rogue.here, codec=int(self.value))
            case _:
                return self.value.encode()


# -- what may happen

@dataclass
class World:
    office: Office
    media: AnchoredPlane
    kind: Kind
    people: list[Rogue] = field(default_factory=list)       # caller, callee, and who rings besides
    may_be_cut_off: bool = False          # whether networks fail in this one at all
    rude: bool = False                    # somebody did not answer what it was asked
    strangers: bool = False               # somebody may be none of ours any more, who gets no answer outside of dialogs
    unheard: set[str] = field(default_factory=set)          # branches of what had no answer in time
    clicks: int = 0

    def call(self, *headers: str, sdp: Sdp = Sdp.FINE, twist: Twist | None = None) -> None:
        caller, (_, number, _) = self.people[0], self.kind.value
        if self.kind is Kind.CLICKED:
            self.clicks += 1
            with suppress(AlreadyCalling, Draining, LookupError):
                self.office.pbx.click2call(ACME, caller.user, number, str(self.clicks))
            return
        caller.call(number, ANNA if self.kind is Kind.INBOUND else caller.user, sdp.of(caller), *headers, twist=twist)


class Happens(Protocol):
    async def happen(self, world: World) -> None: ...


@dataclass(frozen=True)
class Calls:
    sdp: Sdp
    headers: tuple[str, ...]
    twist: Twist | None

    async def happen(self, world: World) -> None:
        world.call(*self.headers, sdp=self.sdp, twist=self.twist)


@dataclass(frozen=True)
class Responds:
    """To the INVITE."""

    who: int
    status: int
    sdp: Sdp
    tag: int
    reliable: bool
    twist: Twist | None

    async def happen(self, world: World) -> None:
        who = world.people[self.who]
        who.respond(self.status, self.tag, self.sdp.of(who), reliable=self.reliable, twist=self.twist)


@dataclass(frozen=True)
class Asks:
    who: int
    method: str
    sdp: Sdp
    headers: tuple[str, ...]
    skip: int
    tag: str
    twist: Twist | None

    async def happen(self, world: World) -> None:
        who = world.people[self.who]
        who.ask(self.method, self.sdp.of(who), *self.headers, skip=self.skip, tag=self.tag, twist=self.twist)


@dataclass(frozen=True)
class AnswersRequest:
    who: int
    status: int
    sdp: Sdp
    twist: Twist | None

    async def happen(self, world: World) -> None:
        who = world.people[self.who]
        who.answer(self.status, self.sdp.of(who), self.twist)


@dataclass(frozen=True)
class Acknowledges:
    who: int
    sdp: Sdp
    skip: int

    async def happen(self, world: World) -> None:
        who = world.people[self.who]
        who.acknowledge(self.sdp.of(who), self.skip)


@dataclass(frozen=True)
class Pracks:
    right: bool

    async def happen(self, world: World) -> None:
        world.people[0].prack(right=self.right)


@dataclass(frozen=True)
class Cancels:
    async def happen(self, world: World) -> None:
        world.people[0].cancel()


@dataclass(frozen=True)
class HangsUpInThePage:
    async def happen(self, world: World) -> None:
        for call in world.office.pbx.live_calls():
            world.office.pbx.hang_up(ACME, call.id)


@dataclass(frozen=True)
class TransfersInThePage:
    target: str

    async def happen(self, world: World) -> None:
        for call in world.office.pbx.glance(ACME, 10).calls:
            world.office.pbx.transfer(ACME, call.id, self.target, "operator")


@dataclass(frozen=True)
class Repeats:
    who: int
    back: int

    async def happen(self, world: World) -> None:
        world.people[self.who].repeat(self.back)


@dataclass(frozen=True)
class Manners:
    who: int
    polite: bool

    async def happen(self, world: World) -> None:
        world.people[self.who].polite = self.polite
        world.rude = world.rude or not self.polite


@dataclass(frozen=True)
class IsCutOff:
    """Its network is gone for a while."""

    who: int
    seconds: float

    async def happen(self, world: World) -> None:
        if not world.may_be_cut_off:
            return
        world.people[self.who].unplug()
        await asyncio.sleep(self.seconds)
        world.people[self.who].plug()


@dataclass(frozen=True)
class Later:
    seconds: float
    what: Happens

    async def happen(self, world: World) -> None:
        await asyncio.sleep(self.seconds)
        await self.what.happen(world)


@dataclass(frozen=True)
class Behind:
    """How the CRM and the database are from now on."""

    crm: float
    ill: bool
    database: float

    async def happen(self, world: World) -> None:
        world.office.crm.delay, world.office.crm.ill = self.crm, self.ill
        world.office.books.delay = self.database


@dataclass(frozen=True)
class RelayDies:
    async def happen(self, world: World) -> None:
        world.media.dies()


@dataclass(frozen=True)
class Reloads:
    """What an administrator applies in the midst of it: of each list so many are left, until the next time."""

    extensions: int
    trunks: int
    numbers: int

    async def happen(self, world: World) -> None:
        whole = directory()
        world.office.change(
            extensions=whole.extensions[: self.extensions], trunks=whole.trunks[: self.trunks],
            numbers=whole.numbers[: self.numbers], groups=whole.groups if self.extensions == len(USERS) else (),
        )
        world.strangers = True
        await world.office.pbx.settings_changed()


@dataclass(frozen=True)
class ShutsDown:
    patience: float

    async def happen(self, world: World) -> None:
        await world.office.pbx.drain(self.patience)


NAMES = ("Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Content-Type", "Content-Length", "Require",
         "Supported", "RSeq", "RAck", "Session-Expires", "Min-SE", "Record-Route", "Route", "Retry-After", "Reason",
         "Replaces", "Refer-To", "P-Asserted-Identity", "Allow", "Content-Encoding", "Proxy-Authenticate")
VALUES = (None, "", "x", "<", "0", "-1", "7", "4294967296", "1 INVITE", "9 INVITE", "2 BYE", "1 1 INVITE", "*",
          "<sip:else@10.9.9.9>", "<sip:else@10.9.9.9;lr>;tag=else", "<tel:1>", "<sips:1@10.9.9.9>;tag=x", "100rel",
          "timer", "nonsense", "90;refresher=uac", "90;refresher=uas", "100000;refresher=", "text/plain", "gzip",
          "multipart/mixed;boundary=b", "SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKelse", "SIP/2.0/UDP x:0;branch=",
          "SIP;cause=x", 'Digest realm="x", nonce="x"', "a;to-tag=b;from-tag=c", "\N{SNOWMAN}")
EXTRAS = ((), ("Supported: 100rel, timer, replaces",), ("Require: 100rel",), ("Session-Expires: 90;refresher=uas",),
          ("Session-Expires: 90;refresher=uac", "Supported: timer"), ("Require: nonsense",), ("Expires: 1",),
          ("Refer-To: <sip:103@10.0.0.1>",), ("Refer-To: <sip:+79265554433@10.0.0.1>",), ("Refer-To: <<",),
          ("Refer-To: <sip:x@10.0.0.1?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>",), ("Replaces: a;to-tag=b;from-tag=c",),
          ("Allow: INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO",))
METHODS = ("INVITE", "INVITE", "BYE", "UPDATE", "UPDATE", "INFO", "REFER", "REFER", "PRACK", "MESSAGE", "NOTIFY",
           "OPTIONS", "CANCEL", "SUBSCRIBE", "XYZZY")
STATUSES = (180, 200, 200, 183, 100, 181, 199, 202, 302, 401, 407, 408, 422, 480, 481, 486, 488, 491, 500, 503, 603,
            699)

twists = st.one_of(st.none(), st.none(), st.none(), st.builds(Twist, st.sampled_from(NAMES), st.sampled_from(VALUES)))
extras = st.one_of(st.just(()), st.just(()), st.sampled_from(EXTRAS))
sdps = st.sampled_from((Sdp.FINE, Sdp.NONE, Sdp.FINE, Sdp.FINE, *Sdp))
somebody = st.sampled_from((0, 1, 0, 1, 2))
responds = st.builds(Responds, st.sampled_from((1, 1, 2, 0)), st.sampled_from(STATUSES), sdps,
                     st.sampled_from((0, 0, 1, 2)), st.booleans(), twists)
asks = st.builds(Asks, somebody, st.sampled_from(METHODS), sdps, extras, st.sampled_from((1, 1, 1, 0, -1, 70_000)),
                 st.sampled_from(("", "", "", "", "", "wrong")), twists)
events = st.builds(Later, st.sampled_from((0.01, 0.0, 0.003, 0.01, 0.02, 0.6, 0.7, 2.0, 5.0, 35.0)), st.one_of(
    responds, responds, responds, asks, asks, asks, asks, asks, asks, asks, asks,
    st.builds(AnswersRequest, somebody, st.sampled_from(STATUSES), sdps, twists),
    st.builds(Acknowledges, somebody, sdps, st.sampled_from((0, 0, 1, -1))),
    st.builds(Pracks, st.booleans()),
    st.builds(Cancels),
    st.builds(HangsUpInThePage),
    st.builds(TransfersInThePage, st.sampled_from(("103", "103", "600", "+79265554433", "101", "abc"))),
    st.builds(Repeats, somebody, st.integers(0, 12)),
    st.builds(Manners, somebody, st.booleans()),
    st.builds(IsCutOff, somebody, st.sampled_from((0.1, 5.0, 40.0))),
    st.builds(Calls, sdps, extras, twists),
    st.builds(Behind, st.sampled_from((0.0, 1.0, 5.0)), st.booleans(), st.sampled_from((0.0, 0.5))),
    st.builds(RelayDies),
    st.builds(Reloads, st.integers(0, len(USERS)), st.integers(0, 1), st.integers(0, 1)),
))
closings = st.one_of(
    st.just(()), st.just(()), st.tuples(st.builds(ShutsDown, st.sampled_from((0.0, 3.0))), events, events)
)
RINGS = (Later(0.1, Responds(1, 180, Sdp.NONE, 0, reliable=False, twist=None)),)
ANSWERS = (*RINGS, Later(0.1, Responds(1, 200, Sdp.FINE, 0, reliable=False, twist=None)))
PICKS_UP = (Later(0.1, Responds(0, 200, Sdp.FINE, 0, reliable=False, twist=None)),)     # who has clicked
EARLY = (Later(0.1, Responds(1, 183, Sdp.FINE, 0, reliable=True, twist=None)),)
HELD = (*ANSWERS, Later(0.1, Asks(0, "INVITE", Sdp.HOLD, (), 1, "", None)))
REFERRED = (*ANSWERS, Later(0.1, Asks(1, "REFER", Sdp.NONE, ("Refer-To: <sip:103@10.0.0.1>",), 1, "", None)))
MOVED = (*REFERRED, Later(0.1, Responds(2, 200, Sdp.FINE, 0, reliable=False, twist=None)))
SENT_ON = (*ANSWERS, Later(0.1, TransfersInThePage("103")))
SENT = (*SENT_ON, Later(0.1, Responds(2, 200, Sdp.FINE, 0, reliable=False, twist=None)))
openings = st.sampled_from(((), RINGS, EARLY, ANSWERS, ANSWERS, ANSWERS, ANSWERS, HELD, HELD, REFERRED, MOVED, MOVED,
                            SENT_ON, SENT))
fine_call = st.just(Calls(Sdp.FINE, (), None))
calls = st.one_of(fine_call, fine_call, fine_call, st.builds(Calls, sdps, extras, st.none()))
GOOD, CUT = Conditions(), Conditions(latency=0.003)      # CUT: IsCutOff is what it says
BAD = Conditions(jitter=0.01, loss=0.05, duplication=0.05, reordering=0.05)


# -- one example

@settings(
    max_examples=EXAMPLES or 700, derandomize=not EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow],
    phases=set(Phase) - {Phase.explain},                # which takes a minute, and has nothing to say here
)
@given(
    kind=st.sampled_from(Kind),
    seed=st.integers(0, 99),
    conditions=st.sampled_from((GOOD, GOOD, GOOD, BAD, CUT)),
    first=calls,
    opening=openings,
    happenings=st.one_of(st.lists(events, max_size=4), st.lists(events, min_size=6, max_size=20)),
    closing=closings,
)
def test_whatever_happens_on_either_leg(
    kind: Kind, seed: int, conditions: Conditions, first: Calls, opening: tuple[Happens, ...],
    happenings: list[Happens], closing: tuple[Happens, ...],
) -> None:
    gc.disable()
    gc.freeze()                                         # what there was before is none of what is left behind
    try:
        before = PICKS_UP if kind is Kind.CLICKED and opening else ()
        on_the_virtual_loop(one_office(kind, seed, conditions, [first, *before, *opening, *happenings, *closing]))
    finally:
        gc.unfreeze()
        gc.enable()


def on_the_virtual_loop(office: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    troubles: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(office)
        left = asyncio.all_tasks(loop)
    assert not troubles
    assert not left


async def one_office(kind: Kind, seed: int, conditions: Conditions, happenings: list[Happens]) -> None:
    media = AnchoredPlane()
    with capture_logs() as logs:
        async with open_office(seed=seed, media=media) as office:
            world = World(office, media, kind, may_be_cut_off=conditions is CUT)
            await people_come(world)
            office.network.conditions = conditions
            for one in happenings:
                await one.happen(world)
            await all_ends(world)
            check_what_is_left(world)
            check_the_legs(world, faultless=conditions is GOOD)
            check_the_books(world, [entry["call"] for entry in logs if entry["event"] == "call"])
    assert not [entry for entry in logs if entry.get("exc_info")]


async def people_come(world: World) -> None:
    office = world.office
    caller, _, callee = world.kind.value
    office.trunk.does = Rejects(404)                    # where it is called, as a colleague's number was taken away
    for user in dict.fromkeys((caller, callee, "103")):
        if user == "operator":
            office.trunk.close()
            world.people.append(Rogue(user, office.network, OPERATOR, SERVER))
        else:
            (await office.phone(user)).close()
            world.people.append(Rogue(user, office.network, Address(f"10.0.2.{user}", 5060), SERVER, PASSWORD))


async def all_ends(world: World) -> None:
    """Everybody comes back and behaves: what they asked gets its answer while the call is up. Then they end by the
    rules what is there, and whatever lingers comes to its end."""
    world.office.network.conditions = Conditions()
    for rogue in world.people:
        rogue.behave()
    await asyncio.sleep(TRANSACTION)
    # What waited for the answer of somebody else for 32 s gets none any more, unless it is an INVITE (RFC 4320 §4.2).
    world.unheard = set[str]().union(*(rogue.unheard(only_invites=world.rude) for rogue in world.people))
    for _ in range(2):
        for rogue in world.people:
            rogue.wind_up()
        await asyncio.sleep(TRANSACTION)
    world.office.change(trunks=())                      # no pings
    await world.office.pbx.settings_changed()
    await asyncio.sleep(LINGER)
    world.office.trunk.forget()


def check_what_is_left(world: World) -> None:
    office, core = world.office, world.office.agent.core
    ladder = ladder_of(office)
    assert not office.pbx.live_calls(), ladder
    assert not office.pbx._tasks, ladder
    assert not office.pbx.capacity._taken, office.pbx.capacity._taken       # the limits of client and trunk
    assert (core.session_count, office.agent.leg_count) == (0, 0), ladder
    assert (core.transaction_count, core.next_timeout) == (0, None), ladder
    assert world.media.in_use == 0
    kept = [thing for thing in gc.get_objects() if isinstance(thing, PARTS_OF_A_CALL)]
    assert not kept, f"{kept} {ladder}"
    assert (office.agent.counters.faults, office.pbx.counters.faults) == (0, 0), ladder


def check_the_legs(world: World, *, faultless: bool) -> None:
    """Each request got one final answer, each 2xx its ACK, each dialog its BYE; where a network failed, nobody can say
    what was heard."""
    if faultless and not world.strangers:
        assert not world.unheard, f"{world.unheard} {ladder_of(world.office)}"
    for rogue in world.people:
        for branch, method in rogue.asked.items():
            event(f"{method} {sorted(rogue.finals.get(branch, ()))}")
        late = rogue.repeated
        assert all(len(rogue.finals[branch]) == 1 for branch in rogue.finals.keys() - late), ladder_of(world.office)
        if faultless:
            assert not rogue.up - rogue.said_bye, ladder_of(world.office)
            called = {dialog for dialog in rogue.up if rogue.talks[dialog.call_id].called}
            assert not called - rogue.acked, ladder_of(world.office)


def ladder_of(office: Office) -> str:
    return "\n".join(map(str, (one for one in office.network.log if b" OPTIONS\r\n" not in one.data)))


def check_the_books(world: World, begun: list[str]) -> None:
    records = world.office.books.records
    assert Counter(record.id for record in records) == Counter(begun)
    noted = Counter(write.call for write in world.office.books.writes)
    assert max(noted.values(), default=1) == 1
    for record in records:
        check_a_record(record)
        event(f"{record.disposition.value}, {record.reason.value}")


def check_a_record(record: CallRecord) -> None:
    times = [at for at in (record.started_at, record.rang_at, record.answered_at, record.ended_at) if at is not None]
    assert times == sorted(times), record
    assert (record.disposition is Disposition.ANSWERED) == (record.answered_at is not None), record
    assert record.reason is not EndReason.FAULT, record
    assert record.status == 200 if record.answered_at else record.status >= 300, record
    assert record.extension in (None, "101", "102", "103"), record
