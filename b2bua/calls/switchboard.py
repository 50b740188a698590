"""Which script a new call runs, what calls there are, their limits, and the end of them all."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from b2bua import numbers
from b2bua.calls.board import Board
from b2bua.calls.bridge import Talk
from b2bua.calls.call import CallInProgress
from b2bua.calls.capacity import Capacity
from b2bua.calls.click2call import click2call
from b2bua.calls.clicks import Click, Clicks
from b2bua.calls.connect import refuse, to_its_end
from b2bua.calls.dial import StepDialler
from b2bua.calls.diversion import history_of
from b2bua.calls.door import IDLE, Door
from b2bua.calls.errands import Errands
from b2bua.calls.explain import explain
from b2bua.calls.from_phone import call_from_phone
from b2bua.calls.identity import read_caller
from b2bua.calls.inbound import inbound_call
from b2bua.calls.invitation import Shown
from b2bua.calls.ladder import messages_of, to_plain
from b2bua.calls.ladder_keeper import LadderKeeper
from b2bua.calls.live import LivePage
from b2bua.calls.outcomes import Unanswered
from b2bua.calls.pickup import wanted
from b2bua.calls.recordings import Recordings
from b2bua.calls.report import report, why_untold
from b2bua.calls.standing import StandingCalls
from b2bua.calls.takeover import Takeovers
from b2bua.calls.tolls import Tolls, is_emergency
from b2bua.calls.turns import GroupTurns
from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition, EndReason
from b2bua.control import (
    AtWork,
    ClickedCall,
    Explanation,
    Glance,
    LiveCall,
    RegisteredPhone,
    TracedCall,
    TransferOutcome,
    TrunkState,
    TrunkTest,
    TurnedAway,
)
from b2bua.crm.lookup import Lookup
from b2bua.crm.port import Contact, Crm, CrmError, CrmWrite, PopUp
from b2bua.directory import CrmAccount, Directory, Extension, Number, Trunk
from b2bua.media.plane import MediaPlane, MediaSession
from b2bua.routing.dialplan import find_did, plan_from_extension, plan_inbound, plan_moved, why_no_did
from b2bua.routing.plan import DialTrunk, NoRoute, Plan
from b2bua.sip.dialog_info import DialogInfo
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.throttle import Ban
from b2bua.ua.agent import UserAgent
from b2bua.ua.ladders import Ladder
from b2bua.ua.leg import HeaderFields, Inbox, IncomingLeg, Leg
from b2bua.ua.notifier import Notifier
from b2bua.ua.registrar import ExtensionKey, Registrar
from b2bua.ua.strangers import UnknownCalls
from b2bua.ua.trunk_table import TrunkTable

POP_UP_PATIENCE = 2.0                      # seconds; a later pop-up is worth nothing
LAST_RECORDS = 2.0                         # seconds that the end of the switch waits for the database

log = structlog.get_logger(__name__)


class Journal(Protocol):
    """Keeps what must outlive the process: record and CRM writes, both or neither."""

    async def finish(self, record: CallRecord, writes: Sequence[CrmWrite]) -> object: ...


class Books(Protocol):
    """Where the directory comes from, with its generation, and what is wrong in it."""

    async def load(self) -> tuple[Directory, int]: ...

    def alarms(self) -> Sequence[str]: ...


class CrmAccounts(Protocol):
    """The clients' CRMs, as the directory of the moment has them."""

    async def use(self, directory: Directory) -> None: ...

    def crm_of(self, client: ClientId) -> Crm | None: ...

    def alarms(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    max_calls: int = 1000                  # of the whole server
    unknown_calls: UnknownCalls = UnknownCalls.CHALLENGE


@dataclass(slots=True)
class CallCounters:
    """For the metrics: calls by what became of them, and what was turned away at the door."""

    finished: Counter[tuple[Direction, str]]
    refused: Counter[str]
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Live:
    call: CallInProgress
    inbox: Inbox
    task: asyncio.Task[None]


class Switchboard:
    """Runs the calls that the door lets in, and is what the web may ask of a running server (control.Control)."""

    def __init__(
        self,
        agent: UserAgent,
        *,
        directory: Directory,
        registrar: Registrar,
        trunks: TrunkTable,
        dialler: StepDialler,
        media: MediaPlane,
        lookup: Lookup,
        crm: CrmAccounts,
        journal: Journal,
        books: Books,
        recordings: Recordings | None,
        standing: StandingCalls,
        errands: Errands,
        calls: asyncio.TaskGroup,
        clock: Callable[[], datetime],
        delivered: Callable[[], None],
        ladders: LadderKeeper | None = None,
        crm_alarms: Callable[[], Sequence[str]] = tuple,
        limits: Limits = Limits(),
    ) -> None:
        self.directory = directory
        self.dialler = dialler
        self.capacity = Capacity(limits.max_calls)
        self.tolls = Tolls(agent.now)
        self.media = media
        self.turns = GroupTurns()
        self.board = Board(agent.now)
        self.notifier = Notifier(agent, self._dialogs_of)
        self.door = Door(self, agent, registrar, trunks, clock, limits.unknown_calls)
        self.takeovers = Takeovers(self, agent)
        self.clicks = Clicks(self)
        self.page = LivePage(self, agent, registrar, trunks)
        self.counters = CallCounters(Counter(), Counter())
        self.hanging_up = False
        self._agent = agent
        self.board.changed = self.notifier.changed
        agent.on_gone = self.board.gone
        self._registrar = registrar
        self._trunks = trunks
        self._lookup = lookup
        self._crm = crm
        self._journal = journal
        self._books = books
        self._recordings = recordings
        self._standing = standing
        self._errands = errands
        self._calls = calls
        self._clock = clock
        self._delivered = delivered
        self._ladders = ladders
        self._crm_alarms = crm_alarms
        self._live: dict[CallId, Live] = {}
        self._talks: dict[Inbox, Talk] = {}              # of the calls that are answered
        self._tasks: set[asyncio.Task[None]] = set()     # of calls that live, or whose record is being kept
        self.draining = False
        self._changing = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    # -- which script

    def from_trunk(self, session: InviteSession, trunk: Trunk) -> None:
        directory, invite = self.directory, session.invite
        # Some operators write the number into the Request-URI, some our Contact there and the number into To.
        spellings = (invite.uri.user, invite.to.uri.user)
        dids = (find_did(directory, trunk.client, trunk.name, dialled, trunk.country) for dialled in spellings)
        did = next((did for did in dids if did is not None), None)
        shown = did.number if did is not None else numbers.normalise(spellings[0], trunk.country)
        who = read_caller(invite, trunk)
        call = self._new_call(trunk.client, Direction.INBOUND, who.number, shown, trunk.name)
        call.history = history_of(invite, trunk.country)
        for note in who.notes:
            call.note(note)
        caller = self._agent.accept(session, trunk.name, by_trunk=True)
        if self.draining:
            why = "the switch is stopping, and takes no new calls"
            self._start(call, caller.inbox, self._refused(caller, call, 503, EndReason.SHUTDOWN, why, (IDLE,)))
        elif (reached := self.capacity.reached(directory.client[trunk.client], trunk)) is not None:
            reached = self.tolls.full(reached)
            self._start(call, caller.inbox, self._refused(caller, call, 503, EndReason.LIMIT_REACHED, reached))
        elif did is None:
            why = why_no_did(directory, trunk, spellings)
            self._start(call, caller.inbox, self._refused(caller, call, 404, EndReason.NOTHING_TO_RING, why))
        elif (too_often := call.history.too_often) is not None:
            # Not 482, which says that this very request was seen twice (RFC 3261 §8.2.2.2).
            self._start(call, caller.inbox, self._refused(caller, call, 480, EndReason.NOT_ALLOWED, too_often))
        else:
            self._start(call, caller.inbox, inbound_call(caller, self, call, directory, did))

    def from_phone(self, session: InviteSession, extension: Extension) -> None:
        dialled = session.invite.uri.user
        plan = self.takeovers.pick_up_or_dial(session, extension, dialled)
        if plan is None:
            return
        call = self._placed_by(extension, dialled, outside=isinstance(plan, Plan) and plan.outside)
        caller = self._agent.accept(session, extension.number)
        plan = self._within_limits(extension, plan)
        if isinstance(plan, Plan):
            self.board.dials(caller, extension, dialled)
        self._start(call, caller.inbox, call_from_phone(caller, self, call, plan))

    def from_click(self, extension: Extension, dialled: str) -> Click:
        """Whoever has this extension clicks that, which is the client's to dial."""
        plan = self.plan_for(extension, dialled)
        here = (extension.client, dialled)
        inside = here in self.directory.extension or here in self.directory.group
        call = self._placed_by(extension, dialled, outside=plan.outside if isinstance(plan, Plan) else not inside)
        call.is_placed = False
        if call.crm is not None and why_untold(call.crm.functions, call.direction, call.dialled) is None:
            call.contact = self._lookup.remembered(call.client, call.dialled)
        click, inbox = Click(call, extension, dialled), self._agent.new_inbox()
        self._start(call, inbox, click2call(self, click, inbox, self._within_limits(extension, plan)))
        return click

    def _placed_by(self, extension: Extension, dialled: str, *, outside: bool) -> CallInProgress:
        direction = Direction.OUTBOUND if outside else Direction.INTERNAL
        shown = numbers.normalise(dialled, self.directory.client[extension.client].country) if outside else dialled
        call = self._new_call(extension.client, direction, extension.number, shown, None)
        call.extension = extension
        return call

    def _within_limits(self, extension: Extension, plan: Plan | NoRoute) -> Plan | NoRoute:
        reached = self.capacity.reached(self.directory.client[extension.client], None, extension)
        if reached is None or _is_urgent(plan):
            return plan
        return NoRoute(503, EndReason.LIMIT_REACHED, self.tolls.full(reached))

    def _new_call(
        self, client: ClientId, direction: Direction, caller: str, dialled: str, trunk: str | None
    ) -> CallInProgress:
        crm = self.directory.client[client].crm if direction is not Direction.INTERNAL else None
        call = CallInProgress(
            CallId(secrets.token_hex(8)), client, direction, caller, dialled, trunk, clock=self._clock, crm=crm
        )
        log.info("call", call=call.id, client=client, direction=direction.value, caller=caller, dialled=dialled)
        return call

    async def _refused(
        self, caller: IncomingLeg, call: CallInProgress, status: int, reason: EndReason, why: str,
        headers: HeaderFields = (),
    ) -> None:
        """An outside call that may not come in: it is in the books all the same."""
        async with to_its_end(self, call, caller):
            refuse(caller, call, status, reason, why, headers)

    # -- the calls there are

    def _start(self, call: CallInProgress, inbox: Inbox, script: Coroutine[object, object, None]) -> None:
        task = self._calls.create_task(self._run(call, script), name=f"call {call.id}")
        self._live[call.id] = Live(call, inbox, task)
        if inbox.ladder is not None:
            inbox.ladder.began = self._agent.now() - (self._clock() - call.started_at).total_seconds()
        self._standing.up(call)            # with nobody to say goodbye to, until somebody talks
        maker = call.extension.number if call.extension is not None else None
        self.capacity.enter(call.id, call.client, call.trunk, maker)
        self._tasks.add(task)
        self._idle.clear()

        def ended(task: asyncio.Task[None]) -> None:
            script.close()                 # it may have been cancelled before its first step
            self._tasks.discard(task)
            if (ladder := self._ladder_of(call)) is not None:
                self._agent.forget(ladder)     # it came to no record
            self._let_go(call)

        task.add_done_callback(ended)

    def _let_go(self, call: CallInProgress) -> None:
        """It counts no more for any limit, and the end of the switch need not wait for it."""
        self._live.pop(call.id, None)
        self.capacity.leave(call.id)
        self.tolls.allowance.leave(call.id)
        self.clicks.over(call, self._agent.now())
        if not self._live:
            self._idle.set()

    async def _run(self, call: CallInProgress, script: Coroutine[object, object, None]) -> None:
        """The one boundary of a call: a broken one must not cancel its siblings."""
        try:
            await script
        except asyncio.CancelledError:
            if not self.hanging_up:
                raise
        except Exception:                  # the boundary of a call
            self.counters.faults += 1
            log.exception("call broke", call=call.id)

    async def finished(self, call: CallInProgress) -> None:
        """Keep the record, tell the outbox, have the recording made."""
        record, writes = report(call)
        log.info(
            "call over",
            call=call.id,
            disposition=record.disposition.value,
            talked=record.talk_seconds,
            ended_by=record.ended_by.value,
            reason=record.reason.value,
            status=record.status,
        )
        self.counters.finished[record.direction, record.disposition.value] += 1
        if self._recordings is not None:
            self._recordings.finish(call)
        self._standing.over(call)
        if self._ladders is not None and (ladder := self._ladder_of(call)) is not None:
            self._ladders.over(record, ladder)
        self._let_go(call)                 # the database may take its time: that must not keep other calls away
        await self._journal.finish(record, writes)
        if writes:
            self._delivered()

    async def drain(self, patience: float) -> None:
        """No new calls; those that are up may end by themselves for `patience` seconds, then they are hung up."""
        self.draining = True
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            log.warning("hanging up", calls=len(self._live), after_seconds=patience)
        await self.notifier.deactivate()
        self.hanging_up = True
        await asyncio.sleep(0)             # a call that came in this very moment begins: else it is in no books
        for live in tuple(self._live.values()):
            live.task.cancel()
        await self._idle.wait()
        if self._tasks:                    # the journal has their records, and keeps them without us as well
            _, late = await asyncio.wait(self._tasks, timeout=LAST_RECORDS)
            for task in late:
                task.cancel()
        self.notifier.close()

    # -- what the scripts ask

    async def find_contact(self, call: CallInProgress) -> Contact | None:
        """Who calls, if the client uses a function that needs to know, and the CRM says so in time."""
        contact, said = await self.who_is(call.client, call.crm, call.caller)
        if said:
            call.note(said)
        return contact

    async def who_is(
        self, client: ClientId, account: CrmAccount | None, number: str
    ) -> tuple[Contact | None, str]:
        """The same, and the sentence that tells of it; "" when nobody was asked."""
        if account is None or not account.functions.wants_to_know_callers:
            return None, ""
        if why_untold(account.functions, Direction.INBOUND, number) is not None:
            return None, ""
        began = self._agent.now()
        contact = await self._lookup.find_contact(client, number, account.patience)
        if contact is not None:
            return contact, f"the CRM knows {number} as {contact.name}"
        if self._agent.now() - began >= account.patience:
            return None, f"the CRM did not say within {account.patience} s who {number} is"
        return None, f"the CRM gave no contact for {number}"

    def plan_for_did(
        self, directory: Directory, did: Number, contact: Contact | None, *, rehearsal: bool = False
    ) -> Plan | NoRoute:
        """Who should ring when that number is called from outside. A rehearsal takes nobody's turn."""
        reachable, choice = self.dialler.reachable, self._trunks.choice
        now, turns = self._clock(), self.turns.now
        plan = plan_inbound(directory, did.client, did, contact, reachable, choice, now, turns)
        if not rehearsal:
            self.turns.take(did.client, plan)
        return plan

    def plan_for(self, extension: Extension, dialled: str, *, rehearsal: bool = False) -> Plan | NoRoute:
        """Who should ring when this extension dials that."""
        client = self.directory.client.get(extension.client)
        if client is None:                 # a call in progress may outlive its client
            return NoRoute(403, EndReason.NOT_ALLOWED, f"{extension.client} was taken out of the directory")
        if wanted(self.directory, extension, dialled) is not None:
            return NoRoute(404, EndReason.NOT_ALLOWED, f"{dialled} is a pickup code, and no number")
        reachable, choice = self.dialler.reachable, self._trunks.choice
        plan = plan_from_extension(
            self.directory, extension, dialled, client.country, reachable, choice, self.turns.now
        )
        if not rehearsal:
            self.turns.take(extension.client, plan)
        return plan

    def plan_moved(self, by: Extension, target: str) -> Plan | NoRoute:
        """Who should ring when a phone of this extension sends a call on."""
        client = self.directory.client.get(by.client)
        if client is None:
            return NoRoute(403, EndReason.NOT_ALLOWED, f"{by.client} was taken out of the directory")
        reachable, choice = self.dialler.reachable, self._trunks.choice
        plan = plan_moved(self.directory, by, target, client.country, reachable, choice, self.turns.now)
        self.turns.take(by.client, plan)
        return plan

    def may_go_outside(self, call: CallInProgress, step: DialTrunk) -> Unanswered | None:
        """None: it may. Each way outside is asked for here, by whomever it is wanted."""
        if step.outside in call.history.numbers and call.answered_at is None and not is_emergency(step):
            call.note(f"{step.outside} has sent the call here: back there it would go in a circle")
            return Unanswered(Disposition.REFUSED, EndReason.NOT_ALLOWED, 480)
        return self.tolls.ask(call, self.directory.client.get(step.trunk.client), step)

    @contextmanager
    def talking(self, talk: Talk) -> Iterator[None]:
        """So long, Replaces may name its dialogs, and the two are in a conversation."""
        self._talks[talk.inbox] = talk
        self.board.talks(talk)
        self.turns.talks((talk.caller.extension, talk.callee.extension))
        try:
            yield
        finally:
            del self._talks[talk.inbox]
            self.turns.left((talk.caller.extension, talk.callee.extension), self._agent.now())

    def live(self) -> Iterable[Live]:
        return self._live.values()

    def live_of(self, client: ClientId, call: CallId) -> Live | None:
        live = self._live.get(call)
        return live if live is not None and live.call.client == client else None

    def talk_in(self, inbox: Inbox) -> Talk | None:
        """Of the call with that inbox, once it is answered."""
        return self._talks.get(inbox)

    def _dialogs_of(self, key: ExtensionKey) -> Sequence[DialogInfo]:
        client = self.directory.client.get(key[0])
        return () if client is None else self.board.dialogs(key, client)

    def handed_over(self, talk: Talk, leaving: Extension | None, newcomer: Extension | None) -> None:
        """Others talk: these are the legs that would be left behind by a crash."""
        self.turns.talks((newcomer,))
        self.turns.left((leaving,), self._agent.now())
        self.board.talks(talk)
        self._standing.up(talk.call, talk.caller.leg, talk.callee.leg)

    def see_off(self, goodbye: Coroutine[object, object, None]) -> None:
        """The call need not wait for the last word of somebody who has left it."""
        self._errands.start("see a phone off", goodbye)

    def phone_rings(self, call: CallInProgress, extension: Extension) -> None:
        """F1: the pop-up for whoever's phone rings, once per call and user, beside the call."""
        user, account = extension.crm_user, call.crm
        if account is None or not account.functions.pop_up or user is None or user in call.shown_to:
            return
        if call.direction is Direction.INBOUND and why_untold(account.functions, call.direction, call.caller) is None:
            call.shown_to.add(user)
            pop_up = PopUp(call.client, call.caller, (user,))
            self._errands.start("pop-up", self._pop_up(pop_up, self._ladder_of(call)))

    def _ladder_of(self, call: CallInProgress) -> Ladder | None:
        live = self._live.get(call.id)
        return live.inbox.ladder if live is not None else None

    async def _pop_up(self, pop_up: PopUp, ladder: Ladder | None) -> None:
        crm = self._crm.crm_of(pop_up.client)
        if crm is None:
            return
        named = ", ".join(f"user {user}" for user in pop_up.users)
        try:
            async with asyncio.timeout(POP_UP_PATIENCE):
                await crm.pop_up(pop_up)
        except (CrmError, TimeoutError) as error:
            why = str(error) or "too slow"
            log.warning("pop-up not shown", client=pop_up.client, users=pop_up.users, why=why)
            said = f"pop-up not shown to {named}: {why}"
        else:
            said = f"the CRM shows {named} the pop-up"
        if ladder is not None:
            ladder.happened(said, self._agent.now())

    def answered(self, call: CallInProgress, media: MediaSession, *legs: Leg) -> None:
        log.info("answered", call=call.id, extension=call.extension.number if call.extension else None)
        if self._recordings is not None and self.directory.client[call.client].record:
            self._recordings.begin(call, media)
            if (ladder := self._ladder_of(call)) is not None:
                ladder.happened(f"recording {call.recording} begins", self._agent.now())
        self._standing.up(call, *legs)

    def announcing(self, call: CallInProgress, caller: Leg) -> None:
        """Nobody talks, so that nothing is recorded; but its leg must not outlive us."""
        log.info("announcing", call=call.id)
        self._standing.up(call, caller)

    def picks_up(self, call: CallInProgress, phone: Leg, extension: Extension, other: Shown) -> None:
        """Who clicked has: that leg must not outlive us."""
        log.info("picked up", call=call.id, extension=extension.number)
        self.board.picks_up(phone, extension, other)
        self._standing.up(call, phone)

    def answer_after(self, call: CallInProgress) -> tuple[tuple[str, str], ...]:
        """By which the phone of who clicked picks up by itself, if the client wants that. No standard has it: phones
        know one field or the other."""
        client = self.directory.client.get(call.client)
        if client is None or client.click2call_answer_after is None:
            return ()
        seconds = client.click2call_answer_after
        return (
            ("Call-Info", f"<sip:127.0.0.1>;answer-after={seconds}"),
            ("Alert-Info", f"<http://127.0.0.1>;info=alert-autoanswer;delay={seconds}"),
        )

    def now(self) -> float:
        return self._agent.now()

    def music_on_hold(self, call: CallInProgress) -> str:
        """What who is put on hold hears in this call."""
        client = self.directory.client.get(call.client)
        return client.music_on_hold if client is not None else ""

    # -- control.Control

    def live_calls(self) -> Sequence[LiveCall]:
        return list(self.page.calls(self._live.values()))

    def live_call(self, call: CallId) -> LiveCall | None:
        live = self._live.get(call)
        return next(self.page.calls((live,))) if live is not None else None

    def glance(self, client: ClientId | None, most: int) -> Glance:
        return self.page.glance(client, most)

    def trunk_states(self) -> Sequence[TrunkState]:
        return self._trunks.states(self._agent.now())

    async def test_trunk(self, client: ClientId, name: str) -> TrunkTest:
        return await self._trunks.tests.test(client, name, self._clock())

    def trunk_test(self, client: ClientId, name: str) -> TrunkTest | None:
        return self._trunks.tests.last(client, name)

    def calls_beginning_with(self, beginning: str) -> Sequence[CallId]:
        ended = self._ladders.ended() if self._ladders is not None else ()
        ids = {*self._live, *(one.record.id for one in ended)}
        return sorted(id_ for id_ in ids if id_.startswith(beginning))

    def trace(self, call: CallId) -> TracedCall | None:
        if (live := self._live.get(call)) is not None:
            record, ladder, is_over = live.call.record(), live.inbox.ladder, False
        else:
            ended = self._ladders.ended() if self._ladders is not None else ()
            one = next((one for one in ended if one.record.id == call), None)
            if one is None:
                return None
            record, ladder, is_over = one.record, one.ladder, True
        return TracedCall(record, is_over, to_plain(messages_of(ladder)) if ladder is not None else None)

    def registered_phones(self) -> Sequence[RegisteredPhone]:
        return self._registrar.phones(self._agent.now())

    def at_work(self, client: ClientId) -> AtWork:
        extensions = self.directory.extensions_of.get(client, ())
        return AtWork(self.capacity.calls_of(client), self._registrar.phones_of(extensions, self._agent.now()),
                      *self._trunks.at_work(client))

    def turned_away(self) -> Sequence[TurnedAway]:
        return self.door.strangers.last()

    def alarms(self) -> Sequence[str]:
        return [*self.tolls.alarms.in_force(), *self._crm.alarms(), *self._books.alarms(), *self._crm_alarms()]

    def bans(self) -> Sequence[Ban]:
        return self._registrar.bans(self._agent.now())

    def lift_ban(self, subject: str) -> int:
        return self._registrar.lift_ban(subject, self._agent.now())

    async def explain(self, client: ClientId, caller: str, dialled: str) -> Explanation:
        return await explain(self, client, caller, dialled)

    def click2call(self, client: ClientId, extension: str, number: str, key: str) -> ClickedCall:
        return self.clicks.click(client, extension, number, key, self.now())

    def clicked(self, client: ClientId, call: CallId) -> ClickedCall | None:
        click = self.clicks.clicked(client, call, self.now())
        return click.now() if click is not None else None

    async def click_changed(self, client: ClientId, call: CallId, after_version: int) -> ClickedCall:
        click = self.clicks.clicked(client, call, self.now())
        if click is None:
            raise LookupError(f"{client} has clicked no call {call}")
        return await click.changed(after_version)

    def hang_up(self, client: ClientId, call: CallId, by: str = "") -> bool:
        return self.page.hang_up(client, call, by)

    def transfer(self, client: ClientId, call: CallId, target: str, by: str) -> TransferOutcome:
        return self.page.transfer(client, call, target, by)

    def ready(self) -> Sequence[str]:
        reasons = ("draining" if self.draining else None, self.media.problem)
        return [reason for reason in reasons if reason is not None]

    async def settings_changed(self) -> None:
        """Swap the snapshot; calls in progress keep theirs."""
        async with self._changing:         # one after the other: the last one read is the last one taken
            directory, _ = await self._books.load()
            self.directory = directory
            self.turns.use(directory)
            self.tolls.allowance.use(directory)
            self._registrar.use(directory)
            self._trunks.use(directory)
            self.notifier.use(directory)
            await self._crm.use(directory)
        log.info("directory loaded", clients=len(directory.clients), extensions=len(directory.extensions))


def _is_urgent(plan: Plan | NoRoute) -> bool:
    """A call for help is refused for no limit of ours."""
    return isinstance(plan, Plan) and any(isinstance(step, DialTrunk) and is_emergency(step) for step in plan.steps)
