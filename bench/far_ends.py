#!/usr/bin/env python3
"""One side of the hour's soak as a process of its own: the operator, or the office with all its phones.

It makes calls at a rate, plays its part in those that come, loses a share of the datagrams by a seeded die, and tells
on its standard output when it is ready, and what became of each call that it made, one JSON object a line. Told "go" on
its standard input it makes calls, told "stop" it makes no more and says when it has none; told "sign off" its phones do
that; at end of file it ends.

Both sides stand on b2bua.sip, as the tests' phones do: what this looks for is what is lost or left over under load,
loss and restarts. Whether we read the RFCs as others do is for SIPp and the real phones to say (tests/sipp, interop).

What a call is to do is in the outside number, +79KKXXXXXXX, which both sides see: KK is its kind, XXXXXXX its own.
"""
from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import IntEnum
from functools import partial
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from b2bua.net.udp import UdpTransport  # noqa: E402
from b2bua.sip.effects import Address, Flow, TlsPeer  # noqa: E402
from b2bua.sip.invite_session import InviteSession  # noqa: E402
from b2bua.sip.message import Request, Response  # noqa: E402
from tests.support.network import Sink  # noqa: E402
from tests.support.phone import Phone, PhoneCall  # noqa: E402
from tests.support.rtp import audio_address  # noqa: E402

NET = "127.0.79"
PBX = Address(f"{NET}.1", 5060)
OPERATOR = Address(f"{NET}.2", 5060)
OFFICE = f"{NET}.3"                        # a port for each phone
PHONES = 40                                # extensions 200 and up; each has a number of its own
GROUPS = 4                                 # 600 and up, of three extensions that ring together
PASSWORD = "secret-of-a-soak"               # noqa: S105
BINDING = 30                               # seconds a registration is asked for
NUMBER_RINGS = 4                           # seconds that a call from outside rings
LONGEST_TALK = 10.0
INTERNAL_SHARE = 0.2                       # of the office's calls
MOST_OPEN = 3000                           # calls of one side; more would be a sign that none ends
LATE = 12.0                                # seconds after which a step that has not come is a failure
SIGNING_OFF = 40.0                         # and the last registrations, whatever is lost
LINGERS = 40.0                             # seconds; 64 × T1 and a little: what comes late still finds its call
RTP_SHARE = 20                             # every twentieth call has sound
RTP_EVERY = 0.02
SOUND_SETTLES = 1.5                        # seconds after which something must have been heard; an ACK may be lost
RTP = b"\x80\x08\0\0\0\0\0\0\0\0\0\7" + bytes([0xD5]) * 160
BATCH_OF_INDEXES = 200_000                 # calls that a process makes at most before the next has its own numbers


class Kind(IntEnum):
    """KK."""

    CALLER_HANGS_UP = 10
    CALLEE_HANGS_UP = 11
    CANCELLED = 12
    BUSY = 13
    UNANSWERED = 14                        # given up by us, or (to the outside) by the phone
    CALLEE_HOLDS = 15
    CALLER_HOLDS = 16
    BLIND_TRANSFER = 17                    # by the phone, whoever called
    ATTENDED_TRANSFER = 18
    GROUP = 19                             # several phones ring, one answers
    INTERNAL = 20                          # in no number: from phone to phone


MIX = {
    Kind.CALLER_HANGS_UP: 24, Kind.CALLEE_HANGS_UP: 20, Kind.CANCELLED: 8, Kind.BUSY: 8, Kind.UNANSWERED: 5,
    Kind.CALLEE_HOLDS: 9, Kind.CALLER_HOLDS: 9, Kind.BLIND_TRANSFER: 5, Kind.ATTENDED_TRANSFER: 4, Kind.GROUP: 8,
}
HOLDS = ("sendonly", "inactive", "no address")             # RFC 3264 §8.4, and as RFC 2543 did it


def number_of(kind: Kind, index: int) -> str:
    return f"+79{kind:02}{index:07}"


def phone_number(place: int) -> str:
    """The outside number of a phone."""
    return f"+7495100{place:04}"


def group_number(place: int) -> str:
    return f"+7495200{place:04}"


def script_of(number: str) -> tuple[Kind, int] | None:
    """What an outside number says, in any spelling; None: it is a colleague's."""
    digits = number.lstrip("+")
    if len(digits) != 11 or digits[1] != "9":
        return None
    return Kind(int(digits[2:4])), int(digits[4:])


def talk_of(index: int) -> float:
    """Seconds, 2 to 7, the same for both sides."""
    return 2.0 + index * 7919 % 500 / 100


