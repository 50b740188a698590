"""An operator's edge: our trunk registers at Kamailio, and calls go through it both ways, from INVITE to BYE."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from b2bua.sip.effects import Address
from tests.sipp.office import DID, PASSWORD
from tests.support import kamailio
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.kamailio import DOMAIN, OUT_OF_ORDER, SUBSCRIBER, Kamailio, running_kamailio
from tests.support.phone import PhoneCall, Rings
from tests.support.voice import Voice, hear_each_other, voice

pytestmark = pytest.mark.skipif(not kamailio.available, reason="kamailio is not installed (Debian: kamailio)")

WORLD, PHONE, COLLEAGUE = 440.0, 1000.0, 1500.0        # Hz: who speaks

OFFICE = f"""\
[[client]]
id = "office"
name = "Office"

[[client.trunk]]
name = "edge"
host = "{{edge}}"
port = 5060
domain = "{DOMAIN}"
transport = "{{transport}}"
register = true
user = "{SUBSCRIBER}"
password = "{kamailio.PASSWORD}"
caller_id = "{DID}"
priority = 1

[[client.trunk]]
name = "spare"
host = "{{spare}}"
port = 5060
caller_id = "{DID}"
priority = 2
prefixes = ["+49"]

[[client.extension]]
number = "101"
password = "{PASSWORD}"

[[client.extension]]
number = "102"
password = "{PASSWORD}"

