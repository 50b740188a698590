"""RFC 3263 against a small DNS server of our own on loopback, and the cache against a scripted one."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from random import Random
from typing import cast

import dns.message
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest

from b2bua.net import resolver as resolver_module
from b2bua.net.resolver import Answers, DnsFailure, DnsResolver, Srv, SystemDns
from b2bua.sip.effects import Address, Transport
from tests.support.name_server import answer_to

pytestmark = pytest.mark.both_loops


ZONE = """
$ORIGIN test.
$TTL 300
@           IN SOA ns hostmaster 1 3600 600 86400 60
@           IN NS ns
ns          IN A 127.0.0.1
plain       IN A 192.0.2.1
dual        IN A 192.0.2.1
dual        IN AAAA 2001:db8::1
other       IN A 192.0.2.2
many        IN A 192.0.2.1
many        IN A 192.0.2.2
srv         IN A 192.0.2.99
_sip._udp.srv  IN SRV 10 60 5062 plain
_sip._udp.srv  IN SRV 20 0 5064 other
_sip._tcp.srv  IN SRV 10 0 5065 plain
naptr       IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.srv
naptr       IN NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.srv
naptr       IN NAPTR 5 10 "s" "SIPS+D2T" "" _sips._tcp.srv
naptr       IN NAPTR 5 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .
nothere     IN A 192.0.2.1
_sip._udp.nothere IN SRV 0 0 0 .
_sip._udp.tcponly IN SRV 0 0 5060 ghost
loop        IN CNAME plain
"""


class DnsServer(asyncio.DatagramProtocol):
    """Answers from a zone; names under `silent.test.` get nothing, under `broken.test.` SERVFAIL."""

    def __init__(self) -> None:
        self.zone = dns.zone.from_text(ZONE, "test.", relativize=False)
        self.asked: Counter[tuple[str, str]] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked[name, dns.rdatatype.to_text(question.rdtype)] += 1
        if "silent" in name:
            return
        response = answer_to(query, self.zone)
        if "broken" in name:
            response.set_rcode(dns.rcode.SERVFAIL)
        self.transport.sendto(response.to_wire(), source)


class Lab:
    def __init__(self, server: DnsServer, nowhere: Path) -> None:
        self.server = server
        self.port = server.transport.get_extra_info("sockname")[1]
        self.nowhere = nowhere

    def resolver(self, **options: object) -> DnsResolver:
        options.setdefault("hosts", self.nowhere)
        return DnsResolver(SystemDns([Address("127.0.0.1", self.port)]), Random(1), **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running(nowhere: Path) -> AsyncIterator[Lab]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(DnsServer, ("127.0.0.1", 0))
    try:
        yield Lab(server, nowhere)
    finally:
        transport.close()


@pytest.fixture
def lab(tmp_path: Path) -> AbstractAsyncContextManager[Lab]:
    return running(tmp_path / "no-hosts-file")


def shown(targets: list[tuple[Transport, Address]]) -> list[str]:
    return [f"{transport.value} {address.host} {address.port}" for transport, address in targets]


@pytest.mark.parametrize(
    ("host", "port", "transport", "secure", "expected"),
    [
        ("192.0.2.9", None, None, False, ["UDP 192.0.2.9 5060"]),
        ("192.0.2.9", 5070, Transport.TCP, False, ["TCP 192.0.2.9 5070"]),
        ("[2001:db8::9]", None, None, True, ["TLS 2001:db8::9 5061"]),
        ("plain.test", 5070, None, False, ["UDP 192.0.2.1 5070"]),
        ("PLAIN.test.", None, None, False, ["UDP 192.0.2.1 5060"]),
        ("plain.test", None, Transport.TCP, False, ["TCP 192.0.2.1 5060"]),
        ("loop.test", None, None, False, ["UDP 192.0.2.1 5060"]),
        ("dual.test", None, None, False, ["UDP 192.0.2.1 5060"]),
        (
            "srv.test", None, None, False,
            ["UDP 192.0.2.1 5062", "UDP 192.0.2.2 5064", "TCP 192.0.2.1 5065"],
        ),
        ("srv.test", None, Transport.TCP, False, ["TCP 192.0.2.1 5065"]),
        ("srv.test", 5070, None, False, ["UDP 192.0.2.99 5070"]),
        (
            "naptr.test", None, None, False,
            ["TCP 192.0.2.1 5065", "UDP 192.0.2.1 5062", "UDP 192.0.2.2 5064"],
        ),
        ("absent.test", None, None, False, []),
        ("tcponly.test", None, None, False, []),
        ("localhost", None, None, False, ["UDP 127.0.0.1 5060"]),
        ("not a name at all", None, None, False, []),
        ("x" * 300, None, None, False, []),
    ],
)  # fmt: skip
async def test_a_host_becomes_addresses_in_the_order_to_be_tried(
    lab: Lab, host: str, port: int | None, transport: Transport | None, secure: bool, expected: list[str]
) -> None:
    assert shown(await lab.resolver().resolve(host, port, transport, secure=secure)) == expected


async def test_all_addresses_of_a_name_are_targets(lab: Lab) -> None:
    assert set(shown(await lab.resolver().resolve("many.test", 5070))) == {"UDP 192.0.2.1 5070", "UDP 192.0.2.2 5070"}


async def test_ipv6_comes_after_ipv4_where_we_speak_it(lab: Lab) -> None:
    assert shown(await lab.resolver(ipv6=True).resolve("dual.test")) == ["UDP 192.0.2.1 5060", "UDP 2001:db8::1 5060"]


async def test_answers_are_kept_as_long_as_their_ttl(lab: Lab) -> None:
    resolver = lab.resolver()
    first = await resolver.resolve("srv.test")
    asked = lab.server.asked.copy()
    assert await resolver.resolve("srv.test") == first
    assert lab.server.asked == asked


async def test_a_server_in_trouble_is_nowhere_and_not_an_error(lab: Lab) -> None:
    assert await lab.resolver().resolve("broken.test") == []


async def test_a_silent_server_costs_the_patience_and_no_more(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await lab.resolver(patience=0.05).resolve("silent.test") == []


async def test_a_name_server_that_is_silent_leaves_the_next_one_its_time(lab: Lab) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.1", 0))
        servers = SystemDns([Address(*silent.getsockname()), Address("127.0.0.1", lab.port)])
        assert await servers.query("plain.test", "A") == Answers(("192.0.2.1",), 300.0)
        assert silent.recv(512)


@pytest.mark.parametrize("text", [None, "", "search test\n"])
async def test_a_machine_without_name_servers_knows_no_names(tmp_path: Path, text: str | None) -> None:
    system = tmp_path / "resolv.conf"
    if text is not None:
        system.write_text(text)
    resolver = DnsResolver(SystemDns(system=system), Random(1), hosts=tmp_path / "none")
    assert await resolver.resolve("plain.test") == []
    assert shown(await resolver.resolve("192.0.2.9")) == ["UDP 192.0.2.9 5060"]


async def test_the_systems_name_servers_are_asked_where_no_others_are_given(tmp_path: Path) -> None:
    system = tmp_path / "resolv.conf"
    system.write_text("nameserver 127.0.0.1\nnameserver 127.0.0.2\n")
    assert list(SystemDns(system=system)._resolver.nameservers) == ["127.0.0.1", "127.0.0.2"]


async def test_a_network_that_swallows_srv_still_finds_the_address(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Swallowing:
        async def query(self, name: str, kind: str) -> Answers:
            if kind in ("NAPTR", "SRV"):
                raise DnsFailure("no answer")
            return Answers(("192.0.2.1",), 60.0)

    assert shown(await DnsResolver(Swallowing(), Random(1)).resolve("h.test")) == ["UDP 192.0.2.1 5060"]


async def test_the_hosts_file_comes_before_the_dns_and_is_read_again(lab: Lab, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# ours\n127.0.0.5 pbx Trunk.local # twice\n::1 pbx\nnonsense here\n\n")
    resolver = lab.resolver(hosts=hosts)
    assert shown(await resolver.resolve("trunk.LOCAL")) == ["UDP 127.0.0.5 5060"]
    assert shown(await resolver.resolve("pbx", 5070)) == ["UDP 127.0.0.5 5070"]
    assert not lab.server.asked
    hosts.write_text("127.0.0.66 pbx\n")
    assert shown(await resolver.resolve("pbx")) == ["UDP 127.0.0.66 5060"]


class ScriptedDns:
    def __init__(self, *script: Answers | DnsFailure) -> None:
        self.script = list(script)

    async def query(self, name: str, kind: str) -> Answers:
        if kind != "A":
            return Answers((), 1000.0)
        answer = self.script.pop(0)
        if isinstance(answer, DnsFailure):
            raise answer
        return answer


async def test_an_expired_answer_stands_in_while_the_dns_is_down(tmp_path: Path) -> None:
    dns = ScriptedDns(Answers(("192.0.2.1",), 0.0), DnsFailure("down"))
    resolver = DnsResolver(dns, Random(1), hosts=tmp_path / "none")
    first = await resolver.resolve("h.test")
    assert await resolver.resolve("h.test") == first != []
    assert await resolver.resolve("h.test") == first            # and the DNS is left alone for a while
    assert dns.script == []


async def test_an_answer_that_is_too_old_does_not_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "STALE_FOR", -1.0)
    dns = ScriptedDns(Answers(("192.0.2.1",), 0.0), DnsFailure("down"))
    resolver = DnsResolver(dns, Random(1), hosts=tmp_path / "none")
    assert await resolver.resolve("h.test") != []
    assert await resolver.resolve("h.test") == []


async def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "MAX_CACHED", 10)
    resolver = DnsResolver(ScriptedDns(*[Answers((), 60.0)] * 50), Random(1), hosts=tmp_path / "none")
    for number in range(50):
        await resolver.resolve(f"h{number}.test", 5060)
    assert len(resolver._cache) == 10


async def test_weights_share_the_load_and_priorities_come_first(tmp_path: Path) -> None:
    class Weighted:
        async def query(self, name: str, kind: str) -> Answers:
            if name != "_sip._udp.h.test":
                return Answers((), 1000.0)
            records = Srv(2, 99, 5060, "192.0.2.3"), Srv(1, 90, 5060, "192.0.2.1"), Srv(1, 10, 5060, "192.0.2.2")
            return Answers(records, 99.0)

    resolver = DnsResolver(Weighted(), Random(7), hosts=tmp_path / "none")
    firsts: Counter[str] = Counter()
    for _ in range(500):
        targets = [address.host for _, address in await resolver.resolve("h.test", transport=Transport.UDP)]
        assert targets[2] == "192.0.2.3"
        firsts[targets[0]] += 1
    assert 420 <= firsts["192.0.2.1"] <= 480
