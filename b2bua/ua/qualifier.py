"""Whether registered phones can be reached: each is sent OPTIONS now and then (RFC 3261 §11), evenly spread over time.

An answer of any kind comes from somebody alive. A phone that leaves two in a row unanswered is unreachable, and rung
only where no other can be (Registrar.to_ring), until it answers again or registers from somewhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

from b2bua.sip.bindings import Binding, Reachability
from b2bua.sip.effects import Flow
from b2bua.sip.fields import NameAddr
from b2bua.sip.message import Response
from b2bua.sip.uri import Uri
from b2bua.ua.registrar import ExtensionKey, Registrar

MOST_A_SECOND: Final = 50               # OPTIONS; with more phones than that allows, a round takes longer
MOST_OPEN: Final = 500                  # that wait for their answer at once
PATIENCE: Final = 8.0                   # seconds; RFC 3261 timer E has sent it five times by then
LAGGED_AFTER: Final = 1.0               # seconds; a caller hears nothing for as long
SECOND_TRY: Final = 2.0                 # seconds after an unanswered one
LOOK_AGAIN: Final = 5.0                 # while there are no phones


log = logging.getLogger(__name__)


class Asker(Protocol):
    """What is needed of the user agent."""

    async def ask(
        self,
        flow: Flow,
        method: str,
        uri: Uri,
        *,
        from_: NameAddr,
        to: NameAddr,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Response:
        """The final response; a 408 or 503 of its own making when none came."""
        ...

    def now(self) -> float: ...


class Qualifier:
    def __init__(self, registrar: Registrar, asker: Asker, random: Random, *, every: float) -> None:
        """`every`: seconds from one OPTIONS to a phone to the next; 0: there are none."""
        self._registrar = registrar
        self._asker = asker
        self._random = random
        self._every = every
        self._open = asyncio.Semaphore(MOST_OPEN)

    async def run(self) -> None:
        if not self._every:
            return
        async with asyncio.TaskGroup() as questions:
            while True:
                await self._round(questions)

    async def _round(self, questions: asyncio.TaskGroup) -> None:
        """Each phone once, in a new order each time, so that they do not answer in step."""
        phones = self._registrar.bound(self._asker.now())
        if not phones:
            await asyncio.sleep(min(self._every, LOOK_AGAIN))
            return
        self._random.shuffle(phones)
        pause = max(self._every / len(phones), 1 / MOST_A_SECOND)
        for key, binding in phones:
            await asyncio.sleep(pause * self._random.uniform(0.8, 1.2))
            await self._open.acquire()
            questions.create_task(self._question(key, binding), name=f"qualify {key[0]}/{key[1]}")

    async def _question(self, key: ExtensionKey, binding: Binding) -> None:
        try:
            found = await self._ask(binding)
            if found is Reachability.UNREACHABLE:       # one may be lost for other reasons than the phone's
                await asyncio.sleep(SECOND_TRY)
                found = await self._ask(binding)
            self._registrar.mark(key, binding, found)
        except Exception:                               # the boundary of a phone: the others are asked all the same
            log.exception("phone not asked", extra={"client": key[0], "extension": key[1]})
        finally:
            self._open.release()

    async def _ask(self, binding: Binding) -> Reachability:
        flow, began = binding.reach, self._asker.now()
        here = NameAddr(Uri.sip("", flow.local.host, flow.local.port))
        try:
            async with asyncio.timeout(PATIENCE):
                response = await self._asker.ask(
                    flow, "OPTIONS", binding.uri, from_=here, to=NameAddr(binding.uri),
                    headers=tuple(("Route", hop) for hop in binding.path),
                )   # fmt: skip
        except TimeoutError:
            return Reachability.UNREACHABLE
        if response.status in (408, 503):
            return Reachability.UNREACHABLE
        return Reachability.LAGGED if self._asker.now() - began > LAGGED_AFTER else Reachability.REACHABLE
