"""Where a SIP URI's host is: RFC 3263 over NAPTR, SRV and address records, with the order of RFC 2782."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdata
import dns.resolver
from dns.nameserver import Do53Nameserver
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from b2bua.sip.effects import Address, Transport

PATIENCE: Final = 6.0                   # seconds for a whole look-up
QUERY_PATIENCE: Final = 1.5             # for one question of it: some networks swallow NAPTR and SRV
MAX_CACHED: Final = 4096                # answers
MAX_TARGETS: Final = 16                 # addresses that one look-up yields
MAX_RECORDS: Final = 32                 # of one answer that are read
LONGEST_TTL: Final = 86_400.0
NEGATIVE_TTL: Final = 30.0              # for "there is none", and before a failed look-up is repeated
STALE_FOR: Final = 86_400.0             # how long an expired answer stands in when the DNS is down
RESOLV_CONF: Final = Path("/etc/resolv.conf")
HOSTS_FILE: Final = Path("/etc/hosts")
MAX_HOSTS_FILE: Final = 1024 * 1024     # bytes

Target = tuple[Transport, Address]

log = logging.getLogger(__name__)


class Resolver(Protocol):
    async def resolve(
        self, host: str, port: int | None = None, transport: Transport | None = None, *, secure: bool = False
    ) -> list[Target]:
        """In the order to be tried; empty when there is nothing to be found."""
        ...


@dataclass(frozen=True, slots=True)
class Naptr:
    order: int
    preference: int
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    priority: int
    weight: int
    port: int
    target: str


Records = tuple[Naptr | Srv | str, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Records of one name and type, addresses as text. None at all is an answer too."""

    records: Records
    ttl: float


class DnsFailure(Exception):
    """No answer, or one that says that the server could not tell."""


class Dns(Protocol):
    async def query(self, name: str, kind: str) -> Answers:
        """`kind` is "NAPTR", "SRV", "A" or "AAAA". Raises DnsFailure."""
        ...


class SystemDns:
    """The name servers given, or those of the system; a machine without any knows no names, and does its other work."""

    def __init__(self, nameservers: Sequence[Address] = (), system: Path = RESOLV_CONF) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        if nameservers:
            self._resolver.nameservers = [Do53Nameserver(one.host, one.port) for one in nameservers]
        else:
            try:
                self._resolver.read_resolv_conf(str(system))
            except dns.resolver.NoResolverConfiguration as error:
                log.warning("no DNS server is known; `nameservers` in [sip] names some", extra={"error": str(error)})
        self._resolver.lifetime = QUERY_PATIENCE
        # One that is silent leaves the others their time.
        self._resolver.timeout = QUERY_PATIENCE / max(1, len(self._resolver.nameservers))

    async def query(self, name: str, kind: str) -> Answers:
        try:
            # A single label is a name of the local search list, as in a container's network.
            answer = await self._resolver.resolve(name, kind, search="." not in name)
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            return Answers((), NEGATIVE_TTL)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise DnsFailure(str(error)) from error
        ttl = float(answer.rrset.ttl) if answer.rrset is not None else NEGATIVE_TTL
        return Answers(tuple(_read(list(answer)[:MAX_RECORDS])), ttl)


def _read(rdatas: Iterable[dns.rdata.Rdata]) -> Iterator[Naptr | Srv | str]:
    for rdata in rdatas:
        match rdata:
            case A() | AAAA():
                yield rdata.address
            case SRV():
                yield Srv(rdata.priority, rdata.weight, rdata.port, _text(rdata.target))
            case NAPTR():
                service = rdata.service.decode("ascii", "replace").upper()
                yield Naptr(rdata.order, rdata.preference, service, _text(rdata.replacement))


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


_SERVICES: Final = {                            # RFC 3263 §4.1, RFC 7118 §8
    "SIP+D2U": Transport.UDP,
    "SIP+D2T": Transport.TCP,
    "SIPS+D2T": Transport.TLS,
    "SIP+D2W": Transport.WS,
    "SIPS+D2W": Transport.WSS,
}
_SRV_PREFIX: Final = {Transport.UDP: "_sip._udp.", Transport.TCP: "_sip._tcp.", Transport.TLS: "_sips._tcp."}


@dataclass(slots=True)
class _Cached:
    records: Records
    expires_at: float
    ask_at: float                       # later than `expires_at` while the servers do not answer