class LossyUdp:
    """A socket that loses a share of what is sent and of what comes, by a seeded die."""

    def __init__(self, local: Address, sink: Sink, die: random.Random, loss: float, lost: Counter[str]) -> None:
        self._sink, self._die, self._loss, self._lost = sink, die, loss, lost
        self._udp = UdpTransport.open(local, self)
        self.kind, self.local = self._udp.kind, self._udp.local

    def on_message(self, data: bytes, flow: Flow) -> None:
        if self._falls("in"):
            return
        self._sink.on_message(data, flow)

    def on_failure(self, flow: Flow) -> None:
        self._sink.on_failure(flow)

    def flow_for(self, remote: Address, peer: TlsPeer | None = None) -> Flow:
        return self._udp.flow_for(remote, peer)

    def send(self, data: bytes, flow: Flow) -> None:
        if not self._falls("out"):
            self._udp.send(data, flow)

    def trouble(self, peer: TlsPeer) -> str:
        return ""

    def close(self) -> None:
        self._udp.close()

    def _falls(self, way: str) -> bool:
        self._lost[f"{way} all"] += 1
        if self._die.random() >= self._loss:
            return False
        self._lost[way] += 1
        return True


class Sound:
    """One RTP socket for all calls of a phone: what comes from which address, and a packet each 20 ms to some."""

    def __init__(self, host: str) -> None:
        self.heard: Counter[tuple[str, int]] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._hear)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(16):
                _, source = self._socket.recvfrom(2048)
                self.heard[source] += 1

    async def talk(self, call: PhoneCall, seconds: float) -> int | None:
        """For so long; packets heard meanwhile. None: it ended before anything could be."""
        remote = audio_address(call.sdp)
        self.heard[remote] = 0
        sequence = random.randrange(1 << 15)
        due = began = self._loop.time()
        until = began + seconds
        while not call.over.is_set() and self._loop.time() < until:
            sequence += 1
            stamp = (sequence * 160 & 0xFFFFFFFF).to_bytes(4, "big")
            with suppress(OSError):
                self._socket.sendto(RTP[:2] + (sequence & 0xFFFF).to_bytes(2, "big") + stamp + RTP[8:], remote)
            due += RTP_EVERY
            await asyncio.sleep(max(0.0, due - self._loop.time()))
        heard = self.heard.pop(remote, 0)
        return heard if self._loop.time() - began > SOUND_SETTLES else None


class Line(Phone):
    """A phone, or the operator's switch: forgets its calls a while after their end, and keeps no ladders."""

    def __init__(self, user: str, sound: Sound, *, seed: int, password: str = "") -> None:
        super().__init__(user, PBX, login=f"soak-{user}", password=password, seed=seed, rtp_port=sound.port)
        self.sound = sound
        self.on_call: Callable[[PhoneCall], None] = lambda _: None
        self._versions = count(1)
        self._sessions: dict[PhoneCall, list[InviteSession]] = {}       # a challenged call has had two

    def sdp(self, direction: str) -> bytes:
        """`direction` may be "no address": the hold of RFC 2543."""
        spelled = "sendrecv" if direction == "no address" else direction
        text = super().sdp(spelled).replace(b"o=- 1 0 ", b"o=- 1 %d " % next(self._versions))
        if direction == "no address":
            text = text.replace(b"\r\nc=IN IP4 " + self.transport.local.host.encode(), b"\r\nc=IN IP4 0.0.0.0")
        return text

    def track(self, call: PhoneCall) -> None:
        super().track(call)
        self._sessions.setdefault(call, []).append(call.session)
        self.calls.clear()

    def forget_later(self, call: PhoneCall) -> None:
        self._loop.call_later(LINGERS, self._forget, call)

    def _forget(self, call: PhoneCall) -> None:
        for session in self._sessions.pop(call, ()):
            self._by_session.pop(session, None)

    def _called(self, session: InviteSession) -> None:
        caller = session.invite.from_
        call = PhoneCall(self, session, caller.uri.user, caller.display, session.offer)
        self.track(call)
        self.on_call(call)

    def ring(self, call: PhoneCall) -> None:
        self._ring(call)

    def _note(self, way: str, message: Request | Response, data: bytes) -> None:
        """Nobody would read so many ladders."""


class Failed(Exception):
    """What did not happen in a call."""


async def within(event: asyncio.Event, seconds: float, what: str) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        raise Failed(f"{what} within {seconds:.0f} s") from None


async def answered(call: PhoneCall) -> None:
    await either(call.answered, call.over, LATE, "no answer")
    if not call.answered.is_set():
        raise Failed(f"{call.status} {call.reason} in place of an answer")


