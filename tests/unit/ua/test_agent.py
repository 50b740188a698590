"""Which way a message goes: by the transport that is asked for, and with proof where there can be one."""

from __future__ import annotations

from random import Random

import pytest

from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport
from b2bua.ua.agent import UserAgent

HERE, THERE = Address("192.0.2.1", 5061), Address("192.0.2.7", 5061)
PEER = TlsPeer(("operator.test",))


class Speaker:
    def __init__(self, kind: Transport) -> None:
        self.kind = kind
        self.local = HERE

    def send(self, data: bytes, flow: Flow) -> None:
        raise AssertionError("nothing is sent here")

    def flow_for(self, remote: Address, peer: TlsPeer | None = None) -> Flow:
        return Flow(self.kind, HERE, remote, peer=peer)

    def trouble(self, peer: TlsPeer) -> str:
        return f"{peer.names[0]} proves nothing"

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(("transport", "peer"), [(Transport.UDP, None), (Transport.TCP, None), (Transport.TLS, PEER)])
async def test_who_must_be_there_matters_where_it_can_be_proved(transport: Transport, peer: TlsPeer | None) -> None:
    agent = UserAgent(UserAgentCore(CoreConfig(), Random(1)))
    agent.transports = {kind: Speaker(kind) for kind in (Transport.UDP, Transport.TCP, Transport.TLS)}
    assert agent.flow_to(transport, THERE, PEER) == Flow(transport, HERE, THERE, peer=peer)
    assert agent.flow_to(Transport.WS, THERE, PEER) is None
    assert agent.trouble(PEER) == "operator.test proves nothing"
    agent.transports = {}
    assert agent.trouble(PEER) == ""
