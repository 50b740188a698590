"""Moments that plain calls do not have, between SIPp on both sides; the daemon's T1 is short, so that they end soon."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import sipp
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.pings import answered_pings
from tests.support.sipp import Sipp, bound, ended, run_pair, seen

pytestmark = pytest.mark.skipif(not sipp.available, reason="SIPp is not installed (Debian: sip-tester)")

T1 = 0.05                                 # seconds: 64·T1 is 3.2
BEHIND = 5080                             # of a trunk's SIPp, behind answered_pings at 5060
PASSWORD = "correct-horse-battery"
DID = "+749511122{0:02}"                  # rings extension 1{0:02}
GROUP_DID = DID.format(60)                # rings 111 and 112
FORWARDED_DID = DID.format(61)            # rings 116 and 118; 116 forwards all calls to 118
ABROAD = "+88213300012"                   # where the office may not call

OFFICE = """\
[[client]]
id = "office"
name = "Office"
forward_outside = true

[[client.limit]]
prefix = "+882"
refused = true

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
number = "1{digits:02}"
password = "{PASSWORD}"

[[client.number]]
number = "{DID.format(digits)}"
destination = "1{digits:02}"
""" for digits in (*range(1, 16), 18, 19, 20)) + f"""
[[client.extension]]
number = "116"
password = "{PASSWORD}"
forward_always = "118"

[[client.extension]]
number = "117"
password = "{PASSWORD}"
forward_always = "{ABROAD}"

[[client.number]]
number = "{DID.format(17)}"
destination = "117"
[[client.group]]
number = "600"
members = ["111", "112"]

[[client.number]]
number = "{GROUP_DID}"
destination = "600"

[[client.group]]
number = "610"
members = ["116", "118"]

