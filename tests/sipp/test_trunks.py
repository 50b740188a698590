"""Which way a call takes between trunks and the office, and which it does not, between SIPp on both sides."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import pytest

from b2bua.sandbox import SandboxSeed, SeedAccount, SeedContact, SeedUser
from tests.support import sipp
from tests.support.crm_thread import answering_crm
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.name_server import answered_names
from tests.support.pings import answered_pings
from tests.support.sipp import Sipp, bound, ended, run_pair, seen

pytestmark = pytest.mark.skipif(not sipp.available, reason="SIPp is not installed (Debian: sip-tester)")

BEHIND = 5080                             # of a trunk's SIPp, behind answered_pings at 5060
CALLS_FROM = 5090                         # the same, where it calls from
WATCHES = 7000                            # where a phone watches others from; at 6000 SIPp has its media
PASSWORD = "correct-horse-battery"
DID = "+74951112233"
OTHER_DID = "+74951112266"                # rings extension 102
OUTSIDE_DID = "+74951112244"              # leads to a mobile, and to extension 102 when that is busy
NAMED_DID = "+74951112255"                # of the trunk "named" alone
IVAN = "+79161110006"                     # user 77 is responsible for him
CRM = SandboxSeed((SeedAccount(users=(SeedUser(77, "Вера", is_admin=True),),
                               contacts=(SeedContact("Иван", (IVAN,), responsible=77),)),))
SEEN_OF_112 = "112 to 112 from 74950001100 pai  ppi  rpid  privacy  diversion    history   "
NOTHING = "Subject: nothing more is said of the call"
DIVERTED = ", ".join(f"<sip:+7495000000{digit}@op>;reason=unconditional" for digit in range(5))
SENT_ON = f"<sip:{DID}@op>;index=1" + "".join(
    f", <sip:+7495000000{digit}@op>;index=1{'.1' * digit};mp=1" for digit in range(1, 6))

OFFICE = """\
[[client]]
id = "office"
name = "Office"
forward_outside = true
show_callers = true

[client.crm]
base_url = "{crm}"
token = "sandbox-token"

[[client.limit]]
prefix = "112"
refused = true

[[client.trunk]]
name = "narrow"
host = "{narrow}"
port = 5060
profile = "zeros"
caller_id = "+74950001100"
prefixes = ["+79265", "112"]
max_calls = 1

[[client.trunk]]
name = "wide"
host = "{wide}"
port = 5060
priority = 1

[[client.trunk]]
name = "named"
host = "named.test"
prefixes = ["+79266"]

[[client.extension]]
number = "101"
password = "{password}"

[[client.extension]]
number = "102"
password = "{password}"

[[client.extension]]
number = "103"
password = "{password}"
crm_user = 77
forward_always = "+79265550010"

[[client.extension]]
number = "104"
password = "{password}"

[[client.number]]
number = "{did}"
destination = "101"

[[client.number]]
number = "{other_did}"
destination = "102"

[[client.number]]
number = "{outside_did}"
destination = "+79265550009"
on_busy = "102"

[[client.number]]
number = "{named_did}"
destination = "101"
trunk = "named"

[[client]]
id = "neighbours"

[[client.extension]]
number = "201"
password = "{password}"
"""

NAMES = """\
$TTL 60
_sip._udp.named  IN SRV 10 1 5071 equal-a
_sip._udp.named  IN SRV 10 1 5071 equal-b
_sip._udp.named  IN SRV 20 9 5072 later
equal-a          IN A {equal-a}
equal-b          IN A {equal-b}
later            IN A {later}
"""

REGISTERING = """
[[client.trunk]]
name = "registers"
host = "{registrar}"
port = 5060
register = true
user = "account"
password = "operators-secret"
prefixes = ["+79264"]
"""

TOLD = """\
MESSAGE sip:phone@{host} SIP/2.0
Via: SIP/2.0/UDP {host}:9;branch=z9hG4bKtold
From: <sip:test@{host}>;tag=told
To: <sip:phone@{host}>
Call-ID: {call_id}
CSeq: 1 MESSAGE
Content-Length: 0

