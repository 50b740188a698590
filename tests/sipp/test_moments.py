"""Moments that plain calls do not have, between SIPp on both sides; the daemon's T1 is short, so that they end soon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support import sipp
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.pings import answered_pings
from tests.support.sipp import Sipp, bound, ended, run_pair

pytestmark = pytest.mark.skipif(not sipp.available, reason="SIPp is not installed (Debian: sip-tester)")

T1 = 0.05                                 # seconds: 64·T1 is 3.2
BEHIND = 5080                             # of a trunk's SIPp, behind answered_pings at 5060
PASSWORD = "correct-horse-battery"
DID = "+7495111220{0}"                    # rings extension 10{0}

OFFICE = """\
[[client]]
id = "office"
name = "Office"

[[client.trunk]]
name = "first"
host = "{first}"
port = 5060
prefixes = ["+79261"]

[[client.trunk]]
name = "silent"
host = "{silent}"
port = 5060
prefixes = ["+79262"]

[[client.trunk]]
name = "busy"
host = "{busy}"
port = 5060
prefixes = ["+79263"]

[[client.trunk]]
name = "second"
host = "{second}"
port = 5060
priority = 1
""" + "".join(f"""
[[client.extension]]
number = "10{digit}"
password = "{PASSWORD}"

[[client.number]]
number = "{DID.format(digit)}"
destination = "10{digit}"
""" for digit in range(1, 9))

REGISTERING = """
[[client.trunk]]
name = "registers"
host = "{host}"
port = 5060
register = true
user = "account"
password = "operators-secret"
priority = 9
"""


@dataclass(frozen=True)
class Ends:
    daemon: Daemon
    logs: Path

    def trunk(self, scenario: str, host: str = "", **keys: str) -> Sipp:
        host = host or self.daemon.addresses.trunk
        return Sipp(scenario, host, self.logs / host, BEHIND, keys)

    def host(self, name: str) -> str:
        return trunk_hosts(self.daemon.addresses)[name]

    def second(self, scenario: str) -> Sipp:
        return self.trunk(scenario, self.host("second"))

    def phone(self, extension: str, scenario: str, **keys: str) -> Sipp:
        login = f"office-{extension}"
        return Sipp(scenario, self.daemon.addresses.phone(extension), self.logs / extension, login=login,
                    password=PASSWORD, keys={"caller": login, **keys})

    async def call_in(self, digit: int, called: str, caller: str, *others: Sipp, **keys: str) -> dict[str, object]:
        """A call to the phone of that digit, which plays `called`; the record of it."""
        number, extension = f"+791611122{digit}0", f"10{digit}"
        await self.phone(extension, "register_uac").run(self.daemon.sip)
        trunk = replace(self.trunk(caller, caller=number, called=DID.format(digit)), port=BEHIND + digit)
        await with_others(self, others, self.phone(extension, called, **keys), trunk)
        return self.daemon.record(caller=number)


async def with_others(ends: Ends, others: tuple[Sipp, ...], called: Sipp, caller: Sipp) -> None:
    """Further ends are there before the call, and have had theirs when it is over."""
    if not others:
        await run_pair(called, caller, ends.daemon.sip)
        return
    async with ended(await others[0].start()) as process:
        await bound(others[0].host, others[0].port)
        await with_others(ends, others[1:], called, caller)
        await others[0].finish(process)


def trunk_hosts(addresses: Addresses) -> dict[str, str]:
    network = addresses.trunk.rpartition(".")[0]
    return {"first": addresses.trunk, "second": addresses.other_trunk, "silent": f"{network}.3", "busy": f"{network}.4"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    hosts = trunk_hosts(addresses)
    office = OFFICE.format(**hosts)
    with ExitStack() as stack:
        for host in hosts.values():
            stack.enter_context(answered_pings(host, BEHIND))
        yield stack.enter_context(running_daemon(
            tmp_path_factory.mktemp("daemon"), addresses, office, environment={"SMARTSWITCH_SIP__T1": str(T1)}))


@pytest.fixture
def ends(daemon: Daemon, tmp_path: Path) -> Ends:
    return Ends(daemon, tmp_path)


# -- trunks

async def test_a_trunk_that_fails_with_503_is_followed_by_the_next(ends: Ends) -> None:
    caller = ends.phone("101", "outbound_answered_uac", called="89261550503")
    await with_others(ends, (ends.trunk("outbound_unavailable_uas"),),
                      ends.second("outbound_answered_uas"), caller)
    record = ends.daemon.record(dialled="+79261550503")
    assert (record["trunk"], record["disposition"]) == ("second", "answered")


async def test_a_trunk_that_says_nothing_is_followed_by_the_next(ends: Ends) -> None:
    caller = ends.phone("101", "outbound_answered_uac", called="89262550408")
    await run_pair(ends.second("outbound_answered_uas"), caller, ends.daemon.sip)
    record = ends.daemon.record(dialled="+79262550408")
    assert (record["trunk"], record["disposition"]) == ("second", "answered")
    assert "+79262550408 through silent" in record["why"]


async def test_a_busy_callee_is_busy_through_every_trunk(ends: Ends) -> None:
    caller = ends.phone("101", "outbound_busy_uac", called="89263550486")
    await run_pair(ends.trunk("outbound_busy_uas", ends.host("busy")), caller, ends.daemon.sip)
    record = ends.daemon.record(dialled="+79263550486")
    assert (record["trunk"], record["disposition"], record["status"]) == ("busy", "busy", 486)


async def test_a_trunk_registers_with_digest_takes_a_longer_time_and_comes_again_before_it_is_over(
    ends: Ends, tmp_path: Path
) -> None:
    addresses = ends.daemon.addresses
    host = addresses.trunk.rpartition(".")[0] + ".50"
    registrar = Sipp("trunk_registrar_uas", host, ends.logs)
    office = OFFICE.format(**trunk_hosts(addresses))
    changed = tmp_path / "changed.toml"
    before, extensions, after = office.partition("\n[[client.extension]]")
    changed.write_text(before + REGISTERING.format(host=host) + extensions + after)
    async with ended(await registrar.start()) as process:
        await bound(host, registrar.port)
        await asyncio.to_thread(ends.daemon.command, "apply", str(changed))
        await registrar.finish(process)
    changed.write_text(office)
    await asyncio.to_thread(ends.daemon.command, "apply", str(changed))


# -- calls that come in, side by side

async def test_the_moments_of_a_call_from_outside(ends: Ends) -> None:
    colleague = ends.phone("105", "inbound_answered_uas")
    await ends.phone("105", "register_uac").run(ends.daemon.sip)
    unacknowledged, asked, reliable, moved = await asyncio.gather(
        ends.call_in(1, "inbound_answered_uas", "inbound_lost_ack_uac"),
        ends.call_in(2, "inbound_answered_uas", "inbound_in_dialog_uac"),
        ends.call_in(3, "inbound_answered_uas", "inbound_prack_uac"),
        ends.call_in(4, "inbound_moved_uas", "inbound_answered_uac", colleague, target="105"),
    )
    assert (unacknowledged["reason"], unacknowledged["ended_by"]) == ("no ACK", "switch")
    for record, extension in ((asked, "102"), (reliable, "103"), (moved, "105")):
        assert (record["extension"], record["disposition"], record["reason"]) == (extension, "answered", "hung up")