[[client.number]]
number = "{FORWARDED_DID}"
destination = "610"
"""

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

    async def register(self, *phones: Sipp) -> None:
        for phone in phones:
            await replace(phone, scenario="register_uac").run(self.daemon.sip)

    async def call_in(
        self, digits: int, called: str, caller: str, *others: Sipp, dialled: str = "", **keys: str
    ) -> dict[str, Any]:
        """A call to the phone of these digits, which plays `called`; the record of it."""
        number, phone = f"+79161112{digits:02}0", self.phone(f"1{digits:02}", called, **keys)
        await self.register(phone)
        await with_others(self, others, phone, self.caller(digits, caller, number, dialled or DID.format(digits)))
        return self.daemon.record(caller=number)

    async def taken(self, caller: str, called: Sipp, when: str, taker: Sipp) -> dict[str, Any]:
        """A call that is taken by its dialog (RFC 3891) when that phone has had such a message; the record of it."""
        await self.register(called)
        digits = int(called.keys["caller"][-2:])
        number = f"+79161113{digits:02}0"
        trunk = self.caller(digits, caller, number, DID.format(digits))
        async with ended(await called.start()) as there:
            await bound(called.host, called.port)
            async with ended(await trunk.start(self.daemon.sip)) as calling:
                await seen(called, when)
                keys = {**taker.keys, "called": called.keys["caller"][-3:], "replaces": replaces(called)}
                async with ended(await replace(taker, keys=keys).start(self.daemon.sip)) as taking:
                    for end, process in ((taker, taking), (called, there), (trunk, calling)):
                        await end.finish(process)
        return self.daemon.record(caller=number)

    def caller(self, digits: int, scenario: str, number: str, dialled: str) -> Sipp:
        """The trunk, by a port of its own."""
        return replace(self.trunk(scenario, caller=number, called=dialled), port=BEHIND + digits)

    def second_phone(self, extension: str, scenario: str, **keys: str) -> Sipp:
        """At another address."""
        host = self.daemon.addresses.phone(str(int(extension) + 100))
        return replace(self.phone(extension, scenario, **keys), host=host, logs=self.logs / f"{extension}-second")


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


async def test_a_callee_who_declines_declines_through_every_trunk(ends: Ends) -> None:
    caller = ends.phone("102", "outbound_declined_uac", called="89263550603")
    await run_pair(ends.trunk("outbound_declined_uas", ends.host("busy")), caller, ends.daemon.sip)
    record = ends.daemon.record(dialled="+79263550603")
    assert (record["trunk"], record["disposition"], record["status"]) == ("busy", "declined", 603)


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


async def test_where_the_office_may_not_call_no_trunk_is_asked(ends: Ends) -> None:
    await ends.phone("101", "outbound_refused_uac", called="81088213300012").run(ends.daemon.sip)
    record = ends.daemon.record(dialled="+88213300012")
    assert (record["trunk"], record["disposition"], record["reason"]) == (None, "refused", "limit reached")


async def test_whom_a_phone_or_its_settings_send_where_the_office_may_not_call_gets_no_further(ends: Ends) -> None:
    forwarded = ends.caller(17, "inbound_refused_uac", "+79161112170", DID.format(17))
    transferred, moved, _ = await asyncio.gather(
        ends.call_in(19, "inbound_transfer_refused_uas", "inbound_callee_hangs_up_uac", target=ABROAD),
        ends.call_in(20, "inbound_moved_uas", "inbound_refused_uac", target=ABROAD),
        forwarded.run(ends.daemon.sip),
    )
    assert (transferred["extension"], transferred["disposition"], transferred["ended_by"]) == (
        "119", "answered", "callee")
    for why in ("office allows no calls to +882 (limit, refused)", "the transfer failed (403): 119 goes on"):
        assert why in transferred["why"]
    for record in (moved, ends.daemon.record(caller=forwarded.keys["caller"])):
        assert (record["disposition"], record["reason"], record["status"]) == ("refused", "limit reached", 403)
        assert "office allows no calls to +882 (limit, refused)" in record["why"]


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


async def test_what_two_who_talk_do_at_the_same_moment(ends: Ends) -> None:
    timers, asked, gone, glare, crossing, written = await asyncio.gather(
        ends.call_in(5, "inbound_timer_uas", "inbound_timer_uac"),
        ends.call_in(6, "inbound_offerless_reinvite_uas", "inbound_offerless_reinvite_uac"),
        ends.call_in(7, "inbound_gone_uas", "inbound_gone_uac"),
        ends.call_in(8, "inbound_glare_uas", "inbound_glare_uac"),
        ends.call_in(9, "inbound_crossing_uas", "inbound_crossing_uac"),
        ends.call_in(12, "inbound_message_uas", "inbound_message_uac"),
    )
    for record in (timers, asked, glare, written):
        assert (record["disposition"], record["ended_by"], record["reason"]) == ("answered", "caller", "hung up")
    assert (crossing["disposition"], crossing["ended_by"], crossing["reason"]) == ("answered", "callee", "hung up")
    assert (gone["disposition"], gone["ended_by"], gone["reason"]) == ("answered", "callee", "dialog gone")


async def test_who_rings_beside_others_and_who_does_not_ring_yet(ends: Ends) -> None:
    mobile, colleague = ends.second_phone("110", "inbound_pickup_uas"), ends.phone("112", "inbound_answered_uas")
    await ends.register(mobile, colleague)
    desk, group, forwarded, early, cancelled = await asyncio.gather(
        ends.call_in(10, "inbound_answered_uas", "inbound_answered_uac", mobile),
        ends.call_in(11, "inbound_busy_uas", "inbound_answered_uac", colleague, dialled=GROUP_DID),
        ends.call_in(18, "inbound_answered_uas", "inbound_answered_uac", dialled=FORWARDED_DID),
        ends.call_in(13, "inbound_early_media_uas", "inbound_early_media_uac"),
        ends.call_in(14, "inbound_slow_to_ring_uas", "inbound_cancelled_at_once_uac"),
    )
    assert [record["extension"] for record in (desk, group, forwarded, early)] == ["110", "112", "118", "113"]
    assert {record["disposition"] for record in (desk, group, forwarded, early)} == {"answered"}
    assert "116 forwards all calls: 118 rings in its place" in forwarded["why"]
    assert ends.phone("118", "inbound_answered_uas").log("messages").count("\nINVITE sip:") == 1
    assert (cancelled["disposition"], cancelled["ended_by"]) == ("abandoned", "caller")


async def test_who_is_transferred_outside_is_introduced_by_an_offer(ends: Ends) -> None:
    target = "+79165550101"
    record = await ends.call_in(
        15, "inbound_transfer_uas", "inbound_transfer_uac", ends.second("inbound_callee_hangs_up_uas"), target=target)
    assert (record["extension"], record["disposition"], record["ended_by"]) == ("115", "answered", "callee")
    assert target in record["why"]


async def test_another_phone_of_the_same_person_takes_the_call_over(ends: Ends) -> None:
    desk, mobile = ends.phone("102", "inbound_answered_uas"), ends.second_phone("102", "inbound_takeover_uac")
    record = await ends.taken("inbound_transfer_uac", desk, "ACK sip:", mobile)
    assert (record["extension"], record["disposition"], record["ended_by"]) == ("102", "answered", "callee")


async def test_a_colleague_takes_a_call_that_rings(ends: Ends) -> None:
    ringing, colleague = ends.phone("103", "inbound_pickup_uas"), ends.phone("104", "inbound_takeover_uac")
    record = await ends.taken("inbound_callee_hangs_up_uac", ringing, "SIP/2.0 180", colleague)
    assert (record["extension"], record["disposition"], record["rang"]) == ("104", "answered", '["103"]')


def replaces(called: Sipp) -> str:
    """How another phone names the dialog of this one (RFC 3891)."""
    log = called.log("messages")
    call_id, ours, its = (re.findall(pattern, log)[0] for pattern in (
        r"Call-ID: (\S+)", r"From: [^\n]*;tag=(\S+)", r"To: [^\n]*;tag=(\S+)"))
    return f"{call_id};to-tag={ours};from-tag={its}"