"""


@dataclass(frozen=True)
class Ends:
    daemon: Daemon
    logs: Path

    def trunk(self, name: str, scenario: str, port: int = BEHIND, **keys: str) -> Sipp:
        return Sipp(scenario, hosts(self.daemon.addresses)[name], self.logs / f"{name}-{port}", port, keys)

    def phone(self, extension: str, scenario: str, **keys: str) -> Sipp:
        login = f"office-{extension}"
        return Sipp(scenario, self.daemon.addresses.phone(extension), self.logs / extension, login=login,
                    password=PASSWORD, keys={"caller": login, **keys})

    async def pair_and(self, others: Sequence[Sipp], called: Sipp, caller: Sipp) -> None:
        """The others have their part of the call, too."""
        async with AsyncExitStack() as stack:
            processes = [await stack.enter_async_context(ended(await one.start())) for one in others]
            for one in others:
                await one.listens()
            await run_pair(called, caller, self.daemon.sip)
            for one, process in zip(others, processes, strict=True):
                await one.finish(process)

    def watcher(self, scenario: str, called: str) -> Sipp:
        port = WATCHES + crc32(called.encode()) % 1000
        return replace(self.phone("104", scenario, called=called), port=port, logs=self.logs / f"watches-{called}")

    async def watched(self, extension: str, called: str, caller: str, privacy: str) -> tuple[str, str]:
        """A call to the extension while it is watched; the messages that the watcher has seen."""
        watcher, rings = self.watcher("subscribe_uac", extension), self.phone(extension, "inbound_cancelled_uas")
        async with ended(await watcher.start(self.daemon.sip)) as process:
            await seen(watcher, "<state>terminated")
            await run_pair(rings, self.trunk(
                "wide", "inbound_watched_uac", CALLS_FROM + int(extension), called=called, caller="operator",
                identity=f"P-Asserted-Identity: <sip:{caller}@op>", privacy=privacy), self.daemon.sip)
            await watcher.finish(process)
        return extension, watcher.log("messages")

    async def logged(self, *parts: str) -> None:
        """Wait until one line of the daemon's log has all of these."""
        async with asyncio.timeout(10):
            while not any(all(part in line for part in parts) for line in self.daemon.lines()):      # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def apply(self, office: str) -> None:
        changed = self.logs / "changed.toml"
        changed.write_text(office)
        await asyncio.to_thread(self.daemon.command, "apply", str(changed))


def hosts(addresses: Addresses) -> dict[str, str]:
    network = addresses.trunk.rpartition(".")[0]
    return {"narrow": addresses.trunk, "wide": addresses.other_trunk, "registrar": f"{network}.50",
            "edge": f"{network}.51", "equal-a": f"{network}.61", "equal-b": f"{network}.62", "later": f"{network}.63",
            "beside wide": f"{network}.3", "beside equal-a": f"{network}.60"}


def office_of(addresses: Addresses, crm: str) -> str:
    return OFFICE.format(
        **hosts(addresses), crm=crm, password=PASSWORD, did=DID, other_did=OTHER_DID, outside_did=OUTSIDE_DID,
        named_did=NAMED_DID)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    there = hosts(addresses)
    with ExitStack() as stack:
        for name, port in (("narrow", 5060), ("wide", 5060), ("equal-a", 5071), ("equal-b", 5071), ("later", 5072)):
            stack.enter_context(answered_pings(there[name], BEHIND, port))
        server = stack.enter_context(answered_names(NAMES.format(**there), "test.", addresses.stranger))
        office = office_of(addresses, stack.enter_context(answering_crm(CRM, addresses.world)))
        home = tmp_path_factory.mktemp("daemon")
        daemon = stack.enter_context(running_daemon(
            home, addresses, office, environment={"SMARTSWITCH_SIP__NAMESERVERS": json.dumps([server])}))
        asyncio.run(register(Ends(daemon, home), "101", "102"))
        yield daemon


async def register(ends: Ends, *extensions: str) -> None:
    """For all tests: SIPp takes a second for each."""
    await asyncio.gather(*(ends.phone(extension, "register_uac").run(ends.daemon.sip) for extension in extensions))


@pytest.fixture
def ends(daemon: Daemon, tmp_path: Path) -> Ends:
    return Ends(daemon, tmp_path)


