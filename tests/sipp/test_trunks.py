"""Which way a call takes between trunks and the office, and which it does not, between SIPp on both sides."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import sipp
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.pings import answered_pings
from tests.support.sipp import Sipp, bound, ended, run_pair, seen

pytestmark = pytest.mark.skipif(not sipp.available, reason="SIPp is not installed (Debian: sip-tester)")

BEHIND = 5080                             # of a trunk's SIPp, behind answered_pings at 5060
CALLS_FROM = 5090                         # the same, where it calls from
PASSWORD = "correct-horse-battery"
DID = "+74951112233"
SEEN_OF_112 = "112 to 112 from 74950001100 pai  ppi  rpid  privacy  diversion  "
NOTHING = "Subject: nothing more is said of the call"
DIVERTED = ", ".join(f"<sip:+7495000000{digit}@op>;reason=unconditional" for digit in range(5))
SENT_ON = f"<sip:{DID}@op>;index=1" + "".join(
    f", <sip:+7495000000{digit}@op>;index=1{'.1' * digit};mp=1" for digit in range(1, 6))

OFFICE = """\
[[client]]
id = "office"
name = "Office"

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

[[client.extension]]
number = "101"
password = "{password}"

[[client.extension]]
number = "102"
password = "{password}"

[[client.number]]
number = "{did}"
destination = "101"
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

    async def apply(self, office: str) -> None:
        changed = self.logs / "changed.toml"
        changed.write_text(office)
        await asyncio.to_thread(self.daemon.command, "apply", str(changed))


def hosts(addresses: Addresses) -> dict[str, str]:
    network = addresses.trunk.rpartition(".")[0]
    return {"narrow": addresses.trunk, "wide": addresses.other_trunk, "registrar": f"{network}.50",
            "edge": f"{network}.51"}


def office_of(addresses: Addresses) -> str:
    return OFFICE.format(**hosts(addresses), password=PASSWORD, did=DID)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    with ExitStack() as stack:
        for name in ("narrow", "wide"):
            stack.enter_context(answered_pings(hosts(addresses)[name], BEHIND))
        yield stack.enter_context(running_daemon(tmp_path_factory.mktemp("daemon"), addresses, office_of(addresses)))


@pytest.fixture
def ends(daemon: Daemon, tmp_path: Path) -> Ends:
    return Ends(daemon, tmp_path)


async def test_calls_go_by_the_registrars_service_route(ends: Ends) -> None:
    there = hosts(ends.daemon.addresses)
    route = f"<sip:{there['edge']};lr>"
    registrar = ends.trunk("registrar", "trunk_service_route_uas", 5060, route=route)
    edge = ends.trunk("edge", "outbound_by_route_uas", 5060, seen=f"{there['registrar']} by {route}")
    before, trunks, after = office_of(ends.daemon.addresses).partition("\n[[client.trunk]]")
    async with ended(await registrar.start()) as process:
        await bound(registrar.host, registrar.port)
        await ends.apply(before + REGISTERING.format(**there) + trunks + after)
        await registrar.finish(process)
    await run_pair(edge, ends.phone("101", "outbound_answered_uac", called="89264550001"), ends.daemon.sip)
    record = ends.daemon.record(dialled="+79264550001")
    assert (record["trunk"], record["disposition"]) == ("registers", "answered")


async def test_a_call_that_was_sent_on_once_rings_and_one_that_was_too_often_does_not(ends: Ends) -> None:
    await ends.phone("101", "register_uac").run(ends.daemon.sip)
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


async def test_a_short_number_stays_as_it_is_where_others_are_written_with_zeros(ends: Ends) -> None:
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


def tell(phone: Sipp) -> None:
    """Send its SIPp the MESSAGE that it waits for."""
    call_id = re.findall(r"Call-ID: (\S+)", phone.log("messages"))[0]
    message = TOLD.format(host=phone.host, call_id=call_id).replace("\n", "\r\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(message.encode(), (phone.host, phone.port))
