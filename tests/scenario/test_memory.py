"""An ended call leaves nothing behind: no object, and no cycle that only the collector would find (it rarely runs)."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from b2bua.cdr import EndReason
from b2bua.sip.effects import Address, Transport
from tests.support.anchored import AnchoredPlane
from tests.support.network import Network
from tests.support.office import DID, SERVER, open_office
from tests.support.phone import Answers, Behaviour, Dead, Phone, Rejects, Rings

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


@pytest.mark.usefixtures("no_collector")
async def test_a_call_that_went_on_from_a_silent_trunk_leaves_nothing_behind() -> None:
    async with open_office() as office:
        spare = Phone("spare", SERVER, does=Answers(1.0), seed=5).on(office.network, THERE)
        trunks = office.books.directory.trunks
        office.change(trunks=(*trunks, replace(trunks[0], name="spare", host=THERE.host, networks=(), priority=1)))
        await office.pbx.settings_changed()
        anna = await office.phone("101")
        counts = []
        for number in range(1, 5):
            office.trunk.does = Dead()
            call = anna.call("+79265554433")
            await call.answered.wait()
            call.hang_up()
            assert (await office.record(number)).trunk == "spare"
            assert "operator: no response within 5 s" in office.books.records[-1].why
            office.trunk.does = Answers()
            await asyncio.sleep(2 * LINGER)                 # and the trunk is no longer doubted
            del call
            for phone in (anna, spare, office.trunk):
                phone.forget()
            counts.append(alive("b2bua.calls", "b2bua.ua.leg"))
        for count in counts:
            del count["_Window"]                            # of a nonce, which is known for its time
        assert counts[1] == counts[2] == counts[3]
        spare.close()


@pytest.mark.usefixtures("no_collector")
async def test_a_call_whose_relay_died_leaves_nothing_behind() -> None:
    plane = AnchoredPlane()
    async with open_office(media=plane) as office:
        boris = await office.phone("102", Answers(1.0))
        counts = []
        for number in range(1, 5):
            call = office.trunk.call(DID, as_="+79161234567")
            await call.answered.wait()
            await asyncio.sleep(1)
            plane.dies()
            assert (await office.record(number)).reason is EndReason.MEDIA_TIMEOUT
            await asyncio.sleep(LINGER)
            del call
            for phone in (boris, office.trunk):
                phone.forget()
            counts.append(alive("b2bua.calls", "b2bua.ua.leg"))
        assert counts[1] == counts[2] == counts[3]


def alive(*packages: str) -> Counter[str]:
    """Objects of the protocol core, and of these packages, by class; its values, which caches keep on purpose, and its
    enums left out."""
    kept = ("b2bua.sip.uri", "b2bua.sip.fields", "b2bua.sip.effects")
    modules = ((type(thing).__qualname__, str(type(thing).__module__)) for thing in gc.get_objects())
    return Counter(name for name, module in modules
                   if module.startswith(("b2bua.sip", *packages)) and module not in kept)
