"""Each profile of a trunk against a SIPp that is such an operator: what it sees of our calls, how we read its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from b2bua.trunk_profiles import PROFILES
from tests.support import sipp
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.pings import answered_pings
from tests.support.sipp import Sipp, run_pair

pytestmark = pytest.mark.skipif(not sipp.available, reason="SIPp is not installed (Debian: sip-tester)")

BEHIND = 5080                             # of a trunk's SIPp, behind answered_pings at 5060
CALLS_FROM = 5090                         # the same, where it calls from
PASSWORD = "correct-horse-battery"
ASSERTED, PREFERRED, REMOTE_PARTY = "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID"
FORWARDING_DID = "+7495111330{0}"
NOTHING = "Subject: nothing more is said of the caller"
SENT_ON_ONCE = "Diversion: <sip:+74950000001@op>;reason=user-busy"


@dataclass(frozen=True)
class Operator:
    """One kind of operator. `{0}` is its digit: the numbers of each one differ by it."""

    profile: str
    dialled: str                          # what it sees when a phone dials 8926555443{0}
    shown: str                            # our number +7495000110{0} as it sees it in the header of the caller id
    header: str = ""                      # that header, when it is not From
    from_: str = ""                       # what From has then
    did: str = "+7495111220{0}"           # how it spells our number
    forwarded: str = ""                   # +7926555443{0} when nobody dialled it, where that differs
    asked: str = ""                       # Request-URI, when only To has that number
    caller: str = "+7916111220{0}"        # how it spells who calls
    caller_in: str = ""                   # where, when not in From
    history_too: bool = False             # whether it is told by History-Info, beside Diversion

    @property
    def digit(self) -> int:
        return list(PROFILES).index(self.profile) + 1

    def text(self, template: str) -> str:
        return template.format(self.digit)

    def sees(self, *, hidden: bool = False, dialled: str = "", diversion: str = "  ", history: str = "  ") -> str:
        """What outbound_profile_uas has to put together."""
        number, called = self.text(self.shown), dialled or self.text(self.dialled)
        from_ = "anonymous" if hidden else self.from_ or number
        asserted = {header: number if header == self.header else "" for header in (ASSERTED, PREFERRED, REMOTE_PARTY)}
        rest = f";party=calling;screen=yes;privacy={'full' if hidden else 'off'}" if asserted[REMOTE_PARTY] else ""
        return (f"{called} to {called} from {from_} pai {asserted[ASSERTED]} ppi {asserted[PREFERRED]} "
                f"rpid {asserted[REMOTE_PARTY]}{rest} privacy {'id' if hidden else ''} diversion {diversion} "
                f"history {history}")

    def sees_of_a_forwarded_call(self) -> str:
        """+7495111330{0} forwards all calls to +7926555444{0}; somebody had sent this one on before."""
        onward = self.text(self.forwarded or self.dialled).replace("5443", "5444")
        whose = self.text(self.shown).replace("000110", "111330")
        told = f"{whose} {onward} 302" if self.history_too else "  "
        return self.sees(dialled=onward, diversion=f"{whose} unconditional 2", history=told)


OPERATORS = (
    Operator("generic", "+7926555443{0}", "+7495000110{0}"),
    Operator("plain", "7926555443{0}", "7495000110{0}", did="7495111220{0}", caller="7916111220{0}"),
    Operator("registering-8", "8926555443{0}", "7495000110{0}", "none", "account", "8495111220{0}",
             asked="account", caller="8916111220{0}"),
    Operator("e164-plus-pai", "+7926555443{0}", "+7495000110{0}", ASSERTED, caller_in=ASSERTED),
    Operator("e164-pai", "7926555443{0}", "7495000110{0}", ASSERTED, did="7495111220{0}", caller="7916111220{0}",
             caller_in=ASSERTED),
    Operator("account-ppi", "+7926555443{0}", "+7495000110{0}", PREFERRED, "account", caller_in=ASSERTED,
             history_too=True),
    Operator("rpid", "7926555443{0}", "7495000110{0}", REMOTE_PARTY, did="495111220{0}", caller="916111220{0}",
             caller_in=REMOTE_PARTY),
    Operator("zeros", "007926555443{0}", "7495000110{0}", did="007495111220{0}", caller="007916111220{0}"),
    Operator("gateway", "8926555443{0}", "+7495000110{0}", did="8495111220{0}", caller="8916111220{0}",
             forwarded="+7926555443{0}"),
)

OFFICE = """\
[[client]]
id = "office"
name = "Office"
forward_outside = true
"""

PART = """
[[client.trunk]]
name = "{profile}"
host = "{host}"
port = 5060
profile = "{profile}"
user = "account"
caller_id = "+7495000110{digit}"
prefixes = ["+7926555443{digit}", "+7926555444{digit}"]

[[client.extension]]
number = "11{digit}"
password = "{password}"

[[client.extension]]
number = "12{digit}"
password = "{password}"
hide_caller_id = true

[[client.extension]]
number = "13{digit}"
password = "{password}"
forward_always = "+7926555444{digit}"

[[client.number]]
number = "+7495111220{digit}"
destination = "11{digit}"
trunk = "{profile}"

