"""What a whole call costs the signalling process, sockets aside: `python -m bench.calls [--calls N] [--profile FILE]`.

A trunk calls a number, a phone at a fixed address rings and answers, the trunk ACKs and hangs up: 14 messages through
parser, core, agent and the call's script, with peers, media, CRM and books that cost nothing. Only the CPU time spent
inside is counted, not what the peers spend on their messages; some 40 us of it are the turns of the idle loop. Best of
several batches, as the machine may be busy.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import logging
import random
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from time import process_time

import structlog
import uvloop

from b2bua.calls.dial import StepDialler
from b2bua.calls.errands import Errands
from b2bua.calls.ladder_keeper import LadderKeeper
from b2bua.calls.standing import StandingCalls
from b2bua.calls.switchboard import Limits, Switchboard
from b2bua.cdr import CallRecord, ClientId
from b2bua.crm.lookup import Lookup
from b2bua.crm.port import Crm, CrmWrite
from b2bua.directory import Client, Directory, Extension, Number, Trunk
from b2bua.media.none import PassThroughPlane
from b2bua.net.resolver import DnsResolver, SystemDns
from b2bua.sip.auth import DigestPolicy, DigestServer
from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport
from b2bua.sip.message import Request
from b2bua.store.call_traces import CallTrace
from b2bua.store.standing import StandingCall
from b2bua.ua.agent import UserAgent
from b2bua.ua.ladders import Ladders
from b2bua.ua.registrar import Registrar
from b2bua.ua.trunk_table import TrunkTable

BATCHES = 5
WARM_UP = 100                              # calls
TICKS = 3                                  # rounds of the loop until a call's task waits again
LINGER = 40.0                              # seconds: longer than any transaction is remembered
PLENTY = 1_000_000

OURS, CALLER, PHONE = Address("127.0.0.1", 5060), Address("127.0.0.1", 5061), Address("127.0.0.9", 5070)
OFFICE = ClientId("bench")
DIRECTORY = Directory(
    clients=(Client(OFFICE, "Bench", max_calls=PLENTY, record=False),),
    extensions=(Extension(OFFICE, "1000", "1000", {}, address=f"sip:1000@{PHONE.host}:{PHONE.port}"),),
    trunks=(Trunk(OFFICE, "operator", host=CALLER.host, port=CALLER.port, networks=(ip_network("127.0.0.1/32"),),
                  max_calls=PLENTY),),
    numbers=(Number(OFFICE, "1000", "1000"),),
)

SDP = (
    b"v=0\r\no=- 100200300 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 30000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)
REQUEST = (
    "{method} {uri} SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK-1-{number}-{method};rport\r\n"
    "Max-Forwards: 70\r\n"
    'From: "Load Caller" <sip:+15550100{number}@127.0.0.1:5061>;tag=c1n{number}\r\n'
    "{to}\r\n"
    "Call-ID: {number}-1@127.0.0.1\r\n"
    "CSeq: {cseq} {cseq_method}\r\n"
)
INVITE_FIELDS = (
    "Contact: <sip:caller@127.0.0.1:5061>\r\n"
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO\r\n"
    "Supported: replaces, timer\r\n"
    "User-Agent: load-caller\r\n"
    "P-Asserted-Identity: <sip:+15550100{number}@127.0.0.1>\r\n"
    "Content-Type: application/sdp\r\n"
)
RINGING_FIELDS = b"Contact: <sip:callee@127.0.0.9:5070>\r\n"
ANSWER_FIELDS = RINGING_FIELDS + (
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO\r\nContent-Type: application/sdp\r\n"
)
COPIED = re.compile(rb"(?:Via|From|Call-ID|CSeq): .*\r\n")
TO = re.compile(rb"To: [^\r]*")
CONTACT = re.compile(rb"Contact: <([^>]*)>")


class Wire:
    """Stands for the UDP transport: what is sent is kept until a peer looks for it."""

    kind = Transport.UDP
    local = OURS

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes, flow: Flow) -> None:
        self.sent.append(data)

    def flow_for(self, remote: Address, peer: TlsPeer | None = None) -> Flow:
        return FLOWS[remote]

    def trouble(self, peer: TlsPeer) -> str:
        return ""

    def close(self) -> None:
        self.sent.clear()

    def take(self, start: bytes) -> bytes:
        """The message that begins so; the others of the batch are of no interest."""
        found = next(data for data in self.sent if data.startswith(start))
        self.sent.clear()
        return found


FLOWS = {remote: Flow(Transport.UDP, OURS, remote) for remote in (CALLER, PHONE)}


class Books:
    async def finish(self, record: CallRecord, writes: Sequence[CrmWrite]) -> None:
        assert record.status == 200, record

    async def save(self, standing: Sequence[StandingCall], now: datetime) -> None:
        raise AssertionError("nobody saves what is up here")

    async def tidy(self) -> int:
        return 0

    async def load(self) -> tuple[Directory, int]:
        return DIRECTORY, 1


class Traces:
    async def save(self, traces: Sequence[CallTrace]) -> None:
        assert all(trace.steps for trace in traces)


class NoCrm:
    async def use(self, directory: Directory) -> None:
        pass

    def crm_of(self, client: ClientId) -> Crm | None:
        return None


class Exchange:
    """The signalling process, what it sends, and the clock that runs only inside of it."""

    def __init__(self, agent: UserAgent, wire: Wire, profile: cProfile.Profile | None) -> None:
        self.agent = agent
        self.wire = wire
        self.spent = 0.0
        self._profile = profile

    async def receives(self, *messages: bytes, flow: Flow) -> None:
        """These come in one after another, and the call's task does what it does then."""
        if self._profile is not None:
            self._profile.enable()
        begun = process_time()
        for data in messages:
            self.agent.on_message(data, flow)
        for _ in range(TICKS):
            await asyncio.sleep(0)
        self.spent += process_time() - begun
        if self._profile is not None:
            self._profile.disable()

    def forgets(self) -> float:
        """The time it takes when all that lingers comes to its end."""
        begun = process_time()
        self.agent.perform(self.agent.core.handle_timeout(self.agent.now() + LINGER))
        assert self.agent.core.transaction_count == 0
        return process_time() - begun


