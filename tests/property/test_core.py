"""Two cores, a bad network, two random transaction users: nothing breaks, nothing overlaps, nothing is left."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sip.core import CoreConfig
from b2bua.sip.effects import (
    AnswerConfirmed,
    Answered,
    Confirmed,
    DialogRequest,
    DialogResponse,
    Effect,
    Ended,
    IncomingInvite,
    IncomingRequest,
    OfferAnswered,
    OfferReceived,
    OfferRefused,
    Provisional,
    Rejected,
    Transport,
)
from b2bua.sip.grammar import ParseError
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.offer_answer import sdp_of
from b2bua.sip.session_timer import SessionTimerPolicy
from b2bua.sip.stack import Role, State
from tests.support.back_to_back import End, Fate, Message, Wire

ACTIONS = ("progress", "early media", "reliable", "accept", "reject", "hang up", "reoffer", "offerless", "update",
           "request", "discharge", "discharge", "discharge", "wait", "wait longer", "call")


class Somebody:
    """A transaction user that does what the dice say, but owes nothing at the end."""

    def __init__(self, wire: Wire, end: End, dice: Random) -> None:
        self.wire, self.end, self.dice = wire, end, dice
        self.sessions: list[InviteSession] = []
        self.accepted: set[str] = set()
        self.ended: dict[str, int] = {}
        self.debts: list[Effect] = []
        self.heard: dict[str, bytes] = {}           # the peer's session description in force, by session
        self.count = 0
        end.react = self.react

    def sdp(self) -> bytes:
        self.count += 1
        return b"v=0 %s %d" % (b"a" if self.end is self.wire.caller else b"b", self.count)

    def react(self, end: End, event: Effect) -> list[Effect]:
        if isinstance(event, IncomingRequest):
            return end.core.respond(event.transaction, event.request.response(200, to_tag="t"), self.wire.now)
        session: InviteSession = event.session      # type: ignore[union-attr]
        assert session.id not in self.ended, f"{event} after the end"
        match event:
            case IncomingInvite():
                self.sessions.append(session)
            case Ended() | Rejected():
                self.ended[session.id] = 1
                assert session.state is State.ENDED
            case OfferReceived() | DialogRequest():
                self.debts.append(event)
            case Provisional() | Answered() | OfferAnswered() if event.wants_answer:
                self.debts.append(event)
            case Answered(response=response) | OfferAnswered(response=response):
                self.heard[session.id] = sdp_of(response) or self.heard.get(session.id, b"")
            case Confirmed(body=body) | AnswerConfirmed(body=body) if body:
                self.heard[session.id] = body
            case Provisional(response=response) if "100rel" in response.require and sdp_of(response):
                self.heard[session.id] = sdp_of(response)
            case Provisional() | Confirmed() | AnswerConfirmed() | DialogResponse() | OfferRefused():
                pass
        return []

    def do(self, effects: list[Effect]) -> None:
        self.wire.do(self.end, effects)

    def discharge(self, debt: Effect) -> None:
        now, refuse = self.wire.now, self.dice.random() < 0.2
        match debt:
            case OfferReceived(session, request):
                if refuse:
                    self.do(session.refuse_offer(request, 488, now))
                elif effects := session.accept_offer(request, self.sdp(), now):
                    self.heard[session.id] = sdp_of(request) or self.heard.get(session.id, b"")
                    self.do(effects)
            case DialogRequest(session, request):
                self.do(session.respond(request, 200, now))
            case Provisional(session, response):
                if session.state in (State.SETUP, State.EARLY):
                    self.heard[session.id] = sdp_of(response)
                    self.do(session.prack(response, self.sdp(), now))
            case Answered(session, response) | OfferAnswered(session, response):
                self.heard[session.id] = sdp_of(response)
                self.do(session.ack(self.sdp(), now))

    def act(self, action: str) -> None:
        if action == "discharge" and self.debts:
            self.discharge(self.debts.pop(0))
        elif action == "call" and len(self.sessions) < 3:
            self.sessions.append(self.wire.call(self.sdp() if self.dice.random() < 0.7 else b""))
        elif self.sessions:
            self.command(self.dice.choice(self.sessions), action)

    def command(self, session: InviteSession, action: str) -> None:
        now, is_open = self.wire.now, session.state in (State.SETUP, State.EARLY)
        rings = is_open and session.role is Role.UAS and session.id not in self.accepted
        match action:
            case "progress" if rings:
                self.do(session.progress(180, now))
            case "early media" if rings:
                self.do(session.progress(183, now, body=self.sdp()))
            case "reliable" if rings:
                self.do(session.progress(183, now, body=self.sdp() if self.dice.random() < 0.5 else b"", reliable=True))
            case "accept" if rings:
                self.accepted.add(session.id)
                self.heard.setdefault(session.id, session.offer)
                self.do(session.accept(now, body=self.sdp()))
            case "reject" if rings:
                self.do(session.reject(486, now))
            case "hang up" if self.dice.random() < 0.4:
                self.do(session.hang_up(now))
            case "reoffer" | "offerless" if not is_open:
                self.do(session.reoffer(self.sdp() if action == "reoffer" else b"", now))
            case "update" if session.current_dialog() is not None:
                self.do(session.update(self.sdp(), now))
            case "request" if session.current_dialog() is not None:
                self.do(session.request("INFO", now, body=b"x", content_type="text/plain"))

    def pay(self) -> None:
        """Whatever is owed; each payment may bring new debts."""
        while self.debts:
            self.discharge(self.debts.pop(0))

    def finish(self) -> None:
        self.pay()
        for session in self.sessions:
            self.do(session.hang_up(self.wire.now))


def fate_of(dice: Random, loss: float) -> Fate:
    def fate(message: Message) -> list[float]:
        if dice.random() < loss:
            return []
        copies = 2 if dice.random() < loss / 2 else 1
        return [dice.choice((0.001, 0.001, 0.02, 0.3, 2.0)) * (1 + dice.random()) for _ in range(copies)]
    return fate


def assert_agreement(one: Somebody, other: Somebody) -> None:
    """Where both ends of a call are at rest, each knows what the other one said last."""
    callees = {session.call_id: session for session in other.sessions if session.role is Role.UAS}
    for caller in one.sessions:
        callee = callees.get(caller.call_id)
        if callee is not None and caller.may_reoffer and callee.may_reoffer:
            assert one.heard[caller.id] == callee.local_sdp
            assert other.heard[callee.id] == caller.local_sdp


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from((0.0, 0.0, 0.05, 0.3)),
    transport=st.sampled_from((Transport.UDP, Transport.TCP)),
    timer=st.sampled_from((SessionTimerPolicy(), SessionTimerPolicy(expires=90, ask=True))),
    actions=st.lists(st.tuples(st.sampled_from((0, 1)), st.sampled_from(ACTIONS)), max_size=40),
)
def test_whatever_happens_both_ends_come_to_rest(
    seed: int, loss: float, transport: Transport, timer: SessionTimerPolicy, actions: list[tuple[int, str]]
) -> None:
    dice = Random(seed)
    wire = Wire(CoreConfig(session_timer=timer), transport=transport, seed=seed)
    wire.fate = fate_of(dice, loss)
    people = Somebody(wire, wire.caller, dice), Somebody(wire, wire.callee, dice)
    people[0].act("call")
    for side, action in actions:
        if action in ("wait", "wait longer"):
            wire.run(wire.now + dice.random() * (0.5 if action == "wait" else 60))
        elif side == 0 or action != "call":
            people[side].act(action)
        wire.run(wire.now + dice.choice((0.0, 0.002, 0.05)))
    for _ in range(4):
        for somebody in people:
            somebody.pay()
        wire.run(wire.now + 5)
    if loss < 0.1 and (transport is Transport.UDP or not loss):     # else an UPDATE may never learn its 200
        assert_agreement(*people)
    for _ in range(4):
        for somebody in people:
            somebody.finish()
        wire.run(wire.now + 40)
    wire.run(wire.now + 300)
    assert all(session.state is State.ENDED for somebody in people for session in somebody.sessions)
    assert wire.is_empty, wire.ladder


def twisted(data: bytes, dice: Random) -> bytes:
    """A message of the call itself with something wrong in it: what a hostile or broken peer would send."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(lines))
        match dice.randrange(6):
            case 0:
                lines.insert(at + 1, dice.choice(STRANGE))
            case 1 if at:
                del lines[at]
            case 2:
                method = dice.choice(METHODS)
                lines[0] = lines[0].replace(b"INVITE", method)
                if not lines[0].startswith(b"SIP"):
                    number = b"CSeq: %d %s" % (dice.randrange(9), method)
                    lines = [number if line.startswith(b"CSeq") else line for line in lines]
            case 3:
                lines[0] = lines[0].replace(b"200", dice.choice(STATUSES))
            case 4:
                lines = [line.replace(b"branch=z9hG4bK", b"branch=z9hG4bK%x" % dice.randrange(99)) for line in lines]
            case _:
                body = dice.choice((b"", b"v=0", body))
    kept = [line for line in lines if not line.startswith(b"Content-Length")]
    return b"\r\n".join([*kept, b"Content-Length: %d" % len(body), b"", b""]) + body


