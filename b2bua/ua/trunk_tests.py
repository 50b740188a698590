"""A trunk tested because somebody has asked: where its name leads (RFC 3263), who answers OPTIONS there, and how its
registration stands. Nothing of it touches the trunk's calls, its registration, or whether it counts as up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

from b2bua.cdr import ClientId
from b2bua.control import BeingTested, LastRegister, TriedServer, TrunkFault, TrunkTest
from b2bua.net.resolver import Resolver, Target
from b2bua.sip.fields import NameAddr
from b2bua.sip.message import Response
from b2bua.sip.uri import Uri
from b2bua.ua.trunk import MAX_PINGED, Requester, TrunkLine

PATIENCE: Final = 5.0                   # seconds for the DNS, and then for an answer to OPTIONS
REST: Final = 3.0                       # between two tests of one client
LONGEST_ANSWER: Final = 80              # characters of a reason phrase that is shown


class TrunkTests:
    """One at a time for each client, so that no button makes a flood of OPTIONS."""

    def __init__(
        self, requester: Requester, resolver: Resolver, line: Callable[[ClientId, str], TrunkLine | None]
    ) -> None:
        self._requester = requester
        self._resolver = resolver
        self._line = line
        self._free_at: dict[ClientId, float] = {}

    def last(self, client: ClientId, name: str) -> TrunkTest | None:
        line = self._line(client, name)
        return line.tested if line is not None else None

    async def test(self, client: ClientId, name: str, at: datetime) -> TrunkTest:
        """Raises BeingTested; LookupError: there is no such trunk."""
        if (line := self._line(client, name)) is None:
            raise LookupError(name)
        now = self._requester.now()
        self._free_at = {one: free for one, free in self._free_at.items() if free > now}
        if client in self._free_at:
            raise BeingTested(client)
        self._free_at[client] = float("inf")
        try:
            line.tested = await self._tested(line, at)
        finally:
            self._free_at[client] = self._requester.now() + REST
        return line.tested

    async def _tested(self, line: TrunkLine, at: datetime) -> TrunkTest:
        trunk, found = line.trunk, list[Target]()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                found = await self._resolver.resolve(trunk.host, trunk.port, line.transport)
        spoken = [target for target in found if self._requester.flow_to(*target, line.peer) is not None]
        servers = await asyncio.gather(*(self._tried(line, target) for target in spoken[:MAX_PINGED]))
        trouble = self._requester.trouble(line.peer) if line.peer is not None else ""
        if trouble:
            servers = [replace(one, fault=TrunkFault.BAD_TLS) if not one.answer else one for one in servers]
        fault = None if spoken else TrunkFault.NOT_SPOKEN if found else TrunkFault.NO_ADDRESS
        return TrunkTest(at, tuple(servers), len(spoken) - len(servers),
                         self._registration(line) if trunk.register else None, fault, trouble)

    async def _tried(self, line: TrunkLine, target: Target) -> TriedServer:
        transport, (host, port) = target
        address = f"{transport.value} {f'[{host}]' if ':' in host else host}:{port}"
        uri, began = Uri.sip("", line.domain), self._requester.now()
        try:
            async with asyncio.timeout(PATIENCE):
                response = await self._requester.request(
                    "OPTIONS", uri, from_=NameAddr(line.aor), to=NameAddr(uri), destination=(target,), peer=line.peer)
        except TimeoutError:
            return TriedServer(address, fault=TrunkFault.SILENT)
        if not _is_theirs(response):
            return TriedServer(address, fault=_OWN[response.status])
        took = self._requester.now() - began
        return TriedServer(address, _shown(response), round(took * 1000), _fault_of_options(line, response))

    def _registration(self, line: TrunkLine) -> LastRegister:
        now, machine, last = self._requester.now(), line.registering, line.last_answer
        again_at = machine.next_timeout if machine is not None else None
        return LastRegister(
            line.up, line.state(now).detail, _shown(last) if last is not None and _is_theirs(last) else "",
            round(max(0.0, again_at - now)) if again_at is not None else None,
            None if line.up else _fault_of_register(last, is_under_way=again_at is None))


_OWN: Final = {408: TrunkFault.SILENT, 503: TrunkFault.UNREACHABLE}     # responses that we made for want of one


def _is_theirs(response: Response) -> bool:
    """Whoever answers adds a tag to To (RFC 3261 §8.2.6.2)."""
    return response.status not in _OWN or "tag=" in (response.headers.get("To") or "")


def _shown(response: Response) -> str:
    return f"{response.status} {response.reason}"[:LONGEST_ANSWER]


def _fault_of_options(line: TrunkLine, response: Response) -> TrunkFault | None:
    """Any answer shows that somebody is there; a registrar refuses OPTIONS as it likes, and calls get through."""
    if response.status >= 500 and response.status not in (501, 580):
        return TrunkFault.IN_TROUBLE
    if line.trunk.register:
        return None
    match response.status:
        case 401 | 407 if not line.trunk.password:
            return TrunkFault.PASSWORD_WANTED
        case 403 | 404:
            return TrunkFault.UNKNOWN_TO_THEM
    return None


def _fault_of_register(last: Response | None, *, is_under_way: bool) -> TrunkFault:
    if last is None or (is_under_way and last.status in (401, 407)):       # a challenge, and we are answering it
        return TrunkFault.NOT_REGISTERED_YET
    if not _is_theirs(last):
        return TrunkFault.REGISTRAR_SILENT
    match last.status:
        case 401 | 407:
            return TrunkFault.WRONG_PASSWORD
        case 403 | 404 | 604:
            return TrunkFault.ACCOUNT_REFUSED
    return TrunkFault.REGISTRATION_FAILED