async def test_calls_go_by_the_registrars_service_route(ends: Ends) -> None:
    there = hosts(ends.daemon.addresses)
    route = f"<sip:{there['edge']};lr>"
    registrar = ends.trunk("registrar", "trunk_service_route_uas", 5060, route=route)
    edge = ends.trunk("edge", "outbound_by_route_uas", 5060, seen=f"{there['registrar']} by {route}")
    before, trunks, after = ends.daemon.applied.read_text().partition("\n[[client.trunk]]")
    async with ended(await registrar.start()) as process:
        await bound(registrar.host, registrar.port)
        await ends.apply(before + REGISTERING.format(**there) + trunks + after)
        await registrar.finish(process)
    await run_pair(edge, ends.phone("101", "outbound_answered_uac", called="89264550001"), ends.daemon.sip)
    record = ends.daemon.record(dialled="+79264550001")
    assert (record["trunk"], record["disposition"]) == ("registers", "answered")


async def test_a_call_that_was_sent_on_once_rings_and_one_that_was_too_often_does_not(ends: Ends) -> None:
    once = ends.trunk("narrow", "inbound_profile_uac", CALLS_FROM, called=DID, asked=DID, caller="+79161110001",
                      identity="Diversion: <sip:+74950000001@op>;reason=user-busy", privacy=NOTHING)
    too_often = [
        ends.trunk("wide", "inbound_sent_on_uac", CALLS_FROM + digit, called=DID, caller=f"+7916111000{digit}",
                   history=history)
        for digit, history in ((2, f"Diversion: {DIVERTED}"), (3, f"History-Info: {SENT_ON}"))
    ]
    await asyncio.gather(run_pair(ends.phone("101", "inbound_answered_uas"), once, ends.daemon.sip),
                         *(one.run(ends.daemon.sip) for one in too_often))
    record = ends.daemon.record(caller="+79161110001")
    assert (record["extension"], record["disposition"]) == ("101", "answered")
    assert "diverted by +74950000001 (user-busy)" in record["why"]
    for one in too_often:
        record = ends.daemon.record(caller=one.keys["caller"])
        assert (record["disposition"], record["reason"], record["status"]) == ("refused", "not allowed", 480)
        assert "it was sent on 5 times before it came here, and goes no further" in record["why"]


async def test_a_call_for_help_goes_out_as_it_is_dialled_whatever_limits_and_profile_say(ends: Ends) -> None:
    trunk = ends.trunk("narrow", "outbound_profile_uas", seen=SEEN_OF_112)
    await run_pair(trunk, ends.phone("101", "outbound_answered_uac", called="112"), ends.daemon.sip)
    record = ends.daemon.record(dialled="112")
    assert (record["trunk"], record["disposition"]) == ("narrow", "answered")


async def test_a_full_trunk_is_passed_over(ends: Ends) -> None:
    waiting = ends.phone("101", "outbound_until_told_uac", called="89265550001")
    first = ends.trunk("narrow", "outbound_no_answer_cancel_uas")
    async with ended(await first.start()) as full:
        await bound(first.host, first.port)
        async with ended(await waiting.start(ends.daemon.sip)) as rung:
            await seen(waiting, "SIP/2.0 180")
            await run_pair(ends.trunk("wide", "outbound_answered_uas"),
                           ends.phone("102", "outbound_answered_uac", called="89265550002"), ends.daemon.sip)
            tell(waiting)
            await waiting.finish(rung)
        await first.finish(full)
    passed, held = (ends.daemon.record(dialled=f"+7926555000{digit}") for digit in (2, 1))
    assert (passed["trunk"], passed["disposition"]) == ("wide", "answered")
    assert "narrow carries 1 calls already (max_calls)" in passed["why"]
    assert (held["trunk"], held["disposition"]) == ("narrow", "abandoned")


async def test_servers_by_srv_are_tried_by_their_priority_and_their_calls_are_the_trunks(ends: Ends) -> None:
    first = [ends.trunk(name, "outbound_unavailable_uas") for name in ("equal-a", "equal-b")]
    caller = ends.phone("101", "outbound_answered_uac", called="89266550001")
    await ends.logged("trunk up", "trunk=named")
    await ends.pair_and(first, ends.trunk("later", "outbound_answered_uas"), caller)
    record = ends.daemon.record(dialled="+79266550001")
    assert (record["trunk"], record["disposition"]) == ("named", "answered")
    for server in first:
        assert f"named has another server than {server.host}" in record["why"]
    keys = {"caller": "+79266550002", "called": "+74950000000"}
    await ends.trunk("later", "inbound_unknown_number_uac", CALLS_FROM, **keys).run(ends.daemon.sip)
    assert ends.daemon.record(caller="+79266550002")["trunk"] == "named"


