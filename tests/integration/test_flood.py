"""Floods beside calls, on real sockets: no call is lost, nothing grows or is amplified, and who floods is banned."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest

from b2bua.app import System, running
from b2bua.cdr import ClientId
from b2bua.config import Listener, LogSettings, MediaSettings, ServerSettings, Settings, SipSettings, WebSettings
from b2bua.directory import Client, Directory, Extension, Number, Trunk
from b2bua.net.tcp import TcpTransport
from b2bua.net.transport import Standing
from b2bua.net.udp import MAX_STRANGERS, READ, STRANGERS, UdpTransport
from b2bua.sip.auth import ha1
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.throttle import SOURCE_CHALLENGES, UNWANTED
from tests.support.phone import Answers, Phone
from tests.support.stranger import Stranger, message

BLOCK = os.getpid() % 250 + 2              # a corner of 127.0.0.0/8 that no other run on this machine uses
HERE, TRUNK, DESK, PROBE, LONE = (f"127.{BLOCK}.{part}.1" for part in (61, 62, 63, 64, 65))
ACME = ClientId("acme")
DID, IVAN = "+74951112233", "+79161234567"
PASSWORD = "secret-of-a-phone"
FLOOD = 6000                               # datagrams
AT_ONCE = 10                               # of them, before the loop turns
CALLS = 5

Flood = Callable[[Address, str, random.Random], bytes]


@asynccontextmanager
async def scene(home: Path) -> AsyncIterator[tuple[System, Phone, Phone]]:
    """The daemon with its trunk, and one registered phone that answers."""
    settings = Settings(
        server=ServerSettings(data_dir=home, drain_seconds=1),
        sip=SipSettings(listen=tuple(Listener(transport=kind, host=HERE, port=0) for kind in ("udp", "tcp"))),
        media=MediaSettings(host=HERE, port_min=23000, port_max=23999),
        web=WebSettings(host=HERE, port=0),
        log=LogSettings(level="error"),
    )
    async with running(settings) as system:
        trunk, desk = Phone("operator", system.sip[0], seed=1), Phone("101", system.sip[0], password=PASSWORD, seed=2)
        trunk.plug(partial(UdpTransport.open, Address(TRUNK, 0)))
        desk.plug(partial(UdpTransport.open, Address(DESK, 0)))
        desk.does = Answers(0.02)
        with closing(trunk), closing(desk):
            office = Directory(
                clients=(Client(ACME, "Acme"),),
                extensions=(Extension(ACME, "101", "101", {"MD5": ha1("MD5", "101", "smartswitch", PASSWORD)}),),
                trunks=(Trunk(ACME, "operator", TRUNK, trunk.transport.local.port),),
                numbers=(Number(ACME, DID, "101"),),
            )
            old, generation = await system.store.directory.load()
            await system.store.directory.replace(old, office, generation)
            await system.switchboard.settings_changed()
            assert (await desk.register()).status == 200
            yield system, trunk, desk


def stranger_at(system: System, host: str) -> Stranger:
    return Stranger(system.sip[0], host, PROBE)


def asks(method: str) -> Flood:
    """The same thing again and again, as if by a new call each time, with as much in it as phones say."""
    there = f"sip:{DID}@{HERE}"
    return lambda source, name, _: message(method, source, call_id=name, uri=there, to=f"<{there}>")


def junk(source: Address, name: str, rng: random.Random) -> bytes:
    return rng.randbytes(200)


def of_all_kinds(source: Address, name: str, rng: random.Random) -> bytes:
    return rng.choice([asks("INVITE"), asks("REGISTER"), asks("OPTIONS"), junk])(source, name, rng)


@pytest.mark.parametrize("crowd", [1, 200])
@pytest.mark.parametrize("make", [asks("INVITE"), asks("REGISTER"), asks("OPTIONS"), junk, of_all_kinds],
                         ids=["INVITE", "REGISTER", "OPTIONS", "junk", "all"])
async def test_calls_go_on_and_come_to_be_while_strangers_flood(tmp_path: Path, make: Flood, crowd: int) -> None:
    rng = random.Random(1)
    async with scene(tmp_path) as (system, trunk, _):
        core, udp = system.agent.core, system.agent.transports[Transport.UDP]
        assert isinstance(udp, UdpTransport)
        with ExitStack() as sockets:
            hosts = [f"127.{BLOCK}.{70 + n // 250}.{n % 250 + 1}" for n in range(crowd)]
            strangers = [sockets.enter_context(closing(stranger_at(system, host))) for host in hosts]
            standing = trunk.call(DID, as_=IVAN)
            await asyncio.wait_for(standing.answered.wait(), 10)
            calls = []
            for number in range(FLOOD):
                one = strangers[number % crowd]
                one.send(make(one.address, f"flood{number}", rng))
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
                if number % (FLOOD // CALLS) == 0:
                    calls.append(trunk.call(DID, as_=f"+7916000{number:04}"))
            for call in calls:
                await asyncio.wait_for(call.answered.wait(), 10)
            await strangers[0].answers()
            for one in strangers:
                one.drain()
                assert one.got <= one.sent
        assert not standing.over.is_set()
        assert core.session_count == 2 * (len(calls) + 1)
        assert system.agent.counters.faults == 0
        assert core.transaction_count < 20 * (len(calls) + 1)       # of the calls alone
        if crowd == 1:
            assert [ban.address for ban in system.switchboard.bans()] == [strangers[0].address.host]
            assert udp.counters.from_banned > 0
        for call in [standing, *calls]:
            call.hang_up()


async def test_who_asks_the_same_again_and_again_is_banned_until_that_is_lifted(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as (system, _, _):
        with closing(stranger_at(system, LONE)) as sweeper:
            for number in range(UNWANTED - 1):
                sweeper.send(message("OPTIONS", sweeper.address, call_id=f"sweep{number}"))
                if number % (MAX_STRANGERS // 4) == 0:
                    await sweeper.answers()
            await sweeper.answers()
            assert system.switchboard.bans() == []
            sweeper.send(message("OPTIONS", sweeper.address, call_id="one too many"))
            await sweeper.answers()
            (ban,) = system.switchboard.bans()
            assert (ban.address, ban.account) == (LONE, "")
            assert system.switchboard.lift_ban(LONE) == 1
            sweeper.send(message("REGISTER", sweeper.address, call_id="forgiven"))
            assert len(await sweeper.answers()) == 1


async def test_connections_of_who_is_banned_are_closed_and_come_no_more(tmp_path: Path) -> None:
    async with scene(tmp_path) as (system, _, _):
        tcp = system.agent.transports[Transport.TCP]
        assert isinstance(tcp, TcpTransport)
        where = tuple(system.sip[1])
        reader, writer = await asyncio.open_connection(*where, local_addr=(LONE, 0))
        quiet, other = await asyncio.open_connection(*where, local_addr=(LONE, 0))
        for number in range(SOURCE_CHALLENGES + 1):
            writer.write(message("REGISTER", Address(LONE, 5999), "Content-Length: 0", call_id=f"again{number}"))
        answers = await asyncio.wait_for(reader.read(), 10)         # until it is closed
        assert answers.count(b"SIP/2.0 401") == SOURCE_CHALLENGES
        assert await asyncio.wait_for(quiet.read(), 10) == b""       # that one has said nothing
        again, third = await asyncio.open_connection(*where, local_addr=(LONE, 0))
        assert await asyncio.wait_for(again.read(), 10) == b""
        assert tcp.counters.banned_closed == 3
        assert len(tcp) == 0
        for one in (writer, other, third):
            one.close()
        assert [ban.address for ban in system.switchboard.bans()] == [LONE]


class Heard:
    def __init__(self) -> None:
        self.sources: list[str] = []
        self.any, self.enough = asyncio.Event(), asyncio.Event()

    def on_message(self, data: bytes, flow: Flow) -> None:
        self.sources.append(flow.remote.host)
        self.any.set()
        if data == b"the last":
            self.enough.set()

    def on_failure(self, flow: Flow) -> None:
        raise AssertionError("nothing was sent")


async def test_the_known_are_heard_before_strangers_who_are_dropped_when_too_many_wait() -> None:
    standings = {DESK: Standing.KNOWN, LONE: Standing.BANNED}
    heard = Heard()
    transport = UdpTransport.open(
        Address(HERE, 0), heard, judge=lambda source: standings.get(source[0], Standing.STRANGER))
    known, stranger, banned = (Stranger(transport.local, host, PROBE) for host in (DESK, TRUNK, LONE))
    with closing(transport), closing(known), closing(stranger), closing(banned):
        for _ in range(READ // 2):         # all are there before the loop looks at any
            stranger.send(b"a stranger's")
            banned.send(b"not wanted")
        for _ in range(8):
            known.send(b"a phone's")
        stranger.send(b"the last")
        await heard.enough.wait()
        assert heard.sources.count(DESK) == 8
        assert heard.sources.index(DESK) <= 2 * STRANGERS           # they came after 128 others
        assert LONE not in heard.sources
        assert heard.sources.count(TRUNK) == READ // 2 + 1
        assert transport.counters.from_banned == READ // 2
        heard.enough.clear()
        for _ in range(3 * MAX_STRANGERS):
            stranger.send(b"a stranger's")
        known.send(b"the last")
        await heard.enough.wait()
        counters = transport.counters
        assert counters.received == 2 * READ // 2 + 9 + 3 * MAX_STRANGERS + 1
        assert counters.dropped_strangers >= MAX_STRANGERS


async def test_a_banned_stranger_of_those_who_wait_is_not_heard() -> None:
    standing = Standing.STRANGER

    class Bans(Heard):
        def on_message(self, data: bytes, flow: Flow) -> None:
            nonlocal standing
            super().on_message(data, flow)
            standing = Standing.BANNED

    heard = Bans()
    transport = UdpTransport.open(
        Address(HERE, 0), heard, judge=lambda source: Standing.KNOWN if source[0] == DESK else standing)
    stranger, known = Stranger(transport.local, LONE, PROBE), Stranger(transport.local, DESK, PROBE)
    with closing(transport), closing(stranger), closing(known):
        for _ in range(3):
            stranger.send(b"a stranger's")
        await heard.any.wait()
        known.send(b"the last")
        await heard.enough.wait()
    assert heard.sources == [LONE, DESK]
    assert transport.counters.from_banned == 2