def request(method: str, number: int, cseq: int, *, to: str, uri: str, fields: str = "", body: bytes = b"") -> bytes:
    head = REQUEST.format(method=method, number=number, cseq=cseq, cseq_method=method, to=to, uri=uri) + fields
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def invite(number: int) -> bytes:
    return request("INVITE", number, 1, to="To: <sip:1000@127.0.0.1:5060>", uri="sip:1000@127.0.0.1:5060",
                   fields=INVITE_FIELDS.format(number=number), body=SDP)


def response(status: bytes, asked: bytes, fields: bytes = b"", body: bytes = b"") -> bytes:
    to = TO.findall(asked)[0]
    if status != b"100 Trying" and b";tag=" not in to:
        to += b";tag=s1"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return b"".join([b"SIP/2.0 ", status, b"\r\n", *COPIED.findall(asked), to, b"\r\n", fields, length, body])


async def one_call(exchange: Exchange, number: int) -> None:
    wire, caller, phone = exchange.wire, FLOWS[CALLER], FLOWS[PHONE]
    await exchange.receives(invite(number), flow=caller)
    asked = wire.take(b"INVITE")
    ringing = response(b"180 Ringing", asked, RINGING_FIELDS)
    await exchange.receives(response(b"100 Trying", asked), ringing, flow=phone)
    wire.take(b"SIP/2.0 180")
    await exchange.receives(response(b"200 OK", asked, ANSWER_FIELDS, SDP), flow=phone)
    answer = wire.take(b"SIP/2.0 200")
    to, uri = TO.findall(answer)[0].decode(), CONTACT.findall(answer)[0].decode()
    hang_up = request("BYE", number, 2, to=to, uri=uri)
    await exchange.receives(request("ACK", number, 1, to=to, uri=uri), hang_up, flow=caller)
    await exchange.receives(response(b"200 OK", wire.take(b"BYE")), flow=phone)


async def batch(calls: int, *, traced: bool, profile: cProfile.Profile | None = None) -> tuple[float, float, float]:
    """Seconds for a call, for what is done of it half a minute later, and for its ladder to be kept."""
    crm = NoCrm()
    async with Lookup(crm.crm_of) as lookup, Errands() as errands, asyncio.TaskGroup() as tasks:
        doors: list[Switchboard] = []

        def admit(message: Request, flow: Flow) -> bool:
            return doors[0].door.admit(message, flow)

        ladders = Ladders() if traced else None
        agent = UserAgent(UserAgentCore(CoreConfig(max_sessions=PLENTY), random.Random(1), admit), ladders=ladders)
        keeper = LadderKeeper(ladders, Traces(), agent.now) if ladders is not None else None
        resolver, books, wire = DnsResolver(SystemDns(), random.Random(1)), Books(), Wire()
        registrar = Registrar(DIRECTORY, DigestServer(DigestPolicy(realm="bench"), b"k" * 32))
        trunks = TrunkTable(agent, resolver, random.Random(1))
        trunks.use(DIRECTORY)
        doors.append(Switchboard(
            agent, directory=DIRECTORY, registrar=registrar, trunks=trunks,
            dialler=StepDialler(agent, registrar, trunks, resolver), media=PassThroughPlane(), lookup=lookup,
            crm=crm, journal=books, books=books, recordings=None, errands=errands, calls=tasks,
            standing=StandingCalls(books, lambda: datetime.now(UTC)),
            clock=lambda: datetime.now(UTC), delivered=lambda: None, ladders=keeper, limits=Limits(PLENTY),
        ))
        agent.serve(doors[0].door, [wire])
        exchange = Exchange(agent, wire, profile)
        gc.collect()
        for number in range(WARM_UP + calls):
            if number == WARM_UP:
                exchange.spent = 0.0
            await one_call(exchange, number)
        assert not doors[0].live_calls()
        lingering = exchange.forgets()
        begun = process_time()
        if keeper is not None:
            assert keeper.waiting == WARM_UP + calls
            await keeper.finish()
        kept = process_time() - begun
        agent.close()
    return exchange.spent / calls, lingering / (WARM_UP + calls), kept / (WARM_UP + calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000, help="in each batch")
    parser.add_argument("--untraced", action="store_true", help="as with log.call_trace_days = 0")
    parser.add_argument("--profile", metavar="FILE", help="write a cProfile of one batch there instead")
    given = parser.parse_args()
    # As `open_logs` has it, at the level of bench/signalling.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), cache_logger_on_first_use=True
    )
    if given.profile is not None:
        profile = cProfile.Profile()
        uvloop.run(batch(given.calls, traced=not given.untraced, profile=profile))
        profile.dump_stats(given.profile)
        return
    batches = [uvloop.run(batch(given.calls, traced=not given.untraced)) for _ in range(BATCHES)]
    call, lingering, kept = (min(part) * 1e6 for part in zip(*batches, strict=True))
    sys.stdout.write(f"{call:.0f} us a call, {lingering:.0f} us more to forget it half a minute later, "
                     f"{kept:.0f} us to have its ladder kept\n")


if __name__ == "__main__":
    main()