async def test_a_large_invite_goes_by_tcp_and_by_udp_where_there_is_none(ends: Ends) -> None:
    stream = replace(ends.trunk("wide", "outbound_answered_uas", 5060), transport="t1")
    datagrams = ends.trunk("narrow", "outbound_answered_uas")
    await asyncio.gather(
        run_pair(stream, ends.phone("101", "outbound_large_uac", called="89267550001"), ends.daemon.sip),
        run_pair(datagrams, ends.phone("102", "outbound_large_uac", called="89265550003"), ends.daemon.sip),
    )
    for trunk, protocol, number in ((stream, "TCP", "+79267550001"), (datagrams, "UDP", "+79265550003")):
        assert f"Via: SIP/2.0/{protocol} {ends.daemon.addresses.daemon}" in trunk.log("messages")
        assert ends.daemon.record(dialled=number)["disposition"] == "answered"


async def test_a_number_leads_outside_and_comes_back_to_the_office_when_it_is_busy_there(ends: Ends) -> None:
    outside, caller = ends.trunk("narrow", "outbound_busy_uas"), "+79161110004"
    await ends.pair_and([outside], ends.phone("102", "inbound_answered_uas"),
                        ends.trunk("wide", "inbound_answered_uac", CALLS_FROM, called=OUTSIDE_DID, caller=caller))
    record = ends.daemon.record(caller=caller)
    assert (record["extension"], record["dialled"], record["disposition"]) == ("102", OUTSIDE_DID, "answered")
    assert "+79265550009 is busy: on to 102" in record["why"]


async def test_who_watches_sees_who_calls_there_but_no_withheld_number(ends: Ends) -> None:
    shown, withheld = "+79161110007", "+79161110008"
    seen_of = dict(await asyncio.gather(
        ends.watched("101", DID, shown, NOTHING), ends.watched("102", OTHER_DID, withheld, "Privacy: id")))
    assert f"sip:{shown}@" in seen_of["101"]
    assert "<state>early" in seen_of["102"]
    assert withheld not in seen_of["102"]


async def test_nobody_watches_neighbours_nor_what_is_no_extension(ends: Ends) -> None:
    await asyncio.gather(*(ends.watcher("subscribe_nobody_uac", called).run(ends.daemon.sip)
                           for called in ("201", "narrow")))


async def test_after_the_mobile_of_who_is_responsible_the_destination_rings(ends: Ends) -> None:
    mobile = ends.trunk("narrow", "outbound_busy_uas")
    await ends.pair_and([mobile], ends.phone("101", "inbound_answered_uas"),
                        ends.trunk("wide", "inbound_answered_uac", CALLS_FROM, called=DID, caller=IVAN))
    record = ends.daemon.record(caller=IVAN)
    assert (record["extension"], record["disposition"]) == ("101", "answered")
    why = [said for _, said in json.loads(record["why"])]
    assert "103 is responsible for Иван; 103 forwards all calls: on to +79265550010" in why


async def test_who_has_no_trunk_is_told_to_which_one_the_call_came_nearest(ends: Ends) -> None:
    there, caller = hosts(ends.daemon.addresses), "+79161110005"
    others = ends.trunk("wide", "inbound_unknown_number_uac", CALLS_FROM, called=NAMED_DID, caller=caller)
    strangers = [ends.trunk(name, "unknown_source_challenged_uac", called=called, caller="stranger")
                 for name, called in (("beside wide", DID), ("beside equal-a", "0044123"))]
    await ends.logged("trunk up", "trunk=named")          # its addresses are known
    await asyncio.gather(*(one.run(ends.daemon.sip) for one in (others, *strangers)))
    assert f"{NAMED_DID} belongs to trunk named; the call came by wide" in ends.daemon.record(caller=caller)["why"]
    for why, place, nearest in (
        (f"number {DID} belongs to office, whose wide (office)", "beside wide", "wide"),
        ("nearest is named (office)", "beside equal-a", "equal-a"),
    ):      # fmt: skip
        await ends.logged(f"{why} has {there[nearest]}; the call came from {there[place]}")


def tell(phone: Sipp) -> None:
    """Send its SIPp the MESSAGE that it waits for."""
    call_id = re.findall(r"Call-ID: (\S+)", phone.log("messages"))[0]
    message = TOLD.format(host=phone.host, call_id=call_id).replace("\n", "\r\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(message.encode(), (phone.host, phone.port))