async def either(event: asyncio.Event, other: asyncio.Event, seconds: float, what: str) -> None:
    async def wait() -> None:
        waiting = [asyncio.ensure_future(one.wait()) for one in (event, other)]     # noqa: TID251  ended below
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    try:
        await asyncio.wait_for(wait(), seconds)
    except TimeoutError:
        raise Failed(f"{what} within {seconds:.0f} s") from None


async def talk(call: PhoneCall, seconds: float) -> None:
    """Or until the other end hangs up."""
    with suppress(TimeoutError):
        await asyncio.wait_for(call.over.wait(), seconds)


def still_up(call: PhoneCall) -> None:
    if call.over.is_set():
        raise Failed(f"ended by {call.ended.party.value}: {call.ended.cause.value}" if call.ended else "ended")


async def hold_and_resume(call: PhoneCall, spelling: str) -> None:
    await talk(call, 0.5)
    for direction in (spelling, "sendrecv"):
        still_up(call)
        call.agreed.clear()
        call.offer(direction)
        await either(call.agreed, call.over, LATE, f"re-INVITE ({direction}) not taken")
        still_up(call)
        await talk(call, 1.0)


class Side:
    """What both sides are: lines, the calls they make at a rate, and what they tell of them."""

    def __init__(self, name: str, seed: int, generation: int, loss: float) -> None:
        self.random = random.Random(f"{name} {seed} {generation}")
        self.lost: Counter[str] = Counter()
        self._loss = loss
        self._indexes = count(generation * BATCH_OF_INDEXES)
        self._open = 0
        self.ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.going = asyncio.Event()
        self.stopping, self.signing_off = asyncio.Event(), asyncio.Event()
        self.tasks = asyncio.TaskGroup()

    def line(self, user: str, local: Address, password: str = "") -> Line:
        line = Line(user, Sound(local.host), seed=self.random.randrange(1 << 32), password=password)
        line.plug(partial(self._socket, local))
        line.on_call = partial(self.start, self._serve_safely, line)
        return line

    def _socket(self, local: Address, sink: Sink) -> LossyUdp:
        return LossyUdp(local, sink, random.Random(self.random.random()), self._loss, self.lost)

    def start(self, what: Callable[..., Coroutine[object, object, None]], *arguments: object) -> None:
        self._open += 1
        self._idle.clear()
        self.tasks.create_task(what(*arguments)).add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self._open -= 1
        if not self._open:
            self._idle.set()

    async def make_calls(self, rate: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.stopping.is_set():
            due += self.random.expovariate(rate)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), max(0.0, due - loop.time()))
                return
            if self._open < MOST_OPEN:
                self.start(self._make_safely)

    def tell(self, **what: object) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    async def _make_safely(self) -> None:
        kind, index = self.pick(), next(self._indexes)
        line, call = self.place(kind, index)
        await self._judged("caller", line, call, kind, number_of(kind, index), self.as_caller(line, call, kind, index))

    async def _serve_safely(self, line: Line, call: PhoneCall) -> None:
        number = self.number_seen(call)
        script = script_of(number)
        kind, index = script or (Kind.INTERNAL, 0)
        await self._judged("callee", line, call, kind, number, self.as_callee(line, call, kind, index))

    async def _judged(self, part: str, line: Line, call: PhoneCall, kind: Kind, number: str,
                      script: Coroutine[object, object, None]) -> None:
        began, problem = time.time(), ""
        try:
            await script
        except Failed as failed:
            problem = str(failed)
        except Exception as error:         # noqa: BLE001  the boundary of a call
            problem = f"fault of the far end: {error!r}"
        finally:
            call.hang_up()
            line.forget_later(call)
        if part == "caller" or problem:
            self.tell(way=self.way(kind), part=part, kind=kind.name.lower(), number=number, line=line.user,
                      call_id=call.call_id, began=began, ended=time.time(), status=call.status, problem=problem)

    async def run(self, rate: float, end: asyncio.Event) -> None:
        async with self.tasks:
            await self.begin()
            await self.ready.wait()
            self.tell(ready=True)
            await self.going.wait()
            await self.make_calls(rate)
            await self._idle.wait()
            self.tell(idle=True)
            await self.signing_off.wait()
            await self.sign_off()
            self.tell(signed_off=True, lost=dict(self.lost))
            await end.wait()               # until then what comes late gets its answer

    # -- what the sides differ in

    async def begin(self) -> None:
        """What must be so before the first call."""

    async def sign_off(self) -> None:
        """After the last call."""

    def pick(self) -> Kind:
        raise NotImplementedError

    def place(self, kind: Kind, index: int) -> tuple[Line, PhoneCall]:
        raise NotImplementedError

    def number_seen(self, call: PhoneCall) -> str:
        raise NotImplementedError

    def way(self, kind: Kind) -> str:
        raise NotImplementedError

    async def as_caller(self, line: Line, call: PhoneCall, kind: Kind, index: int) -> None:
        match kind:
            case Kind.CANCELLED:
                await self.gives_up(call, 0.5)
            case Kind.BUSY:
                await within(call.over, LATE, "not refused")
                if call.status != 486:
                    raise Failed(f"{call.status} {call.reason} in place of 486")
            case Kind.UNANSWERED:
                await self.unanswered(call)
            case _:
                await answered(call)
                await self.talks(line, call, kind, index, calling=True)

    async def as_callee(self, line: Line, call: PhoneCall, kind: Kind, index: int) -> None:
        if kind is Kind.BUSY:
            await talk(call, 0.3)
            call.reject(486)
            return
        line.ring(call)
        if kind in (Kind.CANCELLED, Kind.UNANSWERED):
            await within(call.over, NUMBER_RINGS + LATE, "not cancelled")
            return
        await talk(call, 0.2 + self.random.random())
        if call.over.is_set():             # another phone of the group was quicker
            return
        call.answer()
        await self.talks(line, call, kind, index, calling=False)

    async def gives_up(self, call: PhoneCall, seconds: float) -> None:
        """After it has rung for so long; a lost 180 is not repeated (RFC 3261 §13.3.1.1)."""
        with suppress(TimeoutError):
            await asyncio.wait_for(call.rang.wait(), 1.0)
        await talk(call, seconds)
        if call.over.is_set():
            raise Failed(f"{call.status} {call.reason} while it rang")

    async def unanswered(self, call: PhoneCall) -> None:
        raise NotImplementedError

    async def talks(self, line: Line, call: PhoneCall, kind: Kind, index: int, *, calling: bool) -> None:
        """It is answered: who of the two does what."""
        match kind:
            case Kind.CALLER_HOLDS if calling:
                await hold_and_resume(call, HOLDS[index % 3])
                call.hang_up()
            case Kind.CALLEE_HOLDS if not calling:
                await hold_and_resume(call, HOLDS[index % 3])
                call.hang_up()
            case Kind.CALLEE_HANGS_UP | Kind.CALLER_HANGS_UP | Kind.GROUP:
                hangs_up = calling is (kind is not Kind.CALLEE_HANGS_UP)
                heard = await self._sounds(line, call, index)
                if hangs_up:
                    still_up(call)
                    call.hang_up()
                else:
                    await within(call.over, LONGEST_TALK + LATE, "no BYE")
                if heard == 0:
                    raise Failed("nothing heard")
            case _:
                await talk(call, LONGEST_TALK)
                if kind in (Kind.BLIND_TRANSFER, Kind.ATTENDED_TRANSFER):
                    still_up(call)         # with somebody else by now
                call.hang_up()

    async def _sounds(self, line: Line, call: PhoneCall, index: int) -> int | None:
        seconds = talk_of(index)
        if index % RTP_SHARE:
            await talk(call, seconds)
            return None
        return await line.sound.talk(call, seconds)


