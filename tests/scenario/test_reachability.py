"""Phones that come again, are behind a proxy, or do not answer any more."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.control import RegisteredPhone
from tests.support.office import Office, open_office
from tests.support.phone import Answers, Dead, Rings

INSTANCE = '+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"'


@pytest.fixture
def office():
    return open_office(qualify_every=30.0)


def states(office: Office, extension: str) -> dict[str, str]:
    phones: list[RegisteredPhone] = [one for one in office.pbx.registered_phones() if one.extension == extension]
    return {phone.contact.partition("@")[2].partition(":")[0]: phone.reachability for phone in phones}


async def test_a_phone_that_is_dead_does_not_ring_while_another_lives_and_rings_when_none_does(office: Office) -> None:
    anna = await office.phone("101")
    desk = await office.phone("102", Answers(after=1.0))
    second = await office.phone("102", Rings(), host="10.0.3.102")
    assert set(states(office, "102").values()) == {"not asked yet"}
    second.does = Dead()
    await asyncio.sleep(120)
    assert states(office, "102") == {"10.0.2.102": "reachable", "10.0.3.102": "unreachable"}
    call = anna.call("102")
    await call.answered.wait()
    call.hang_up()
    await office.record()
    assert not any("INVITE" in line for line in office.network.ladder().splitlines() if "-> 10.0.3.102" in line)
    desk.does = Dead()
    await asyncio.sleep(120)
    assert set(states(office, "102").values()) == {"unreachable"}
    second.does = desk.does = Answers(after=1.0)           # they are back, and nobody has asked them yet
    call = anna.call("102")
    await call.answered.wait()
    call.hang_up()
    await office.record(2)
    await asyncio.sleep(120)
    assert set(states(office, "102").values()) == {"reachable"}


async def test_a_call_to_a_phone_behind_a_proxy_carries_its_path(office: Office) -> None:
    anna = await office.phone("101")
    edge = await office.phone("102", Answers(after=1.0), registered=False)
    path = "<sip:token@10.0.2.102:5060;lr;ob>"
    response = await edge.register(
        contact="<sip:102@192.168.7.7:5062>", headers=[("Supported", "path"), ("Path", path)]
    )
    assert response.status == 200
    assert response.headers.get("Path") == path
    assert "path" in (response.headers.get("Supported") or "")
    await asyncio.sleep(120)
    assert states(office, "102") == {"192.168.7.7": "reachable"}
    call = anna.call("102")
    await call.answered.wait()
    invite = edge.calls[0].session.invite
    assert str(invite.uri) == "sip:102@192.168.7.7:5062"
    assert invite.headers.get("Route") == path
    call.hang_up()
    await office.record()


async def test_who_does_not_know_of_path_is_not_registered_through_a_proxy(office: Office) -> None:
    phone = await office.phone("102", registered=False)
    response = await phone.register(headers=[("Path", "<sip:10.0.2.102;lr>")])
    assert (response.status, response.headers.get("Unsupported")) == (420, "path")


async def test_a_rebooted_phone_rings_once(office: Office) -> None:
    anna = await office.phone("101")
    phone = await office.phone("102", Answers(after=1.0), registered=False)
    for user in ("a1b2", "c3d4"):                           # a new user part at each start
        contact = f"<sip:{user}@10.0.2.102:5060>;reg-id=1;{INSTANCE}"
        assert (await phone.register(contact=contact, headers=[("Supported", "outbound")])).status == 200
        await asyncio.sleep(40)
    call = anna.call("102")
    await call.answered.wait()
    assert [one.session.invite.uri.user for one in phone.calls] == ["c3d4"]
    call.hang_up()
    await office.record()
