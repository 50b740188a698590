"""The network of scenarios does what its conditions say, the same way for the same seed."""

import asyncio
from dataclasses import dataclass, field

import pytest

from b2bua.sip.effects import Address, Flow, Transport
from tests.support.network import Conditions, Network
from tests.support.virtual_loop import VirtualLoop

HERE, THERE = Address("10.0.0.1", 5060), Address("10.0.0.2", 5060)


@dataclass
class Received:
    messages: list[bytes] = field(default_factory=list)
    failures: list[Flow] = field(default_factory=list)

    def on_message(self, data: bytes, flow: Flow) -> None:
        assert (flow.local, flow.remote) == (THERE, HERE)
        self.messages.append(data)

    def on_failure(self, flow: Flow) -> None:
        self.failures.append(flow)


def sent_through(conditions: Conditions, seed: int = 1, kind: Transport = Transport.UDP) -> list[bytes]:
    async def send() -> list[bytes]:
        network, receiver = Network(seed, conditions), Received()
        network.attach(THERE, receiver, kind)
        sender = network.attach(HERE, Received(), kind)
        for number in range(1000):
            sender.send(b"%d" % number, sender.flow_for(THERE))
        await asyncio.sleep(1.0)
        return receiver.messages

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(send())


def test_a_quiet_network_carries_everything_in_order() -> None:
    assert sent_through(Conditions()) == [b"%d" % number for number in range(1000)]


def test_loss_duplication_and_reordering_come_in_the_shares_that_were_asked_for() -> None:
    assert len(sent_through(Conditions(loss=0.2))) == pytest.approx(800, abs=40)
    assert len(sent_through(Conditions(duplication=0.2))) == pytest.approx(1200, abs=40)
    mixed = sent_through(Conditions(reordering=0.1))
    assert sorted(mixed, key=int) == [b"%d" % number for number in range(1000)] != mixed


def test_the_same_seed_gives_the_same_network() -> None:
    bad = Conditions(loss=0.1, duplication=0.1, reordering=0.1, jitter=0.01)
    assert sent_through(bad, seed=7) == sent_through(bad, seed=7) != sent_through(bad, seed=8)


def test_streams_lose_nothing() -> None:
    assert len(sent_through(Conditions(loss=0.9, reordering=0.5), kind=Transport.TCP)) == 1000


async def test_a_program_that_ended_bounces_and_an_address_that_never_was_is_silent() -> None:
    network, here = Network(), Received()
    sender = network.attach(HERE, here)
    network.attach(THERE, Received()).close()
    for remote in (THERE, Address("10.0.0.9", 5060)):
        sender.send(b"x", sender.flow_for(remote))
    await asyncio.sleep(1.0)
    assert [flow.remote for flow in here.failures] == [THERE]


async def test_chosen_datagrams_are_lost() -> None:
    network, receiver = Network(), Received()
    network.attach(THERE, receiver)
    sender = network.attach(HERE, Received())
    network.lose(lambda data, flow: data.startswith(b"BYE"), times=2)
    for data in (b"BYE 1", b"ACK", b"BYE 2", b"BYE 3"):
        sender.send(data, sender.flow_for(THERE))
    await asyncio.sleep(1.0)
    assert receiver.messages == [b"ACK", b"BYE 3"]
