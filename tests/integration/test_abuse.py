"""A stranger attacks the running daemon (product promise 5): nothing falls over, nothing grows, no amplification."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from b2bua.__main__ import cli
from b2bua.app import System, running, stream_limits
from b2bua.cdr import ClientId
from b2bua.config import Listener, LogSettings, MediaSettings, ServerSettings, Settings, SipSettings, WebSettings
from b2bua.directory import Client, Directory, Extension, Number, Trunk
from b2bua.net.streams import StreamLimits
from b2bua.net.udp import UdpTransport
from b2bua.sip.auth import DigestClient, Unanswerable, ha1
from b2bua.sip.effects import Address, Transport
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.throttle import PAIR_FAILURES, SOURCE_CHALLENGES
from tests.support.phone import Answers, Behaviour, Phone, Rings
from tests.support.stranger import Stranger, codes, hostile, message

BLOCK = os.getpid() % 250 + 2              # a corner of 127.0.0.0/8 that no other run on this machine uses
HERE, TRUNK, DESK, STRANGER = (f"127.{BLOCK}.{part}.1" for part in (21, 22, 23, 24))
PROBE, PHONE = f"127.{BLOCK}.25.1", f"127.{BLOCK}.26.1"
STRANGER_AT = Address(STRANGER, 5999)
ACME = ClientId("acme")
DID, IVAN = "+74951112233", "+79161234567"
PASSWORD = "secret-of-a-phone"
T1 = 0.03                                  # so that what lingers for 64*T1 is gone in two seconds
LINGERING = 64 * T1 + 5.0                  # and for T4 besides (RFC 3261 §17.2.1, timer I)
FLOOD_SECONDS, FLOOD_RATE = 2.5, 2000
TOO_LONG = 65_507                          # octets of the longest datagram


def settings(home: Path) -> Settings:
    listen = tuple(Listener(transport=transport, host=HERE, port=0) for transport in ("udp", "tcp"))
    return Settings(
        server=ServerSettings(data_dir=home, drain_seconds=1),
        sip=SipSettings(listen=listen, t1=T1),
        media=MediaSettings(host=HERE, port_min=22000, port_max=22999),
        web=WebSettings(host=HERE, port=0),
        log=LogSettings(level="error"),
    )


def office(trunk_port: int) -> Directory:
    def extension(number: str) -> Extension:
        return Extension(ACME, number, number, {"MD5": ha1("MD5", number, "smartswitch", PASSWORD)})

    return Directory(
        clients=(Client(ACME, "Acme"),),
        extensions=(extension("101"), extension("102")),
        trunks=(Trunk(ACME, "operator", TRUNK, trunk_port),),
        numbers=(Number(ACME, DID, "101", ring_seconds=5),),
    )


def stranger_at(system: System, host: str = STRANGER) -> Stranger:
    return Stranger(system.sip[0], host, PROBE)


@asynccontextmanager
async def phone_at(
    host: str, server: Address, does: Behaviour, user: str = "101", password: str = ""
) -> AsyncIterator[Phone]:
    phone = Phone(user, server, password=password, does=does)
    phone.plug(partial(UdpTransport.open, Address(host, 0)))
    try:
        yield phone
    finally:
        phone.close()


@asynccontextmanager
async def scene(home: Path) -> AsyncIterator[tuple[System, Phone, Phone]]:
    """The daemon with its trunk, and one registered phone that answers."""
    async with (
        running(settings(home)) as system,
        phone_at(TRUNK, system.sip[0], Answers()) as trunk,
        phone_at(DESK, system.sip[0], Answers(0.02), "101", PASSWORD) as desk,
    ):
        old, generation = await system.store.directory.load()
        await system.store.directory.replace(old, office(trunk.transport.local.port), generation)
        await system.switchboard.settings_changed()
        assert (await desk.register()).status == 200
        yield system, trunk, desk


async def a_call_goes_through(trunk: Phone) -> None:
    async with asyncio.timeout(5):
        call = trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        call.hang_up()


async def nothing_is_left(system: System) -> None:
    """When what may linger has lingered."""
    core = system.agent.core
    async with asyncio.timeout(LINGERING + 5):
        while core.transaction_count or core.session_count:  # noqa: ASYNC110 - as an operator looks at the metrics
            await asyncio.sleep(0.1)
    assert system.agent.leg_count == 0
    assert system.switchboard.live_calls() == []
    assert system.agent.counters.faults == system.switchboard.counters.faults == 0


async def test_a_stranger_leaves_no_state_and_is_never_sent_more_than_it_may_have(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as system:
        core = system.agent.core
        with closing(stranger_at(system)) as stranger:
            bare = message("REGISTER", stranger.address, call_id="bare", bare=True)
            stranger.send(bare)                         # shorter than a challenge: when it has asked again
            assert await stranger.answers() == []
            stranger.send(bare)
            assert codes(await stranger.answers()) == [401]
            assert stranger.got <= stranger.sent

            for number, method in enumerate(("INVITE", "INVITE", "REGISTER")):
                request = message(method, stranger.address, call_id=f"n{number}")
                for _ in range(3):                      # the same again: the same one answer again
                    stranger.send(request)
            answers = await stranger.answers()
            assert codes(answers) == [401] * 9
            assert stranger.got <= stranger.sent
            assert len({parse(one).to_tag for one in answers}) == 3
            assert (core.transaction_count, core.session_count, core.next_timeout) == (0, 0, None)

            stranger.send(message("ACK", stranger.address, call_id="n0", to=str(parse(answers[0]).to)))
            for method in ("OPTIONS", "BYE", "CANCEL", "PRACK", "UPDATE", "MESSAGE", "SUBSCRIBE", "XYZZY", "INFO"):
                stranger.send(message(method, stranger.address, call_id="quiet"))
                stranger.send(message(method, stranger.address, call_id="quiet", to="<sip:101@smartswitch>;tag=gone"))
            short = b"INVITE sip:a SIP/2.0\r\nv:SIP/2.0/UDP a\r\nf:sip:a\r\nt:sip:a\r\ni:a\r\nCSeq:1 INVITE\r\n\r\n"
            stranger.send(short)
            assert await stranger.answers() == []
            assert core.counters.withheld == 1
            assert (core.transaction_count, core.session_count, core.next_timeout) == (0, 0, None)


async def test_a_source_that_never_answers_its_challenges_is_not_challenged_for_ever(tmp_path: Path) -> None:
    async with scene(tmp_path) as (system, trunk, _desk):
        with closing(stranger_at(system)) as stranger, closing(stranger_at(system, DESK)) as forged:
            heard = 0
            for number in range(SOURCE_CHALLENGES + 50):
                for who in (stranger, forged):
                    who.send(message("REGISTER", who.address, call_id=f"n{number}"))
                if number % 50 == 0:
                    heard += len(await stranger.answers())
            assert heard + len(await stranger.answers()) == SOURCE_CHALLENGES
        async with phone_at(DESK, system.sip[0], Answers(), "102", PASSWORD) as neighbour:
            # Who is known there is heard, whoever forged its address.
            assert (await neighbour.register()).status == 200
        await a_call_goes_through(trunk)


async def test_what_is_no_message_gets_a_400_where_that_is_allowed_and_shorter_than_itself(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as system:
        with closing(stranger_at(system)) as stranger:
            here, padding = stranger.address, "X-Padding: " + "x" * 100
            answered = [
                message("INVITE", here, padding, cseq="1 BYE"),
                message("INVITE", here, padding, cseq="99999999999999999999 INVITE"),
                message("REGISTER", here, padding, "Content-Length: 4000"),
                message("INVITE", here, padding, "Content-Length: 5\r\nContent-Length: 6", body=b"12345"),
                message("INVITE", here, padding, "\x00: nul"),
                message("INVITE", here, padding, "CSeq: 2 INVITE"),
                message("INVITE", here, *["Via: SIP/2.0/UDP 192.0.2.1"] * 130, padding),
            ]
            silent = [
                message("ACK", here, padding, cseq="1 BYE"),
                message("OPTIONS", here, padding, cseq="1 BYE"),
                message("INVITE", here, cseq="1 BYE")[:150],
                message("INVITE", here, cseq="1 BYE").replace(b"Via", b"Viola") + bytes(4000),
                b"SIP/2.0 200 OK\r\n" + message("INVITE", here).partition(b"\r\n")[2].replace(b"CSeq", b"See"),
                message("INVITE", here)[:-2] + b"X-Long: " + b"y" * (TOO_LONG - 500) + b"\r\n\r\n",
                bytes(TOO_LONG), b"\r\n" * 1000 + b"x", b"\xff" * 2000, b"INVITE " * 5000,
                b"\x16\x03\x01\x02\x00", b"\x80\x00" + bytes(170),
            ]
            for data in answered:
                stranger.send(data)
                size = len(data)
                (response,) = await stranger.answers()
                assert codes([response])[0] in (400, 483)
                assert len(response) <= size
            for data in silent:
                stranger.send(data)
            # The header field of 60 kB is answered, and its answer is short: that is no gain for anybody.
            assert codes(await stranger.answers()) in ([], [400])
        assert system.agent.counters.malformed >= len(answered) + len(silent) - 1
        assert (system.agent.counters.faults, system.agent.core.transaction_count) == (0, 0)


@pytest.mark.parametrize("host", [STRANGER, TRUNK, DESK], ids=["stranger", "trunk", "phone"])
async def test_hostile_messages_harm_nobody_wherever_they_come_from(tmp_path: Path, host: str) -> None:
    async with scene(tmp_path) as (system, trunk, desk):
        desk.does = Rings()                             # some of it is a call: it must end like one
        slowest, lingering = 0.0, system.agent.core.transaction_count
        with closing(stranger_at(system, host)) as attacker:
            for data in hostile(attacker.address, system.sip[0], random.Random(5)):
                began = system.agent.now()
                attacker.send(data)
                await attacker.answers()
                slowest = max(slowest, system.agent.now() - began)
                assert system.agent.counters.faults == 0, data[:300]
            if host == STRANGER:
                assert system.agent.core.transaction_count <= lingering
                assert attacker.got <= attacker.sent
        assert slowest < 0.5
        desk.does = Answers(0.02)
        await a_call_goes_through(trunk)
        if host == TRUNK:                               # only what comes from there may linger at all
            await nothing_is_left(system)


async def test_a_flood_from_everywhere_costs_no_call_and_leaves_nothing(tmp_path: Path) -> None:
    def flood(number: int) -> bytes:
        source, name = crowd[number % len(crowd)], f"flood{number}"
        match number % 5:
            case 0:
                return message("OPTIONS", source.address, call_id=name)
            case 1:
                return message("REGISTER", source.address, call_id=name)
            case 2:
                return rng.randbytes(300)
            case 3:
                forged = f'Authorization: Digest username="10{number % 9}", realm="smartswitch", nonce="{number:028}"' \
                    ', uri="sip:x", response="0"'
                return message("INVITE", source.address, forged, call_id=name)
            case _:
                return message("INVITE", source.address, call_id=name)

    rng = random.Random(3)
    async with scene(tmp_path) as (system, trunk, _):
        crowd = [stranger_at(system, f"127.{BLOCK}.{30 + n // 50}.{n % 50 + 1}") for n in range(300)]
        try:
            first = trunk.call(DID, as_=IVAN)
            await first.answered.wait()
            process, core, loop = psutil.Process(), system.agent.core, asyncio.get_running_loop()
            began, sent, second, at_first = loop.time(), 0, None, 0
            while (elapsed := loop.time() - began) < FLOOD_SECONDS:
                while sent < elapsed * FLOOD_RATE:
                    crowd[sent % len(crowd)].send(flood(sent))
                    sent += 1
                if elapsed > FLOOD_SECONDS / 3 and second is None:
                    at_first = process.memory_info().rss
                    second = trunk.call(DID, as_=IVAN)
                await asyncio.sleep(0.002)              # the pace of the flood
            assert second is not None
            await asyncio.wait_for(second.answered.wait(), 2)
            await crowd[0].answers()
            assert not first.over.is_set()
            assert len(system.switchboard.live_calls()) == 2
            assert core.session_count == 4              # two of each call
            assert core.transaction_count < 30
            assert process.memory_info().rss - at_first < 8 * 1024 * 1024
            assert system.agent.transports[Transport.UDP].counters.received > sent      # type: ignore[attr-defined]
            first.hang_up()
            second.hang_up()
        finally:
            for one in crowd:
                one.close()
        await nothing_is_left(system)


@pytest.mark.parametrize("host", [DESK, TRUNK], ids=["phone", "trunk"])
async def test_who_forges_a_known_address_gets_no_more_out_of_us_than_it_puts_in_and_fills_nothing(
    tmp_path: Path, host: str,
) -> None:
    rng = random.Random(7)
    methods = ("OPTIONS", "MESSAGE", "NOTIFY", "INFO", "BYE", "CANCEL", "REFER", "PUBLISH", "XYZZY")
    async with scene(tmp_path) as (system, trunk, desk):
        core = system.agent.core
        there = core.transaction_count                  # of the phone's own REGISTER
        with closing(stranger_at(system, host)) as forged:
            for number in range(2000):
                padding = ["X-Padding: " + "x" * rng.randrange(400)] if number % 2 else []
                tag = ";tag=gone" if number % 3 == 0 else ""
                forged.send(message(
                    methods[0] if number % 4 else rng.choice(methods), forged.address, *padding, call_id=f"n{number}",
                    to=f"<sip:101@smartswitch>{tag}", bare=rng.random() < 0.3))
                if number % 50 == 0:
                    await forged.answers()
                    assert forged.got <= forged.sent
            await forged.answers()
            assert forged.got <= forged.sent
            assert core.transaction_count <= there
            full = message("OPTIONS", forged.address, "X-Padding: " + "x" * 400, call_id="keep-alive")
            forged.send(full)
            forged.send(full)                           # the same again: the same tag again
            first, again = map(parse, await forged.answers())
            assert isinstance(first, Response)
            assert (first.status, first.to_tag) == (200, again.to_tag)
            shown = {name for name, _ in first.headers}
            assert shown >= {"Allow", "Accept", "Accept-Encoding", "Supported", "Allow-Events"}
            brief = message("OPTIONS", forged.address, call_id="brief", bare=True)
            forged.send(brief)
            (short,) = await forged.answers()
            assert codes([short]) == [200]
            assert len(short) <= len(brief)
            assert core.transaction_count <= there
        assert system.agent.counters.faults == 0
        await a_call_goes_through(trunk)
        assert desk.calls


async def test_wrong_passwords_end_in_silence_for_the_guesser_alone(tmp_path: Path) -> None:
    async with scene(tmp_path) as (system, trunk, desk):
        guesser = DigestClient("102", "guess", random.Random(1))
        with closing(stranger_at(system, DESK)) as thief:       # at the address of an honest phone, as behind a NAT
            first = message("INVITE", thief.address, call_id="guess")
            thief.send(first)
            (challenge,) = await thief.answers()
            request, response = parse(first), parse(challenge)
            assert isinstance(request, Request)
            assert isinstance(response, Response)
            signed = guesser.answer(response, request)
            for number in range(PAIR_FAILURES + 10):
                assert not isinstance(signed, Unanswerable)
                header = [f"{name}: {value}" for name, value in signed]
                thief.send(message("INVITE", thief.address, *header, call_id=f"guess{number}"))
                signed = guesser.sign("INVITE", "sip:101@smartswitch")
            answers = codes(await thief.answers())
            # Whoever was asked for a password at a proved address hears 100 at once, and 401 later and later.
            assert (answers.count(100), answers.count(403)) == (PAIR_FAILURES, 1)
            assert system.agent.core.session_count <= PAIR_FAILURES
        call = desk.call("102")                         # the honest phone is still believed, and told that 102 is away
        await asyncio.wait_for(call.over.wait(), 2)
        assert call.status == 480
        await a_call_goes_through(trunk)


async def test_a_scanner_is_banned_listed_and_lifted_from_the_command_line_and_the_phones_do_not_notice(
    tmp_path: Path,
) -> None:
    async def command(*words: str) -> Result:
        environment = {
            "SMARTSWITCH_SERVER__DATA_DIR": str(tmp_path), "SMARTSWITCH_WEB__HOST": system.web.host,
            "SMARTSWITCH_WEB__PORT": str(system.web.port),
        }
        with capture_logs():                   # the system, in this process, would log between the lines of the command
            return await asyncio.to_thread(CliRunner().invoke, cli, words, env=environment)

    async with scene(tmp_path) as (system, trunk, _):
        assert "Nobody is banned" in (await command("bans")).stdout
        program = "User-Agent: friendly-scanner"
        with closing(stranger_at(system)) as stranger, closing(stranger_at(system, DESK)) as forged, \
                closing(stranger_at(system, TRUNK)) as forged_trunk:
            for who in (stranger, forged, forged_trunk):
                who.send(message("OPTIONS", who.address, program, call_id=f"{who.address.host}o"))
                who.send(message("REGISTER", who.address, program, call_id=f"{who.address.host}r"))
            assert await stranger.answers() == []
            stranger.send(message("REGISTER", stranger.address, call_id="again"))       # as if it were a phone
            assert await stranger.answers() == []
            bans = json.loads((await command("bans", "--json")).stdout)["bans"]
            assert [ban["address"] for ban in bans] == [STRANGER]
            shown = (await command("bans")).stdout
            assert STRANGER in shown
            assert "a scanner: friendly-scanner" in shown
            assert (await command("bans", "lift", "192.0.2.55")).exit_code == 1
            assert "1 ban lifted.\n" in (await command("bans", "lift", STRANGER)).stdout
            stranger.send(message("REGISTER", stranger.address, call_id="forgiven"))
            assert codes(await stranger.answers()) == [401]
        async with phone_at(DESK, system.sip[0], Answers(), "102", PASSWORD) as neighbour:
            assert (await neighbour.register()).status == 200
        await a_call_goes_through(trunk)


async def test_only_a_trunk_calls_as_a_trunk(tmp_path: Path) -> None:
    async with scene(tmp_path) as (system, trunk, desk):
        asserted = f"P-Asserted-Identity: <sip:{IVAN}@{TRUNK}>"
        forged_via = f"Via: SIP/2.0/UDP {TRUNK}:{trunk.transport.local.port};branch=z9hG4bKtrunk"
        with closing(stranger_at(system)) as stranger:
            claims = [
                message("INVITE", trunk.transport.local, asserted, uri=f"sip:{DID}@{HERE}", call_id="claim1"),
                message("INVITE", stranger.address, asserted, via=[forged_via], uri=f"sip:{DID}@x", call_id="claim2"),
                message("INVITE", stranger.address, asserted, uri=f"sip:t{'0' * 24}@{HERE}", call_id="claim3"),
            ]
            for claim in claims:
                stranger.send(claim)
            answers = await stranger.answers()
            assert set(codes(answers)) <= {401}         # the first asked for no rport, and its answer went elsewhere
        assert desk.calls == []
        assert system.switchboard.live_calls() == []


async def test_a_phone_cannot_make_us_call_ourselves_nor_fill_us_with_contacts(tmp_path: Path) -> None:
    async with scene(tmp_path) as (system, trunk, desk):
        ours = system.sip[0]

        async def bind(contact: str, *more: str) -> int:
            client = DigestClient("102", PASSWORD, random.Random(1))
            with closing(stranger_at(system, PHONE)) as phone:
                name = f"bind{random.random()}"
                headers = [f"Contact: {contact}", *more]
                first = message("REGISTER", phone.address, *headers, uri=f"sip:{HERE}", to="<sip:102@x>", call_id=name)
                phone.send(first)
                request, response = parse(first), parse(await phone.answer())
                assert isinstance(request, Request)
                assert isinstance(response, Response)
                headers += [f"{name}: {value}" for name, value in client.authorize(request, response) or ()]
                phone.send(message("REGISTER", phone.address, *headers, uri=f"sip:{HERE}", to="<sip:102@x>",
                                   call_id=name, cseq="2 REGISTER", branch="2" + name))
                return codes([await phone.answer()])[0]

        assert await bind(",".join(f"<sip:{n}@192.0.2.1>" for n in range(250))) in (400, 403)
        assert await bind("*", "Expires: 99999999999") == 400
        assert await bind("*, <sip:102@192.0.2.1>", "Expires: 0") == 400
        assert await bind(f"<sip:{'x' * 5000}@192.0.2.1>") == 400
        assert await bind("<mailto:x@y>") == 400
        assert len(system.switchboard.registered_phones()) == 1
        assert await bind(f"<sip:101@{ours.host}:{ours.port}>;expires=99999999999") == 200
        bound = next(phone for phone in system.switchboard.registered_phones() if phone.extension == "102")
        assert bound.expires_in <= 3600
        async with phone_at(DESK, ours, Answers(), "101", PASSWORD) as caller:
            call = caller.call("102")
            await asyncio.wait_for(call.over.wait(), 5)
            assert call.status is not None
            assert call.status >= 400
        assert desk.calls == []
        await a_call_goes_through(trunk)


async def test_connections_that_only_cost_are_refused_and_udp_goes_on(tmp_path: Path) -> None:
    async def fate(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*tcp, local_addr=(STRANGER, 0))
        try:
            writer.write(data)
            writer.write_eof()
            return await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async with scene(tmp_path) as (system, trunk, _):
        tcp = system.sip[1]
        transport = system.agent.transports[Transport.TCP]
        counters = transport.counters                   # type: ignore[attr-defined]
        endless = [
            b"INVITE sip:a SIP/2.0\r\n" + b"X: y\r\n" * 20_000, b"A" * 100_000, b"\r\n" * 50_000 + b"GET / x\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(9000), bytes(10_000),
            message("INVITE", STRANGER_AT, "Content-Length: 99999999999"),
            message("INVITE", STRANGER_AT, "Content-Length: -1"),
        ]
        for data in endless:
            assert b"SIP/2.0 2" not in await fate(data)
        assert counters.framing_errors >= len(endless) - 2
        assert (await fate(message("INVITE", STRANGER_AT, "Content-Length: 0"))).startswith(b"SIP/2.0 401")
        assert await fate(message("OPTIONS", STRANGER_AT, "Content-Length: 0")) == b""
        allowed = StreamLimits().connections_per_address
        half_open = [await asyncio.open_connection(*tcp, local_addr=(STRANGER, 0)) for _ in range(allowed + 20)]
        try:
            for _, writer in half_open:
                writer.write(b"INVITE sip:a SIP/2.0\r\nVia: ")
            for reader, _ in half_open[allowed:]:
                with suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
            assert counters.refused_connections >= 20
            assert len(transport) <= allowed            # type: ignore[arg-type]
            reader, writer = await asyncio.open_connection(*tcp, local_addr=(PHONE, 0))     # others are served
            writer.write(message("REGISTER", STRANGER_AT, "Content-Length: 0"))
            assert (await reader.readline()).startswith(b"SIP/2.0 401")
            writer.close()
            await a_call_goes_through(trunk)
        finally:
            for _, writer in half_open:
                writer.close()


@pytest.mark.parametrize(("most", "connections"), [(1024, 256), (1_048_576, StreamLimits().connections)])
def test_connections_leave_files_for_what_the_calls_need(
    monkeypatch: pytest.MonkeyPatch, most: int, connections: int
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, most))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert stream_limits().connections == connections
    assert raised == [(most, most)]