STATUSES = (b"180", b"183", b"401", b"422", b"481", b"491", b"500")
METHODS = (b"INVITE", b"UPDATE", b"PRACK", b"BYE", b"ACK", b"CANCEL", b"INFO")
STRANGE = (
    b"Require: 100rel", b"Require: timer", b"Require: nonsense", b"RSeq: 1", b"RSeq: x", b"RAck: 1 1 INVITE",
    b"RAck: 1", b"Session-Expires: 90;refresher=uac", b"Session-Expires: 100;refresher=uas", b"Session-Expires: 1",
    b"Session-Expires: ,", b"Min-SE: 4000000000", b"Record-Route: <sip:10.0.0.2;lr>", b"Record-Route: <sip:x>",
    b"Record-Route: <<", b"Contact: <sip:else@10.9.9.9>", b"Contact: *", b"Contact: <tel:1>", b"Retry-After: 0",
    b"Retry-After: x", b"Allow: INVITE", b"Supported: ,,,", b"Content-Type: multipart/mixed;boundary=v",
    b"Content-Type: text/plain", b"Content-Encoding: gzip",
)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40))
def test_twisted_messages_break_nothing(seed: int, steps: int) -> None:
    dice = Random(seed)
    wire = Wire(CoreConfig(session_timer=SessionTimerPolicy(expires=90, ask=dice.random() < 0.3)), seed=seed)
    people = Somebody(wire, wire.caller, dice), Somebody(wire, wire.callee, dice)
    people[0].act("call")
    for _ in range(steps):
        people[dice.randrange(2)].act(dice.choice(ACTIONS))
        victim = dice.choice((wire.caller, wire.callee))
        with suppress(ParseError):
            wire.inject(victim, twisted(bytes(dice.choice(wire.sent)), dice))
        wire.run(wire.now + dice.choice((0.0, 0.002, 0.05, 3)))
    for _ in range(4):
        for somebody in people:
            somebody.finish()
        wire.run(wire.now + 40)
    wire.run(wire.now + 4000)
    assert wire.is_empty
