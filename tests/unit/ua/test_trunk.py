"""Trunks at work on a loop whose clock jumps: registered, pinged, resolved, down and up again."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from b2bua.cdr import ClientId
from b2bua.directory import Directory, Number, Trunk
from b2bua.net.resolver import Target
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.uri import Uri
from b2bua.ua.trunk_table import TrunkTable
from tests.support.virtual_loop import VirtualLoop

A, B = ClientId("a"), ClientId("b")
HERE = Address("192.0.2.1", 5060)
FIRST = Address("198.51.100.1", 5060)
SECOND = Address("198.51.100.2", 5060)

Answer = Callable[[str, Address, Headers], int]


class FakeAgent:
    """Answers each request with the status that its script says; 408 takes 32 s, as timer F does."""

    def __init__(self) -> None:
        self.answer: Answer = lambda method, remote, headers: 200
        self.sent: list[tuple[float, str, str, Address, Headers]] = []
        self.route = ""
        self.peers: list[TlsPeer | None] = []
        self.troubles: dict[str, str] = {}
        self.spoken = {Transport.UDP, Transport.TCP}

    async def request(
        self,
        method: str,
        uri: Uri,
        *,
        from_: NameAddr,
        to: NameAddr,
        destination: Sequence[Target],
        headers: Sequence[tuple[str, str]] = (),
        call_id: str | None = None,
        cseq: int | None = None,
        peer: TlsPeer | None = None,
    ) -> Response:
        ((_, remote),) = destination
        fields = Headers(headers)
        self.peers.append(peer)
        self.sent.append((self.now(), method, str(uri), remote, fields))
        status = self.answer(method, remote, fields)
        await asyncio.sleep(32.0 if status == 408 else 0.01)
        said = [("WWW-Authenticate", 'Digest realm="o", nonce="1", qop="auth"')] if status == 401 else []
        if self.route and status == 200 and method == "REGISTER":
            said = [("Service-Route", self.route)]
        return Response(status, None, Headers(said))

    def trouble(self, peer: TlsPeer) -> str:
        return self.troubles.get(peer.names[0], "")

    def flow_to(self, transport: Transport, remote: Address, peer: TlsPeer | None = None) -> Flow | None:
        return Flow(transport, HERE, remote, peer=peer) if transport in self.spoken else None

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def methods(self) -> list[str]:
        return [method for _, method, *_ in self.sent]


class FakeResolver:
    def __init__(self) -> None:
        self.hosts: dict[str, list[Address]] = {"operator.test": [FIRST], "two.test": [FIRST, SECOND]}

    async def resolve(
        self, host: str, port: int | None = None, transport: Transport | None = None, *, secure: bool = False
    ) -> list[Target]:
        found = [Address(host, 5060)] if host[0].isdigit() else self.hosts.get(host, [])
        return [(transport or Transport.UDP, address) for address in found]


class Lab:
    def __init__(self) -> None:
        self.agent = FakeAgent()
        self.resolver = FakeResolver()
        self.table = TrunkTable(self.agent, self.resolver, Random(1))

    def states(self) -> dict[str, tuple[bool, str]]:
        return {state.name: (state.up, state.detail) for state in self.table.states(self.agent.now())}


@asynccontextmanager
async def running(*trunks: Trunk) -> AsyncIterator[Lab]:
    lab = Lab()
    lab.table.use(Directory(trunks=trunks))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lab.table.run())
        try:
            yield lab
        finally:
            await lab.table.stop()


def on_virtual_time(test: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())  # type: ignore[arg-type]


REGISTERED = Trunk(A, "main", "operator.test", register=True, user="7495", password="pw")
BY_ADDRESS = Trunk(A, "main", "operator.test")


def incoming(to: str, source: Address = FIRST, uri_user: str | None = None) -> tuple[Request, Flow]:
    user = to if uri_user is None else uri_user
    request = Request("INVITE", Uri.sip(user, "192.0.2.1"), Headers([("To", f"<sip:{to}@192.0.2.1>")]))
    return request, Flow(Transport.UDP, HERE, source)


def test_a_registered_trunk_registers_answers_the_challenge_and_is_up() -> None:
    async def story() -> None:
        async with running(REGISTERED) as lab:
            lab.agent.answer = lambda method, remote, headers: 200 if "Authorization" in headers else 401
            assert lab.states() == {"main": (False, "not tried yet")}
            await asyncio.sleep(1)
            assert lab.states() == {"main": (True, "registered for 3599 s")}
            assert lab.agent.methods() == ["REGISTER", "REGISTER"]
            line = lab.table.line(A, "main")
            assert line is not None
            assert lab.agent.sent[0][4].get("Contact") == f"<sip:{line.token}@192.0.2.1:5060>"
            await asyncio.sleep(3600)
            assert line.up
            assert len(lab.agent.sent) == 3                          # the refresh was signed ahead
        assert lab.agent.sent[-1][4].get("Expires") == "0"           # and it took its leave

    on_virtual_time(story)


def test_a_registrar_that_is_gone_for_hours_is_found_again() -> None:
    async def story() -> None:
        async with running(REGISTERED) as lab:
            await asyncio.sleep(1)
            lab.agent.answer = lambda method, remote, headers: 408
            await asyncio.sleep(3500)
            assert lab.states()["main"][0]                           # what is registered is valid yet
            assert "408" in lab.states()["main"][1]
            await asyncio.sleep(36_000)
            up, detail = lab.states()["main"]
            assert (up, "408" in detail) == (False, True)
            lab.agent.answer = lambda method, remote, headers: 200
            await asyncio.sleep(340)
            assert lab.states()["main"][0]

    on_virtual_time(story)


def test_a_refused_registration_says_why() -> None:
    async def story() -> None:
        async with running(REGISTERED) as lab:
            lab.agent.answer = lambda method, remote, headers: 403
            await asyncio.sleep(1)
            assert lab.states() == {"main": (False, "403 Forbidden")}

    on_virtual_time(story)


def test_the_second_address_registers_where_the_first_is_silent() -> None:
    async def story() -> None:
        async with running(Trunk(A, "main", "two.test", register=True, user="7495")) as lab:
            lab.agent.answer = lambda method, remote, headers: 408 if remote == FIRST else 200
            await asyncio.sleep(60)
            line = lab.table.line(A, "main")
            assert line is not None
            assert line.up
            assert [address for _, address in line.targets] == [SECOND, FIRST]

    on_virtual_time(story)


def test_a_registrar_that_moves_is_followed_though_the_registration_lasts() -> None:
    async def story() -> None:
        async with running(REGISTERED) as lab:
            await asyncio.sleep(200)
            lab.resolver.hosts["operator.test"] = [SECOND]
            await asyncio.sleep(70)
            line = lab.table.line(A, "main")
            assert line is not None
            assert [flow.remote for flow in line.ways_out()] == [SECOND]      # calls follow within a minute
            assert lab.agent.methods() == ["REGISTER"]                        # names that change all the time do not
            await asyncio.sleep(120)                                          # make us register all the time
            assert [(sent[1], sent[3]) for sent in lab.agent.sent] == [("REGISTER", FIRST), ("REGISTER", SECOND)]

    on_virtual_time(story)


def test_calls_go_to_the_first_of_the_service_route_while_there_is_one() -> None:
    async def story() -> None:
        async with running(REGISTERED) as lab:
            lab.resolver.hosts["edge.test"] = [SECOND]
            lab.agent.route = "<sip:edge.test;lr>"
            await asyncio.sleep(1)
            line = lab.table.line(A, "main")
            assert line is not None
            assert (line.routes, [flow.remote for flow in line.ways_out()]) == (("<sip:edge.test;lr>",), [SECOND])
            lab.agent.route = ""
            await asyncio.sleep(3600)
            assert (line.routes, [flow.remote for flow in line.ways_out()]) == ((), [FIRST])
            lab.agent.route = "<sip:edge.test;lr>"
            await asyncio.sleep(3600)
            assert line.routes
            lab.agent.answer = lambda method, remote, headers: 403
            await asyncio.sleep(3600)
            assert (line.up, line.routes) == (False, ())        # it was the registration's

    on_virtual_time(story)


def test_a_server_that_gave_a_call_no_answer_is_tried_after_the_others_for_a_while() -> None:
    async def story() -> None:
        two = Trunk(A, "main", "two.test")
        async with running(two) as lab:
            await asyncio.sleep(1)
            line = lab.table.line(A, "main")
            assert line is not None
            assert lab.table.promising(two)
            line.failed((Transport.UDP, FIRST))
            assert [flow.remote for flow in line.ways_out()] == [SECOND, FIRST]
            assert lab.table.promising(two)                                   # the other one may do
            line.doubt()
            assert (line.up, lab.table.promising(two)) == (True, False)
            assert lab.states() == {"main": (True, "a call failed there lately; answers OPTIONS")}
            await asyncio.sleep(31)
            assert lab.table.promising(two)
            await asyncio.sleep(270)
            assert [flow.remote for flow in line.ways_out()] == [FIRST, SECOND]

    on_virtual_time(story)


@pytest.mark.parametrize(("status", "up"), [(200, True), (404, True), (401, True), (503, False), (408, False)])
def test_a_trunk_by_address_is_up_when_anything_answers_its_pings(status: int, up: bool) -> None:
    async def story() -> None:
        async with running(BY_ADDRESS) as lab:
            lab.agent.answer = lambda method, remote, headers: status
            await asyncio.sleep(35)
            assert lab.states() == {"main": (up, "answers OPTIONS" if up else "no answer to OPTIONS")}
            assert lab.agent.methods()[0] == "OPTIONS"

    on_virtual_time(story)


def test_pings_find_out_what_is_alive_and_calls_go_there_first() -> None:
    async def story() -> None:
        async with running(Trunk(A, "main", "two.test")) as lab:
            dead = FIRST
            lab.agent.answer = lambda method, remote, headers: 408 if remote == dead else 200
            await asyncio.sleep(40)
            line = lab.table.line(A, "main")
            assert line is not None
            assert [address for _, address in line.targets] == [SECOND, FIRST]
            dead = SECOND
            await asyncio.sleep(120)
            assert [address for _, address in line.targets] == [FIRST, SECOND]
            assert line.up

    on_virtual_time(story)


def test_servers_are_tried_in_the_order_of_the_dns_again_once_they_are_back() -> None:
    async def story() -> None:
        async with running(Trunk(A, "main", "two.test")) as lab:
            dead: Address | None = FIRST
            lab.agent.answer = lambda method, remote, headers: 408 if remote == dead else 200
            await asyncio.sleep(40)
            line = lab.table.line(A, "main")
            assert line is not None
            assert [flow.remote for flow in line.ways_out()] == [SECOND, FIRST]
            dead = None
            await asyncio.sleep(120)
            assert [flow.remote for flow in line.ways_out()] == [FIRST, SECOND]
            lab.resolver.hosts["two.test"].reverse()            # the lottery of SRV weights drew again
            await asyncio.sleep(120)
            assert [flow.remote for flow in line.ways_out()] == [SECOND, FIRST]

    on_virtual_time(story)


def test_a_name_that_does_not_resolve_is_named_and_tried_again() -> None:
    async def story() -> None:
        async with running(Trunk(A, "main", "later.test")) as lab:
            await asyncio.sleep(1)
            assert lab.states() == {"main": (False, "no address for later.test")}
            lab.resolver.hosts["later.test"] = [SECOND]
            await asyncio.sleep(15)
            assert lab.states() == {"main": (True, "answers OPTIONS")}

    on_virtual_time(story)


@pytest.mark.parametrize("register", [False, True])
def test_a_transport_that_we_do_not_speak_is_named(register: bool) -> None:
    async def story() -> None:
        async with running(Trunk(A, "main", "operator.test", transport="TLS", register=register)) as lab:
            await asyncio.sleep(1)
            ((up, detail),) = lab.states().values()
            assert (up, "TLS is not spoken here" in detail) == (False, True)
            assert lab.agent.sent == []

    on_virtual_time(story)


def test_a_fault_of_ours_is_one_trunks_alone_and_passes() -> None:
    async def story() -> None:
        async with running(BY_ADDRESS, Trunk(B, "other", "two.test")) as lab:
            broken = True

            def answer(method: str, remote: Address, headers: Headers) -> int:
                if broken and remote == SECOND:
                    raise RuntimeError("a bug")
                return 200

            lab.agent.answer = answer
            await asyncio.sleep(1)
            assert lab.states() == {"main": (True, "answers OPTIONS"), "other": (False, "fault, see the log")}
            broken = False
            await asyncio.sleep(31)
            assert lab.states()["other"] == (True, "answers OPTIONS")

    on_virtual_time(story)


def test_a_new_directory_starts_stops_and_leaves_alone() -> None:
    async def story() -> None:
        async with running(BY_ADDRESS, Trunk(A, "old", "two.test", register=True)) as lab:
            await asyncio.sleep(1)
            kept = lab.table.line(A, "main")
            lab.table.use(Directory(trunks=(BY_ADDRESS, Trunk(B, "new", "198.51.100.9"))))
            await asyncio.sleep(1)
            assert lab.table.line(A, "main") is kept
            assert lab.states().keys() == {"main", "new"}
            assert lab.agent.sent[-1][4].get("Expires") == "0" or lab.agent.sent[-2][4].get("Expires") == "0"
            assert not lab.table.knows(SECOND.host)
            assert lab.table.knows("198.51.100.9")

    on_virtual_time(story)


def test_stopping_does_not_wait_for_a_dead_registrar() -> None:
    async def story() -> None:
        async with running(REGISTERED) as lab:
            await asyncio.sleep(1)
            lab.agent.answer = lambda method, remote, headers: 408
            began = lab.agent.now()
            await lab.table.stop()
            assert lab.agent.now() - began <= 2.0

    on_virtual_time(story)


def test_calls_come_by_the_trunks_resolved_address_whatever_the_port() -> None:
    async def story() -> None:
        async with running(BY_ADDRESS) as lab:
            await asyncio.sleep(1)
            assert lab.table.match(*incoming("74951112233", FIRST._replace(port=47_000))) == BY_ADDRESS
            assert lab.table.match(*incoming("74951112233", SECOND)) is None
            lab.resolver.hosts["operator.test"] = [SECOND]
            await asyncio.sleep(120)
            assert lab.table.match(*incoming("74951112233", SECOND)) == BY_ADDRESS
            assert lab.table.match(*incoming("74951112233", FIRST)) == BY_ADDRESS      # it may come back
            await asyncio.sleep(3700)
            assert lab.table.match(*incoming("74951112233", FIRST)) is None

    on_virtual_time(story)


def test_a_numeric_host_and_a_network_are_known_without_any_look_up() -> None:
    async def story() -> None:
        lab = Lab()
        numeric = Trunk(A, "numeric", "198.51.100.1")
        network = Trunk(B, "network", "operator.test", networks=(ipaddress.ip_network("203.0.113.0/24"),))
        lab.table.use(Directory(trunks=(numeric, network)))
        assert lab.table.match(*incoming("1", FIRST)) == numeric
        assert lab.table.match(*incoming("1", Address("203.0.113.200", 5060))) == network
        assert lab.table.match(*incoming("1", Address("2001:db8::1", 5060))) is None
        assert lab.table.counters.unknown == 1

    on_virtual_time(story)


def test_clients_of_one_operator_are_told_apart_by_the_number_dialled() -> None:
    async def story() -> None:
        lab = Lab()
        ours, theirs = Trunk(A, "main", "198.51.100.1"), Trunk(B, "main", "198.51.100.1")
        numbers = (Number(A, "+74951112233", "101"), Number(B, "+74954445566", "101", trunk="main"))
        lab.table.use(Directory(trunks=(ours, theirs), numbers=numbers))
        assert lab.table.match(*incoming("74951112233")) == ours
        assert lab.table.match(*incoming("84954445566")) == theirs
        assert lab.table.match(*incoming("+74954445566", uri_user="s")) == theirs          # the number is in To
        assert lab.table.match(*incoming("+74957778899")) is None
        assert lab.table.counters.ambiguous == 1
        assert lab.table.why_not(*incoming("+74957778899")) == (
            "198.51.100.1 is several clients' trunk (main (a), main (b)), and none of them has the number +74957778899")
        assert lab.table.why_not(*incoming("+74951112233", Address("198.51.100.3", 5060))) == (
            "number +74951112233 belongs to a, whose main (a) has 198.51.100.1; the call came from 198.51.100.3")

    on_virtual_time(story)


def test_two_trunks_of_one_client_at_one_address_are_told_apart_by_the_numbers_trunk() -> None:
    async def story() -> None:
        lab = Lab()
        one, two = Trunk(A, "one", "198.51.100.1"), Trunk(A, "two", "198.51.100.1")
        lab.table.use(Directory(trunks=(one, two), numbers=(Number(A, "+74951112233", "101", trunk="two"),)))
        assert lab.table.match(*incoming("74951112233")) == two
        assert lab.table.match(*incoming("74957778899")) == one

    on_virtual_time(story)


def test_a_call_to_our_registered_contact_is_that_trunks_from_wherever_it_comes() -> None:
    async def story() -> None:
        lab = Lab()
        lab.table.use(Directory(trunks=(REGISTERED,)))
        line = lab.table.line(A, "main")
        assert line is not None
        assert lab.table.match(*incoming("+74951112233", SECOND, uri_user=line.token)) == REGISTERED

    on_virtual_time(story)


def test_outgoing_calls_prefer_a_trunk_that_is_up() -> None:
    async def story() -> None:
        dead, alive = Trunk(A, "dead", "operator.test"), Trunk(A, "alive", "198.51.100.2")
        async with running(dead, alive) as lab:
            lab.agent.answer = lambda method, remote, headers: 408 if remote == FIRST else 200
            await asyncio.sleep(40)
            assert [lab.table.promising(trunk) for trunk in (dead, alive, replace(dead, client=B))] == [
                False, True, False]
            assert [trunk.name for trunk in lab.table.choice.order((dead, alive), "+7495").trunks] == ["alive", "dead"]

    on_virtual_time(story)


def test_a_trunk_by_tls_says_who_must_be_there_and_why_nobody_is() -> None:
    async def story() -> None:
        trunk = Trunk(A, "main", "operator.test", transport="TLS", domain="sip.test", ca_file="/ca.pem",
                      certificate="/our.pem", certificate_key="/our.key")     # fmt: skip
        async with running(trunk) as lab:
            lab.agent.spoken.add(Transport.TLS)
            lab.agent.answer = lambda method, remote, headers: 503
            lab.agent.troubles["operator.test"] = "its certificate names mail.test"
            await asyncio.sleep(1)
            expected = TlsPeer(("operator.test", "sip.test"), "/ca.pem", "/our.pem", "/our.key")
            assert lab.agent.peers == [expected]
            assert lab.states() == {"main": (False, "no answer to OPTIONS; its certificate names mail.test")}

    on_virtual_time(story)


def test_a_trunk_by_another_transport_proves_nothing() -> None:
    async def story() -> None:
        async with running(BY_ADDRESS) as lab:
            await asyncio.sleep(1)
            assert lab.agent.peers == [None]

    on_virtual_time(story)