[[client.number]]
number = "+7495111330{digit}"
destination = "13{digit}"
trunk = "{profile}"
"""


@dataclass(frozen=True)
class Floor:
    """The daemon, and the ends of calls to and from its operators."""

    daemon: Daemon
    logs: Path

    def address(self, operator: Operator) -> str:
        return trunk_host(self.daemon.addresses, operator)

    def operator(self, operator: Operator, scenario: str, port: int, **keys: str) -> Sipp:
        return Sipp(scenario, self.address(operator), self.logs / operator.profile, port, keys)

    def phone(self, operator: Operator, extension: str, scenario: str, **keys: str) -> Sipp:
        number = f"{extension}{operator.digit}"
        return Sipp(scenario, self.daemon.addresses.phone(number), self.logs / f"phone-{number}",
                    keys={"caller": f"office-{number}", **keys}, login=f"office-{number}", password=PASSWORD)

    async def pair(self, called: Sipp, caller: Sipp) -> None:
        await run_pair(called, caller, self.daemon.sip)

    async def call_in(self, operator: Operator, *, caller: str, shown: str, identity: str = NOTHING,
                      privacy: str = NOTHING) -> None:
        did = operator.text(operator.did)
        await self.pair(
            self.phone(operator, "11", "inbound_profile_uas", seen=shown),
            self.operator(operator, "inbound_profile_uac", CALLS_FROM, called=did, asked=operator.asked or did,
                          caller=caller, identity=identity, privacy=privacy),
        )


def trunk_host(addresses: Addresses, operator: Operator) -> str:
    return addresses.trunk.rpartition(".")[0] + f".{100 + operator.digit}"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    parts = [PART.format(profile=one.profile, host=trunk_host(addresses, one), digit=one.digit, password=PASSWORD)
             for one in OPERATORS]
    with ExitStack() as stack:
        for one in OPERATORS:
            stack.enter_context(answered_pings(trunk_host(addresses, one), BEHIND))
        home = tmp_path_factory.mktemp("daemon")
        yield stack.enter_context(running_daemon(home, addresses, OFFICE + "".join(parts)))


@pytest.fixture
def floor(daemon: Daemon, tmp_path: Path) -> Floor:
    return Floor(daemon, tmp_path)


async def all_of(calls: Iterable[Coroutine[object, object, None]]) -> None:
    """Side by side, as each waits for its own pauses; every one that failed is told."""
    faults = [fault for fault in await asyncio.gather(*calls, return_exceptions=True) if fault is not None]
    assert not faults, "\n\n".join(map(str, faults))


def test_every_profile_has_its_operator() -> None:
    assert [one.profile for one in OPERATORS] == list(PROFILES)


async def test_each_operator_sees_number_and_caller_as_it_wants_them(floor: Floor) -> None:
    await all_of(
        floor.pair(floor.operator(one, "outbound_profile_uas", BEHIND, seen=one.sees()),
                   floor.phone(one, "11", "outbound_answered_uac", called=one.text("8926555443{0}")))
        for one in OPERATORS
    )   # fmt: skip
    for one in OPERATORS:
        record = floor.daemon.record(trunk=one.profile, extension=f"11{one.digit}")
        assert (record["dialled"], record["disposition"]) == (one.text("+7926555443{0}"), "answered")


async def test_a_withheld_number_is_told_to_the_operator_alone_where_it_has_a_header_for_it(floor: Floor) -> None:
    await all_of(
        floor.pair(floor.operator(one, "outbound_profile_uas", BEHIND, seen=one.sees(hidden=True)),
                   floor.phone(one, "12", "outbound_answered_uac", called=one.text("8926555443{0}")))
        for one in OPERATORS
    )   # fmt: skip
    for one in OPERATORS:
        record = floor.daemon.record(trunk=one.profile, extension=f"12{one.digit}")
        assert record["disposition"] == "answered"


async def test_each_operators_spelling_of_number_and_caller_is_understood(floor: Floor) -> None:
    await all_of(floor.phone(one, "11", "register_uac").run(floor.daemon.sip) for one in OPERATORS)
    await all_of(
        floor.call_in(one, caller="operator" if one.caller_in else one.text(one.caller),
                      shown=one.text("+7916111220{0}"),
                      identity=f"{one.caller_in}: <sip:{one.text(one.caller)}@op>" if one.caller_in else NOTHING)
        for one in OPERATORS
    )   # fmt: skip
    for one in OPERATORS:
        record = floor.daemon.record(caller=one.text("+7916111220{0}"))
        assert (record["trunk"], record["dialled"], record["extension"], record["disposition"]) == (
            one.profile, one.text("+7495111220{0}"), f"11{one.digit}", "answered")


async def test_an_anonymous_call_of_each_operator_is_a_call_like_others(floor: Floor) -> None:
    await all_of(floor.phone(one, "11", "register_uac").run(floor.daemon.sip) for one in OPERATORS)
    await all_of(
        floor.call_in(one, caller="anonymous", shown="anonymous",
                      identity=f"{one.caller_in}: <sip:{one.text(one.caller)}@op>;privacy=full" if one.caller_in
                      else NOTHING, privacy="Privacy: id" if one.caller_in == ASSERTED else NOTHING)
        for one in OPERATORS
    )   # fmt: skip
    for one in OPERATORS:
        record = floor.daemon.record(trunk=one.profile, caller="", direction="inbound")
        assert (record["extension"], record["disposition"]) == (f"11{one.digit}", "answered")


async def test_each_operator_learns_whose_call_it_was_that_goes_on_outside(floor: Floor) -> None:
    await all_of(
        floor.pair(
            floor.operator(one, "outbound_profile_uas", BEHIND, seen=one.sees_of_a_forwarded_call()),
            floor.operator(one, "inbound_profile_uac", CALLS_FROM, called=one.text(FORWARDING_DID),
                           asked=one.asked or one.text(FORWARDING_DID), caller=one.text("+7916111330{0}"),
                           identity=SENT_ON_ONCE, privacy=NOTHING),
        )
        for one in OPERATORS
    )   # fmt: skip
    for one in OPERATORS:
        record = floor.daemon.record(dialled=one.text(FORWARDING_DID))
        assert (record["trunk"], record["disposition"]) == (one.profile, "answered")
