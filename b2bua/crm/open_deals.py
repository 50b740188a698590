"""The deals that live cards name: asked for once a call, beside its ringing, when somebody looks at the card."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from b2bua.cdr import CallId, ClientId
from b2bua.crm.port import Contact, CrmError, OpenDeal, TellsDeals

MOST_CALLS = 2_000                     # remembered; those that were asked for first go first
AT_ONCE = 50                           # questions; further calls name no deal until one is answered
LONGEST = 20.0                         # seconds for one

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Known:
    deal: OpenDeal | None = None


class OpenDeals:
    """Entered where its questions may live."""

    def __init__(self, crm_of: Callable[[ClientId], TellsDeals | None]) -> None:
        self._crm_of = crm_of
        self._known: dict[CallId, _Known] = {}
        self._tasks = asyncio.TaskGroup()
        self._questions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for question in self._questions:
            question.cancel()
        await self._tasks.__aexit__(None, None, None)      # its children never fail: the block's error passes unwrapped

    def of(self, client: ClientId, call: CallId, contact: Contact) -> OpenDeal | None:
        """As far as is known; the first time it is asked for."""
        if (known := self._known.get(call)) is not None:
            return known.deal
        crm = self._crm_of(client)
        if crm is not None and len(self._questions) < AT_ONCE:
            known = self._known[call] = _Known()
            while len(self._known) > MOST_CALLS:
                del self._known[next(iter(self._known))]
            question = self._tasks.create_task(self._ask(crm, client, contact, known))
            self._questions.add(question)
            question.add_done_callback(self._questions.discard)
        return None

    async def _ask(self, crm: TellsDeals, client: ClientId, contact: Contact, known: _Known) -> None:
        try:
            async with asyncio.timeout(LONGEST):
                known.deal = await crm.open_deal(contact)
        except (CrmError, TimeoutError) as error:
            log.info("no deal for the live card", client=client, why=str(error) or "too slow")
        except Exception:              # a CRM adapter's fault is no reason for the pages to end
            log.exception("no deal for the live card", client=client)