class DnsResolver:
    """RFC 3263 with a cache that keeps what the TTLs allow, and longer while no server answers."""

    def __init__(
        self,
        dns: Dns,
        random: Random,
        *,
        transports: Sequence[Transport] = (Transport.UDP, Transport.TCP),
        ipv6: bool = False,
        hosts: Path = HOSTS_FILE,
        patience: float = PATIENCE,
    ) -> None:
        self._dns = dns
        self._random = random
        self._transports = tuple(transports)
        self._kinds = ("A", "AAAA") if ipv6 else ("A",)
        self._hosts = _HostsFile(hosts)
        self._patience = patience
        self._cache: dict[tuple[str, str], _Cached] = {}

    async def resolve(
        self, host: str, port: int | None = None, transport: Transport | None = None, *, secure: bool = False
    ) -> list[Target]:
        host = host.strip("[]").rstrip(".").lower()
        plain = transport or (Transport.TLS if secure else Transport.UDP)
        if is_numeric(host):
            return [(plain, Address(host, port or plain.default_port))]
        found: list[Target] = []
        try:
            async with asyncio.timeout(self._patience):
                if port is None and host not in self._hosts.names():
                    await self._by_service(host, transport, secure, found)
                if not found:
                    await self._by_address(host, plain, port or plain.default_port, found)
        except TimeoutError:
            log.warning("DNS look-up out of time", extra={"host": host, "found": len(found)})
        return found[:MAX_TARGETS]

    async def _by_service(self, host: str, transport: Transport | None, secure: bool, found: list[Target]) -> None:
        for way, name in await self._services(host, transport, secure):
            for record in self._in_order(await self._ask(name, "SRV")):
                if record.target and len(found) < MAX_TARGETS:      # the target "." says: not here (RFC 2782)
                    await self._by_address(record.target, way, record.port, found)

    async def _services(self, host: str, transport: Transport | None, secure: bool) -> list[tuple[Transport, str]]:
        """Transports in the order of preference, each with the name of its SRV records (RFC 3263 §4.1)."""
        wanted = self._transports if transport is None else (transport,)
        if secure:
            wanted = tuple(way for way in wanted if way in (Transport.TLS, Transport.WSS))
        if transport is None:
            naptrs = [record for record in await self._ask(host, "NAPTR") if isinstance(record, Naptr)]
            naptrs.sort(key=lambda record: (record.order, record.preference))
            named = [(_SERVICES.get(record.service), record.replacement) for record in naptrs]
            usable = [(way, name) for way, name in named if way is not None and way in wanted]
            if usable:
                return usable
        return [(way, _SRV_PREFIX[way] + host) for way in wanted if way in _SRV_PREFIX]

    async def _by_address(self, host: str, way: Transport, port: int, found: list[Target]) -> None:
        addresses: list[str] = [host] if is_numeric(host) else list(self._hosts.names().get(host, ()))
        if not addresses:
            for kind in self._kinds:
                addresses += [record for record in await self._ask(host, kind) if isinstance(record, str)]
        for address in addresses:
            target = way, Address(address, port)
            if target not in found and (":" not in address or "AAAA" in self._kinds):
                found.append(target)

    def _in_order(self, records: Records) -> Iterator[Srv]:
        """RFC 2782: by priority; within one, by a lottery in which the weight is the number of tickets."""
        left = sorted((r for r in records if isinstance(r, Srv)), key=lambda record: (record.priority, record.weight))
        while left:
            same = [record for record in left if record.priority == left[0].priority]
            drawn = self._random.choices(same, [record.weight or 0.01 for record in same])[0]
            left.remove(drawn)
            yield drawn

    async def _ask(self, name: str, kind: str) -> Records:
        now = asyncio.get_running_loop().time()
        known = self._cache.get((name, kind))
        if known is not None and now < known.ask_at:
            return known.records
        try:
            answers = await self._dns.query(name, kind)
        except DnsFailure as failure:
            log.warning("DNS does not answer", extra={"host": name, "kind": kind, "error": str(failure)})
            if known is None or now - known.expires_at > STALE_FOR:
                known = _Cached((), float("-inf"), 0.0)
            cached = _Cached(known.records, known.expires_at, now + NEGATIVE_TTL)
        else:
            expires_at = now + min(answers.ttl, LONGEST_TTL)
            cached = _Cached(answers.records, expires_at, expires_at)
        self._keep((name, kind), cached)
        return cached.records

    def _keep(self, key: tuple[str, str], cached: _Cached) -> None:
        self._cache.pop(key, None)
        if len(self._cache) >= MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = cached


class _HostsFile:
    """Names that need no DNS, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._names: Mapping[str, tuple[str, ...]] = _read_hosts("")

    def names(self) -> Mapping[str, tuple[str, ...]]:
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._read_at and stat.st_size <= MAX_HOSTS_FILE:
                self._names = _read_hosts(self._path.read_text("utf-8", "replace"))
                self._read_at = stat.st_mtime_ns, stat.st_size
        except OSError:
            self._names = _read_hosts("")
        return self._names


def _read_hosts(text: str) -> dict[str, tuple[str, ...]]:
    # RFC 6761 §6.3: localhost is the loopback, whatever the file says.
    names: dict[str, tuple[str, ...]] = {"localhost": ("127.0.0.1", "::1")}
    for line in text.splitlines():
        address, *aliases = line.partition("#")[0].split() or [""]
        if not is_numeric(address):
            continue
        for alias in aliases:
            if alias.lower() != "localhost":
                names[alias.lower()] = (*names.get(alias.lower(), ()), address)
    return names


def is_numeric(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host.partition("%")[0])
    except (OSError, ValueError):      # ValueError: a NUL inside
        return False
    return True
