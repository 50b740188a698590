"""An ended call leaves nothing behind: no object, and no cycle that only the collector would find (it rarely runs)."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from b2bua.sip.effects import Address, Transport
from tests.support.network import Network
from tests.support.phone import Answers, Behaviour, Phone, Rejects, Rings

HERE, THERE = Address("10.0.0.1", 5060), Address("10.0.0.2", 5060)
LINGER = 40.0                             # virtual seconds: longer than any transaction lives


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", [Transport.UDP, Transport.TCP])
@pytest.mark.parametrize("does", [Answers(after=1.0), Answers(after=1.0, hangs_up_after=2.0), Rejects(486), Rings()])
async def test_an_ended_call_leaves_nothing_behind(does: Behaviour, kind: Transport) -> None:
    network = Network()
    anna = Phone("100", THERE).plug(lambda sink: network.attach(HERE, sink, kind))
    boris = Phone("200", HERE, does=does, seed=1).plug(lambda sink: network.attach(THERE, sink, kind))
    before = alive()
    for _ in range(3):
        anna.call("200")
        await asyncio.sleep(5)
        anna.calls[-1].hang_up()
    await asyncio.sleep(LINGER)
    for phone in (anna, boris):
        phone.forget()
    await asyncio.sleep(0)
    assert alive() - before == Counter()


def alive() -> Counter[str]:
    """Objects of the protocol core, by class; its values, which caches keep on purpose, and its enums left out."""
    kept = ("b2bua.sip.uri", "b2bua.sip.fields", "b2bua.sip.effects")
    modules = ((type(thing).__qualname__, str(type(thing).__module__)) for thing in gc.get_objects())
    return Counter(name for name, module in modules if module.startswith("b2bua.sip") and module not in kept)
