"""Phones that come again, are behind a proxy, or are asked whether they can be reached, played by SIPp."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.sipp.office import DID, OFFICE, PASSWORD
from tests.support import sipp
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.pings import answered_pings
from tests.support.sipp import Sipp, ended, run_pair, seen

pytestmark = pytest.mark.skipif(not sipp.available, reason="SIPp is not installed (Debian: sip-tester)")

BEHIND = 5080                             # of the trunk's SIPp, behind answered_pings at 5060
REBOOTED = 5062                           # the port of a phone after its second start
MANY = 1000                               # OPTIONS: the phone is there until the test is over
REACHABLE = 'smartswitch_phones_reachable{state="reachable"} 1.0\n'
OTHER_DID = "+74951112277"                # rings extension 102

NUMBER = f"""
[[client.number]]
number = "{OTHER_DID}"
destination = "102"
"""


@dataclass(frozen=True)
class Ends:
    daemon: Daemon
    logs: Path

    def trunk(self, caller: str, called: str) -> Sipp:
        keys = {"caller": caller, "called": called}
        return Sipp("inbound_answered_uac", self.daemon.addresses.trunk, self.logs / "trunk", BEHIND, keys)

    def phone(self, extension: str, scenario: str, **keys: str) -> Sipp:
        login = f"office-{extension}"
        return Sipp(scenario, self.daemon.addresses.phone(extension), self.logs / extension, login=login,
                    password=PASSWORD, keys={"caller": login, **keys})


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    office = OFFICE.format(trunk=addresses.trunk) + NUMBER
    home, environment = tmp_path_factory.mktemp("daemon"), getattr(request, "param", {})
    with (answered_pings(addresses.trunk, BEHIND),
          running_daemon(home, addresses, office, environment=environment) as daemon):      # fmt: skip
        yield daemon


@pytest.fixture
def ends(daemon: Daemon, tmp_path: Path) -> Ends:
    return Ends(daemon, tmp_path)


async def test_a_phone_that_was_rebooted_rings_once_and_where_it_is_now(ends: Ends) -> None:
    caller = "+79165626001"
    before = ends.phone("101", "register_instance_uac", user="a1b2")
    await before.run(ends.daemon.sip)
    await replace(before, port=REBOOTED, keys={**before.keys, "user": "c3d4"}).run(ends.daemon.sip)
    now = replace(ends.phone("101", "inbound_answered_uas"), port=REBOOTED)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as left:
        left.bind((before.host, before.port))
        left.setblocking(False)
        await run_pair(now, ends.trunk(caller, DID), ends.daemon.sip)
        with pytest.raises(BlockingIOError):          # the call is over, and nothing has come to where the phone was
            left.recv(1)
    assert now.log("messages").count("\nINVITE sip:c3d4@") == 1
    record = ends.daemon.record(caller=caller)
    assert (record["extension"], record["disposition"]) == ("101", "answered")


async def test_a_call_to_a_phone_behind_a_proxy_goes_by_its_path(ends: Ends) -> None:
    caller = "+79165626002"
    await ends.phone("102", "register_path_uac").run(ends.daemon.sip)
    await run_pair(ends.phone("102", "inbound_path_uas"), ends.trunk(caller, OTHER_DID), ends.daemon.sip)
    record = ends.daemon.record(caller=caller)
    assert (record["extension"], record["disposition"]) == ("102", "answered")


@pytest.mark.parametrize("daemon", [{"SMARTSWITCH_SIP__QUALIFY_EVERY": "0.5"}], indirect=True, ids=["qualifying"])
async def test_a_phone_that_answers_options_can_be_reached(ends: Ends) -> None:
    await ends.phone("103", "register_uac").run(ends.daemon.sip)
    phone = replace(ends.phone("103", "phone_qualified_uas"), calls=MANY)
    async with ended(await phone.start()):
        await seen(phone, "\nOPTIONS sip:office-103@")
        async with asyncio.timeout(10):
            while REACHABLE not in await asyncio.to_thread(ends.daemon.get, "/metrics"):      # noqa: ASYNC110
                await asyncio.sleep(0.05)