[[client.number]]
number = "{DID}"
destination = "101"
"""


@pytest.fixture(scope="module")
def addresses() -> Addresses:
    return Addresses.of_this_process()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, addresses: Addresses) -> Iterator[Kamailio]:
    home = tmp_path_factory.mktemp("kamailio")
    with running_kamailio(home, addresses.trunk, addresses.daemon, addresses.world) as running:
        yield running


@pytest.fixture(scope="module", params=["udp", "tcp"])
def daemon(
    tmp_path_factory: pytest.TempPathFactory, addresses: Addresses, edge: Kamailio, request: pytest.FixtureRequest
) -> Iterator[Daemon]:
    """By TCP to the edge, and by UDP from there: it stands in the route twice (RFC 3261 §16.7, RFC 5658)."""
    office = OFFICE.format(edge=addresses.trunk, spare=addresses.other_trunk, transport=request.param)
    before = len(edge.log())
    with running_daemon(tmp_path_factory.mktemp("daemon"), addresses, office) as daemon:
        assert edge.tells(f"registered: {SUBSCRIBER} at ", before)
        yield daemon


@asynccontextmanager
async def both_ends(addresses: Addresses) -> AsyncIterator[tuple[Voice, Voice]]:
    """A phone of the office, and the world behind the edge."""
    phone_at, server = Address(addresses.phone("101"), 5060), Address(addresses.daemon, 5060)
    async with (
        voice("world", Address(addresses.world, 5060), Address(addresses.trunk, 5060), WORLD) as world,
        voice("101", phone_at, server, PHONE, login="office-101", password=PASSWORD) as phone,
    ):
        yield phone, world


@asynccontextmanager
async def colleague(addresses: Addresses) -> AsyncIterator[Voice]:
    at, server = Address(addresses.phone("102"), 5060), Address(addresses.daemon, 5060)
    async with voice("102", at, server, COLLEAGUE, login="office-102", password=PASSWORD) as somebody:
        yield somebody


async def test_a_call_comes_in_is_held_from_both_ends_and_hung_up_here(
    daemon: Daemon, edge: Kamailio, addresses: Addresses
) -> None:
    caller, before = "+79161250001", len(edge.log())
    async with both_ends(addresses) as (phone, world), asyncio.timeout(20):
        outer = world.line.call(DID, as_=caller)
        await outer.answered.wait()
        (inner,) = phone.line.calls
        await talk_hold_and_talk(phone, inner, world, outer)
        inner.hang_up()
        await outer.over.wait()
    record = daemon.record(caller=caller)
    assert (record["direction"], record["disposition"], record["ended_by"]) == ("inbound", "answered", "callee")
    followed = edge.within_calls(before)
    assert ("BYE", addresses.daemon) in followed
    assert_reinvites_went_through(followed, addresses)


async def test_a_call_goes_out_is_held_from_both_ends_and_hung_up_there(
    daemon: Daemon, edge: Kamailio, addresses: Addresses
) -> None:
    dialled, before = "+79161250002", len(edge.log())
    async with both_ends(addresses) as (phone, world), asyncio.timeout(20):
        inner = phone.line.call(dialled)
        await inner.answered.wait()
        (outer,) = world.line.calls
        await talk_hold_and_talk(phone, inner, world, outer)
        outer.hang_up()
        await inner.over.wait()
    record = daemon.record(dialled=dialled)
    assert (record["direction"], record["disposition"], record["ended_by"]) == ("outbound", "answered", "callee")
    followed = edge.within_calls(before)
    assert ("BYE", addresses.world) in followed
    assert_reinvites_went_through(followed, addresses)


async def test_a_caller_from_behind_it_is_handed_to_a_colleague(daemon: Daemon, addresses: Addresses) -> None:
    caller = "+79161250004"
    async with both_ends(addresses) as (phone, world), colleague(addresses) as third, asyncio.timeout(30):
        outer = world.line.call(DID, as_=caller)
        await outer.answered.wait()
        (inner,) = phone.line.calls
        inner.refer(f"<sip:102@{addresses.daemon}>")
        await inner.over.wait()                      # it does not hang up by itself: we do, when the others talk
        await hear_each_other(third, third.line.calls[0], world, outer)
        outer.hang_up()
        await third.line.calls[0].over.wait()
    assert inner.notified[-1] == ("200 OK", "terminated;reason=noresource")
    assert daemon.record(caller=caller)["extension"] == "102"


async def test_who_was_called_through_it_is_joined_with_a_colleague(daemon: Daemon, addresses: Addresses) -> None:
    dialled = "+79161250005"
    async with both_ends(addresses) as (phone, world), colleague(addresses) as third, asyncio.timeout(30):
        inner = phone.line.call(dialled)
        await inner.answered.wait()
        (outer,) = world.line.calls
        await inner.agree("sendonly")
        consultation = phone.line.call("102")
        await consultation.answered.wait()
        inner.refer_to(consultation)
        await inner.over.wait()
        await hear_each_other(third, third.line.calls[0], world, outer)
        third.line.calls[0].hang_up()
        await outer.over.wait()
    assert consultation.over.is_set()
    record = daemon.record(dialled=dialled)
    assert (record["extension"], record["ended_by"]) == ("102", "caller")


async def test_a_caller_who_gives_up_cancels_through_it(daemon: Daemon, addresses: Addresses) -> None:
    dialled = "+79161250003"
    async with both_ends(addresses) as (phone, world), asyncio.timeout(20):
        world.line.does = Rings()
        inner = phone.line.call(dialled)
        await inner.rang.wait()
        inner.hang_up()
        (outer,) = world.line.calls
        await outer.over.wait()
    assert daemon.record(dialled=dialled)["disposition"] != "answered"
    assert "CANCEL" in outer.ladder()


async def test_a_call_that_it_refuses_with_503_takes_the_other_trunk(daemon: Daemon, addresses: Addresses) -> None:
    dialled = f"+4930123{OUT_OF_ORDER}"
    at, server = Address(addresses.other_trunk, 5060), Address(addresses.daemon, 5060)
    async with both_ends(addresses) as (phone, world), voice("spare", at, server, WORLD) as spare, asyncio.timeout(20):
        inner = phone.line.call(dialled)
        await inner.answered.wait()
        assert world.line.calls == []
        (outer,) = spare.line.calls
        await hear_each_other(phone, inner, spare, outer)
        inner.hang_up()
        await outer.over.wait()
    assert daemon.record(dialled=dialled)["trunk"] == "spare"


async def talk_hold_and_talk(phone: Voice, inner: PhoneCall, world: Voice, outer: PhoneCall) -> None:
    await hear_each_other(phone, inner, world, outer)
    phone.tone.press("5")
    await world.tone.was_pressed("5")
    world.tone.press("#")
    await phone.tone.was_pressed("#")
    for one, other in ((inner, outer), (outer, inner)):
        for direction in ("sendonly", "sendrecv"):
            await one.agree(direction)
            assert other.direction == direction
    await hear_each_other(phone, inner, world, outer)


def assert_reinvites_went_through(followed: list[tuple[str, str]], addresses: Addresses) -> None:
    for source in (addresses.daemon, addresses.world):
        assert followed.count(("INVITE", source)) == 2
        assert followed.count(("ACK", source)) >= 2
