"""Phones and trunks whose calls come and go by TCP and TLS, and what is left when a connection ends."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.cdr import Disposition
from b2bua.directory import Trunk
from b2bua.sip.effects import Address, TlsPeer, Transport
from tests.support.office import ACME, DID, OPERATOR, PASSWORD, SERVER, Office, faultless_office
from tests.support.phone import Answers, Behaviour, Phone, PhoneCall

IVAN, OUTSIDE = "+79161234567", "+79265554433"
PORTS = {Transport.TCP: 5060, Transport.TLS: 5061}

by_tcp_and_tls = pytest.mark.parametrize("kind", [Transport.TCP, Transport.TLS])


@pytest.fixture
def office():
    return faultless_office()


def by_stream(office: Office, kind: Transport, user: str, host: str, does: Behaviour = Answers()) -> Phone:
    """A phone, or a trunk, that speaks nothing else; the office hears it."""
    server = Address(SERVER.host, PORTS[kind])
    if kind not in office.agent.transports:
        office.agent.transports[kind] = office.network.attach(server, office.agent, kind)
    peer = TlsPeer(("pbx.test",)) if kind is Transport.TLS else None
    phone = Phone(user, server, password=PASSWORD, does=does, peer=peer, seed=len(host + user))
    office._phones[host] = phone.plug(lambda sink: office.network.attach(Address(host, PORTS[kind]), sink, kind))
    return phone


async def talks_and_holds(call: PhoneCall, other: PhoneCall) -> None:
    await asyncio.sleep(1)
    other.offer("sendonly")
    await asyncio.sleep(1)
    assert call.direction == "sendonly"
    other.offer("sendrecv")
    await asyncio.sleep(1)
    assert call.direction == "sendrecv"
    call.hang_up()


@by_tcp_and_tls
async def test_a_phone_is_called_holds_and_calls(office: Office, kind: Transport) -> None:
    boris = by_stream(office, kind, "102", "10.0.3.102", Answers(after=1.0))
    assert (await boris.register()).status == 200
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    assert boris.calls[0].session.invite.via.transport == kind.value
    await talks_and_holds(call, boris.calls[0])
    assert (await office.record()).disposition is Disposition.ANSWERED
    out = boris.call(OUTSIDE)
    await out.answered.wait()
    assert office.trunk.calls[1].session.invite.via.transport == "UDP"
    await talks_and_holds(out, office.trunk.calls[1])
    assert (await office.record(2)).disposition is Disposition.ANSWERED
    await office.all_quiet()


async def test_a_phone_by_tls_is_out_of_reach_when_its_connection_is_gone(office: Office) -> None:
    boris = by_stream(office, Transport.TLS, "102", "10.0.3.102")
    assert (await boris.register()).status == 200
    assert len(office.pbx.registered_phones()) == 1
    boris.transport.close()
    await asyncio.sleep(1)
    assert office.pbx.registered_phones() == []
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.disposition, record.rang) == (480, Disposition.UNREACHABLE, ())


async def test_a_phone_by_tcp_is_called_by_a_new_connection_when_its_own_is_gone(office: Office) -> None:
    boris = by_stream(office, Transport.TCP, "102", "10.0.3.102")
    assert (await boris.register()).status == 200
    boris.transport.close()
    await asyncio.sleep(1)
    assert len(office.pbx.registered_phones()) == 1
    boris.plug(lambda sink: office.network.attach(Address("10.0.3.102", 5060), sink, Transport.TCP))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    assert (await office.record()).extension == "102"
    await office.all_quiet()


@by_tcp_and_tls
async def test_a_trunk_is_called_and_calls(office: Office, kind: Transport) -> None:
    operator = by_stream(office, kind, "operator", OPERATOR.host, Answers(after=1.0))
    office.change(trunks=(Trunk(ACME, "operator", OPERATOR.host, PORTS[kind], transport=kind.value),))
    await office.pbx.settings_changed()
    await asyncio.sleep(1)
    assert [state.up for state in office.pbx.trunk_states()] == [True]
    boris = await office.phone("102", Answers(after=1.0))
    out = boris.call(OUTSIDE)
    await out.answered.wait()
    assert operator.calls[0].session.invite.via.transport == kind.value
    await talks_and_holds(out, operator.calls[0])
    call = operator.call(DID, as_=IVAN)
    await call.answered.wait()
    await talks_and_holds(call, boris.calls[1])
    assert (await office.record(2)).trunk == "operator"
    assert office.trunk.calls == []
