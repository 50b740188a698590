"""Every flow of a call between SIPp on both sides of a daemon, and what the books say of it afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import pytest

from tests.sipp.office import DID, OFFICE, OTHER_PASSWORD, PASSWORD, QUICK_DID, RPID_DID, SHUT_DID
from tests.support import sipp
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.pings import answered_pings
from tests.support.sipp import Sipp, bound, ended, run_pair, seen

pytestmark = pytest.mark.skipif(not sipp.available, reason="SIPp is not installed (Debian: sip-tester)")

MOVED_PORT = 5090                         # where the trunk sends a call on to
TRUNK_PORT = 5080                         # of SIPp; what dials the trunk comes by answered_pings at 5060
UNANSWERED_CHALLENGES = 500               # of one source, then silence: SOURCE_CHALLENGES of b2bua/sip/throttle.py


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    home, office = tmp_path_factory.mktemp("daemon"), OFFICE.format(trunk=addresses.trunk)
    with answered_pings(addresses.trunk, TRUNK_PORT), running_daemon(home, addresses, office) as daemon:
        yield daemon


@dataclass(frozen=True)
class Ends:
    """Builds both ends of a flow for one test."""

    daemon: Daemon
    logs: Path

    def trunk(self, scenario: str, **keys: str) -> Sipp:
        return Sipp(scenario, self.daemon.addresses.trunk, self.logs, TRUNK_PORT, keys)

    def phone(self, extension: str, scenario: str, password: str = PASSWORD, **keys: str) -> Sipp:
        login = f"office-{extension}"
        return Sipp(scenario, self.daemon.addresses.phone(extension), self.logs, login=login, password=password,
                    keys={"caller": login, **keys})

    def stranger(self, scenario: str) -> Sipp:
        return Sipp(scenario, self.daemon.addresses.stranger, self.logs, keys={"caller": "100", "called": "0044123"})

    async def register(self, *extensions: str) -> None:
        for extension in extensions:
            await self.phone(extension, "register_uac").run(self.daemon.sip)

    async def pair(self, called: Sipp, caller: Sipp) -> None:
        await run_pair(called, caller, self.daemon.sip)

    async def pair_and(self, third: Sipp, called: Sipp, caller: Sipp) -> None:
        """A third one is called in the course of the call."""
        async with ended(await third.start()) as process:
            await bound(third.host, third.port)
            await self.pair(called, caller)
            await third.finish(process)


@pytest.fixture
def ends(daemon: Daemon, tmp_path: Path) -> Ends:
    return Ends(daemon, tmp_path)


def outcome(record: dict[str, object]) -> tuple[object, ...]:
    return tuple(record[column] for column in ("direction", "disposition", "ended_by", "status", "extension"))


# -- from outside

@pytest.mark.parametrize(("flow", "called", "expected"), [
    ("inbound_answered", DID, ("inbound", "answered", "caller", 200, "101")),
    ("inbound_callee_hangs_up", DID, ("inbound", "answered", "callee", 200, "101")),
    ("inbound_hold_by_caller", DID, ("inbound", "answered", "caller", 200, "101")),
    ("inbound_hold_by_callee", DID, ("inbound", "answered", "callee", 200, "101")),
    ("inbound_fax", DID, ("inbound", "answered", "callee", 200, "101")),
    ("inbound_busy", DID, ("inbound", "busy", "callee", 486, None)),
    ("inbound_no_answer", QUICK_DID, ("inbound", "no answer", "switch", 480, None)),
    ("inbound_cancelled", DID, ("inbound", "abandoned", "caller", 487, None)),
    ("inbound_late_200", DID, ("inbound", "abandoned", "caller", 487, None)),
])
async def test_a_call_from_outside(ends: Ends, flow: str, called: str, expected: tuple[object, ...]) -> None:
    await ends.register("101")
    caller = unique_number(flow)
    await ends.pair(ends.phone("101", f"{flow}_uas"), ends.trunk(f"{flow}_uac", caller=caller, called=called))
    record = ends.daemon.record(caller=caller)
    assert outcome(record) == expected
    assert record["rang"] == ('["101"]' if flow != "inbound_busy" else "[]")


async def test_a_key_by_info_does_not_reach_a_phone_with_telephone_event(ends: Ends) -> None:
    await ends.register("101")
    caller = unique_number("inbound_digits")
    await ends.pair(ends.phone("101", "inbound_answered_uas"),
                    ends.trunk("inbound_digits_uac", caller=caller, called=DID))
    assert outcome(ends.daemon.record(caller=caller)) == ("inbound", "answered", "caller", 200, "101")


async def test_a_call_to_a_number_that_nobody_has(ends: Ends) -> None:
    caller = unique_number("unknown")
    await ends.trunk("inbound_unknown_number_uac", caller=caller, called="+74950000000").run(ends.daemon.sip)
    assert outcome(ends.daemon.record(caller=caller)) == ("inbound", "unreachable", "switch", 404, None)


async def test_a_call_to_an_announcement(ends: Ends) -> None:
    caller = unique_number("announcement")
    await ends.trunk("inbound_announcement_uac", caller=caller, called=SHUT_DID).run(ends.daemon.sip)
    record = ends.daemon.record(caller=caller)
    assert outcome(record) == ("inbound", "unreachable", "switch", 200, None)
    assert (record["reason"], record["answered_at"], record["recording"]) == ("announced", None, None)


async def test_a_call_from_outside_that_is_transferred(ends: Ends) -> None:
    await ends.register("101", "102")
    caller = unique_number("transfer")
    await ends.pair_and(
        ends.phone("102", "inbound_transfer_target_uas"),
        ends.phone("101", "inbound_transfer_uas", target="102"),
        ends.trunk("inbound_transfer_uac", caller=caller, called=DID),
    )
    record = ends.daemon.record(caller=caller)
    assert outcome(record) == ("inbound", "answered", "callee", 200, "102")
    assert record["rang"] == '["101", "102"]'


async def test_a_call_from_outside_that_another_phone_picks_up_while_a_third_one_watches(ends: Ends) -> None:
    await ends.register("101", "102", "103")
    caller = unique_number("pickup")
    watcher = ends.phone("103", "subscribe_uac", called="101")
    ringing = ends.phone("101", "inbound_pickup_uas")
    trunk = ends.trunk("inbound_answered_uac", caller=caller, called=DID)
    picker = ends.phone("102", "inbound_pickup_picker_uac", called="**101")
    async with ended(await watcher.start(ends.daemon.sip)) as watching, ended(await ringing.start()) as rings:
        await seen(watcher, "<state>terminated")
        await bound(ringing.host, ringing.port)
        async with ended(await trunk.start(ends.daemon.sip)) as calling:
            await seen(watcher, "<state>early")
            async with ended(await picker.start(ends.daemon.sip)) as picking:
                for sipp, process in ((picker, picking), (trunk, calling), (ringing, rings), (watcher, watching)):
                    await sipp.finish(process)
    record = ends.daemon.record(caller=caller)
    assert outcome(record) == ("inbound", "answered", "caller", 200, "102")
    assert record["rang"] == '["101"]'


async def test_of_two_who_pick_up_at_once_one_has_the_call(ends: Ends) -> None:
    await ends.register("101")
    caller = unique_number("pickup race")
    ringing = ends.phone("101", "inbound_pickup_uas")
    trunk = ends.trunk("inbound_answered_uac", caller=caller, called=DID)
    pickers = {extension: replace(ends.phone(extension, "inbound_pickup_race_uac", called="**101"),
                                  logs=ends.logs / extension) for extension in ("102", "103")}
    async with ended(await ringing.start()) as rings:
        await bound(ringing.host, ringing.port)
        async with ended(await trunk.start(ends.daemon.sip)) as calling:
            await seen(ringing, "SIP/2.0 180")
            await asyncio.gather(*(picker.run(ends.daemon.sip) for picker in pickers.values()))
            await trunk.finish(calling)
        await ringing.finish(rings)
    (late,) = (extension for extension, picker in pickers.items() if "SIP/2.0 480" in picker.log("messages"))
    (first,) = pickers.keys() - {late}
    assert outcome(ends.daemon.record(caller=caller)) == ("inbound", "answered", "caller", 200, first)


async def test_a_phone_asks_for_its_voice_mail(ends: Ends) -> None:
    await ends.register("102")
    await ends.phone("102", "subscribe_other_uac", called="102").run(ends.daemon.sip)


# -- to the outside, and inside

@pytest.mark.parametrize(("flow", "expected"), [
    ("outbound_answered", ("outbound", "answered", "caller", 200, "102")),
    ("outbound_busy", ("outbound", "busy", "callee", 486, "102")),
    ("outbound_no_answer_cancel", ("outbound", "abandoned", "caller", 487, "102")),
])
async def test_a_call_to_the_outside(ends: Ends, flow: str, expected: tuple[object, ...]) -> None:
    dialled = unique_number(flow)
    await ends.pair(ends.trunk(f"{flow}_uas"), ends.phone("102", f"{flow}_uac", called=dialled))
    assert outcome(ends.daemon.record(dialled=dialled)) == expected


async def test_a_trunk_sends_a_call_on(ends: Ends) -> None:
    dialled, moved = unique_number("redirected"), unique_number("moved")
    await ends.pair_and(
        replace(ends.trunk("outbound_answered_uas"), port=MOVED_PORT),
        ends.trunk("outbound_redirected_uas", moved=moved, moved_port=str(MOVED_PORT)),
        ends.phone("102", "outbound_answered_uac", called=dialled),
    )
    record = ends.daemon.record(dialled=dialled)
    assert outcome(record) == ("outbound", "answered", "caller", 200, "102")
    assert moved in str(record["why"])


async def test_a_trunk_that_takes_less_is_asked_again(ends: Ends) -> None:
    dialled = unique_number("refused offer")
    await ends.pair(
        ends.trunk("outbound_refused_offer_uas"), ends.phone("102", "outbound_answered_uac", called=dialled)
    )
    record = ends.daemon.record(dialled=dialled)
    assert outcome(record) == ("outbound", "answered", "caller", 200, "102")
    assert "asked again with PCMA, telephone-event" in str(record["why"])


@pytest.mark.parametrize(("trunk", "extension", "dialled", "number", "name"), [
    ("outbound_e164_plus_pai_uas", "102", "810442079460000", "+442079460000", "profile-pai"),
    ("outbound_rpid_uas", "102", "81049 30 123456", "+4930123456", "profile-rpid"),
    ("outbound_withheld_uas", "104", "+4930123457", "+4930123457", "profile-rpid"),
])
async def test_numbers_and_caller_go_out_as_the_profile_of_the_trunk_says(
    ends: Ends, trunk: str, extension: str, dialled: str, number: str, name: str
) -> None:
    caller = ends.phone(extension, "outbound_answered_uac", called=dialled.replace(" ", ""))
    await ends.pair(ends.trunk(trunk), caller)
    record = ends.daemon.record(dialled=number)
    assert (record["trunk"], record["disposition"]) == (name, "answered")


async def test_who_calls_is_read_as_the_profile_of_the_trunk_says(ends: Ends) -> None:
    await ends.register("101")
    number = unique_number("rpid")
    caller = ends.trunk("inbound_rpid_uac", caller=number.removeprefix("+"), called=RPID_DID)
    await ends.pair(ends.phone("101", "inbound_answered_uas"), caller)
    record = ends.daemon.record(caller=number)
    assert (record["trunk"], record["disposition"]) == ("profile-rpid", "answered")


async def test_a_call_inside(ends: Ends) -> None:
    await ends.register("101")
    caller = ends.phone("102", "internal_answered_uac", called="101")
    await ends.pair(ends.phone("101", "internal_answered_uas"), caller)
    record = ends.daemon.record(direction="internal", caller="102", dialled="101")
    assert record["disposition"] == "answered"


async def test_the_operator_sees_the_last_call(ends: Ends) -> None:
    caller = unique_number("last")
    await ends.trunk("inbound_unknown_number_uac", caller=caller, called="+74950000000").run(ends.daemon.sip)
    ends.daemon.record(caller=caller)
    seen = json.loads(ends.daemon.command("calls", "--json", "--limit", "1"))
    assert caller in json.dumps(seen)


# -- the registrar

async def test_a_phone_registers_and_takes_itself_off(ends: Ends) -> None:
    await ends.register("103")
    await ends.phone("103", "register_remove_uac").run(ends.daemon.sip)


async def test_a_wrong_password_is_refused(ends: Ends) -> None:
    await ends.phone("103", "register_wrong_password_uac", OTHER_PASSWORD).run(ends.daemon.sip)


async def test_too_brief_a_registration_is_told_the_least(ends: Ends) -> None:
    await ends.phone("103", "register_too_brief_uac").run(ends.daemon.sip)


# -- who asks from where

async def test_the_trunk_is_told_that_we_live(ends: Ends) -> None:
    await ends.trunk("options_uac", caller="ping").run(ends.daemon.sip)


async def test_a_stranger_is_not_told_that_we_live(ends: Ends) -> None:
    await ends.stranger("unknown_source_options_uac").run(ends.daemon.sip)


async def test_a_stranger_who_goes_on_without_a_password_gets_no_answer_any_more(ends: Ends) -> None:
    many = replace(ends.stranger("unknown_source_challenged_uac"), calls=UNANSWERED_CHALLENGES, rate=250)
    await many.run(ends.daemon.sip)
    await ends.stranger("unknown_source_silenced_uac").run(ends.daemon.sip)


def test_the_daemon_came_through_all_this_without_a_fault(daemon: Daemon) -> None:
    assert "Traceback" not in daemon.log()


# -- many at once

async def test_a_hundred_calls_at_fifty_a_second(ends: Ends) -> None:
    await ends.register("101")
    called = replace(ends.phone("101", "load_uas"), calls=100)
    caller = replace(ends.trunk("load_uac", called=DID), calls=100, rate=50)
    await ends.pair(called, caller)


def unique_number(flow: str) -> str:
    """An outside number by which the call is found in the books afterwards."""
    return f"+7916{crc32(flow.encode()) % 10_000_000:07}"