class Operator(Side):
    """Calls the office's numbers, and answers what the phones call outside."""

    def __init__(self, seed: int, generation: int, loss: float) -> None:
        super().__init__("operator", seed, generation, loss)
        self._line = self.line("operator", OPERATOR)
        self.ready.set()

    def pick(self) -> Kind:
        return self.random.choices([*MIX], [*MIX.values()])[0]

    def place(self, kind: Kind, index: int) -> tuple[Line, PhoneCall]:
        number = group_number(self.random.randrange(GROUPS)) if kind is Kind.GROUP \
            else phone_number(self.random.randrange(PHONES))
        return self._line, self._line.call(number, as_=number_of(kind, index))

    def number_seen(self, call: PhoneCall) -> str:
        return call.session.invite.uri.user

    def way(self, kind: Kind) -> str:
        return "in"

    async def unanswered(self, call: PhoneCall) -> None:
        await within(call.over, NUMBER_RINGS + LATE, "not given up")
        if call.status not in (408, 480):
            raise Failed(f"{call.status} {call.reason} in place of 480")


class Office(Side):
    """Its phones call the operator and each other, answer, hold and transfer; they register over and over."""

    def __init__(self, seed: int, generation: int, loss: float) -> None:
        super().__init__("office", seed, generation, loss)
        self.phones = [self.line(f"{200 + n}", Address(OFFICE, 5060 + n), PASSWORD) for n in range(PHONES)]
        self.registered: set[str] = set()
        self._moved: Counter[str] = Counter()           # outside numbers whose call is being transferred

    def pick(self) -> Kind:
        if self.random.random() < INTERNAL_SHARE:
            return Kind.INTERNAL
        kinds = [kind for kind in MIX if kind is not Kind.GROUP]
        return self.random.choices(kinds, [MIX[kind] for kind in kinds])[0]

    def place(self, kind: Kind, index: int) -> tuple[Line, PhoneCall]:
        line = self.random.choice(self.phones)
        return line, line.call(self._colleague(line) if kind is Kind.INTERNAL else number_of(kind, index))

    def number_seen(self, call: PhoneCall) -> str:
        return call.caller

    def way(self, kind: Kind) -> str:
        return "internal" if kind is Kind.INTERNAL else "out"

    async def unanswered(self, call: PhoneCall) -> None:
        await self.gives_up(call, NUMBER_RINGS)

    async def as_callee(self, line: Line, call: PhoneCall, kind: Kind, index: int) -> None:
        if self._moved[call.caller]:       # a transferred call: to be answered, whatever its number says
            kind, index = Kind.CALLER_HOLDS, 0
        await super().as_callee(line, call, kind, index)

    async def talks(self, line: Line, call: PhoneCall, kind: Kind, index: int, *, calling: bool) -> None:
        if kind is Kind.BLIND_TRANSFER:
            await talk(call, 1.0)
            await self._transfer_blindly(line, call, number_of(kind, index))
        elif kind is Kind.ATTENDED_TRANSFER:
            await talk(call, 0.5)
            await self._transfer_attended(line, call)
        elif kind is Kind.INTERNAL:
            await talk(call, talk_of(index) if calling else LONGEST_TALK + LATE)
            call.hang_up()
        else:
            await super().talks(line, call, kind, index, calling=calling)

    async def _transfer_blindly(self, line: Line, call: PhoneCall, number: str) -> None:
        self._moved[number] += 1
        try:
            still_up(call)
            call.refer(f"<sip:{self._colleague(line)}@{PBX.host}>")
            await within(call.over, LATE, "not transferred")
        finally:
            self._moved[number] -= 1
            if not self._moved[number]:
                del self._moved[number]
        if not any(said.startswith("200") for said, _ in call.notified):
            raise Failed(f"transfer: {call.responses} {call.notified}")

    async def _transfer_attended(self, line: Line, call: PhoneCall) -> None:
        still_up(call)
        consultation = line.call(self._colleague(line))
        try:
            await answered(consultation)
            await talk(consultation, 0.5)
            still_up(call)
            still_up(consultation)
            call.refer_to(consultation)
            await within(call.over, LATE, "not transferred")
            await within(consultation.over, LATE, "the consultation not ended")
        finally:
            consultation.hang_up()
            line.forget_later(consultation)

    def _colleague(self, line: Line) -> str:
        return self.random.choice([phone for phone in self.phones if phone is not line]).user

    async def begin(self) -> None:
        for line in self.phones:
            self.tasks.create_task(self._keep_registered(line))

    async def _keep_registered(self, line: Line) -> None:
        await asyncio.sleep(self.random.random())
        while not self.signing_off.is_set():
            response = await line.register(BINDING)
            if response.status != 200:
                self.tell(way="register", part="caller", kind="register", number=line.user, line=line.user, call_id="",
                          began=time.time(), ended=time.time(), status=response.status, problem=str(response.status))
                await asyncio.sleep(1.0)
                continue
            self.registered.add(line.user)
            if len(self.registered) == PHONES:
                self.ready.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.signing_off.wait(), self.random.uniform(8, 15))

    async def sign_off(self) -> None:
        for line in self.phones:
            with suppress(TimeoutError):
                await asyncio.wait_for(line.register(0), SIGNING_OFF)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("operator", "office"))
    parser.add_argument("--rate", type=float, required=True, help="calls a second that this side makes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--generation", type=int, default=0, help="how often it was started anew")
    parser.add_argument("--loss", type=float, default=0.01)
    given = parser.parse_args()
    side = {"operator": Operator, "office": Office}[given.side](given.seed, given.generation, given.loss)
    end = asyncio.Event()

    def told() -> None:
        match sys.stdin.readline():
            case "go\n":
                side.going.set()
            case "stop\n":
                side.stopping.set()
            case "sign off\n":
                side.signing_off.set()
            case _:                        # whoever started us is gone, or needs us no more
                loop.remove_reader(sys.stdin.fileno())
                for event in (side.going, side.stopping, side.signing_off, end):
                    event.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), told)
    await side.run(given.rate, end)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
