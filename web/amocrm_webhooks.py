"""What amoCRM tells of its changes: a form of any size from anybody who knows the address, so nothing in it is
believed; it says which cards are worth reading again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Protocol
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from b2bua.cdr import ClientId
from b2bua.crm.people import Hint
from b2bua.crm.port import EntityKind
from b2bua.links import WebhookLinks
from web.pages import NO_STORE
from web.problems import Problem

LARGEST_BODY = 256 * 1024              # bytes; the rest is not read, and its cards wait for the next look at changes
MOST_FIELDS = 4_000
BODY_SECONDS = 5.0
PER_MINUTE = 300                       # of one client; further ones are answered, and not read
_EVENTS = "add|update|delete|responsible|restore|status"
_FIELD = re.compile(rf"(contacts|companies|leads)\[({_EVENTS})\]\[([0-9]{{1,5}})\]\[(id|type)\]")
_KINDS = {"contacts": EntityKind.CONTACT, "companies": EntityKind.COMPANY, "leads": EntityKind.LEAD}


class Listener(Protocol):
    """Who reads the cards again (b2bua.crm.sync)."""

    def takes_hints(self, client: ClientId) -> bool: ...

    def changed(self, client: ClientId, hints: Sequence[Hint]) -> None: ...


class AmoWebhooks:
    """`POST /hooks/amocrm/{token}`. amoCRM wants an answer within two seconds, and switches off an address that answers
    badly a hundred times: what is too much is answered well and left alone."""

    def __init__(self, links: WebhookLinks, listener: Listener) -> None:
        self._links = links
        self._listener = listener
        self._minute: dict[ClientId, tuple[int, int]] = {}     # client -> which minute, how many; clients are few

    async def take(self, request: Request) -> Response:
        client = self._links.client(request.path_params["token"])
        if client is None or not self._listener.takes_hints(client):
            raise Problem(404, "There is nothing here", "Check the address, or start from the dashboard.")
        if self._may_tell(client):
            self._listener.changed(client, tuple(hints(await _body(request))))
        return Response(status_code=204, headers=NO_STORE)

    def _may_tell(self, client: ClientId) -> bool:
        minute = int(asyncio.get_running_loop().time() // 60)
        since, told = self._minute.get(client, (minute, 0))
        told = told + 1 if since == minute else 1
        self._minute[client] = (minute, told)
        return told <= PER_MINUTE


async def _body(request: Request) -> bytes:
    """As much as may be read in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    break
    except (TimeoutError, ClientDisconnect):
        pass
    return bytes(body[:LARGEST_BODY])


def hints(body: bytes) -> Iterator[Hint]:
    """The cards that a form names, each once an event; companies come among the contacts, and say so."""
    named: dict[tuple[str, str, str], dict[str, str]] = {}
    fields = body.decode("utf-8", "replace").split("&", MOST_FIELDS)[:MOST_FIELDS]
    for name, value in parse_qsl("&".join(fields)):
        if (field := _FIELD.fullmatch(name)) is not None:
            list_, event, index, what = field.groups()
            named.setdefault((list_, event, index), {})[what] = value
    for (list_, event, _), said in named.items():
        card = said.get("id", "")
        if card.isascii() and card.isdecimal() and len(card) < 19:
            kind = EntityKind.COMPANY if list_ == "contacts" and said.get("type") == "company" else _KINDS[list_]
            yield Hint(kind, int(card), event == "delete")
