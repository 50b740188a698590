"""The calls that somebody has clicked: for the page that shows them, and so that one click is one call."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

from b2bua import numbers
from b2bua.calls.call import CallInProgress
from b2bua.cdr import CallId, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.control import AlreadyCalling, ClickedCall, ClickOutcome, ClickStage, Draining, TooManyClicks
from b2bua.directory import Directory, Extension
from b2bua.routing.dialplan import diallable

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

SAME_CLICK: Final = 600.0                  # seconds that the same key is the same click
TOLD_AFTER_END: Final = 60.0               # seconds that an ended one may be asked for
MAX_REMEMBERED: Final = 5_000              # of all clients; beyond, the oldest that have ended are forgotten
CLICKS_A_MINUTE: Final = 60                # of one client
MINUTE: Final = 60.0
LONGEST_NUMBER: Final = 64                 # characters, as amoCRM has it
LONGEST_KEY: Final = 64

_Key = tuple[ClientId, str, str]           # client, extension, the click's own key
_WRONG_NUMBER: Final = (404, 410, 484, 604)


class Click:
    """One clicked call, from the click on. Its call's script moves it on; whoever waits for a change is told."""

    def __init__(self, call: CallInProgress, extension: Extension, dialled: str) -> None:
        self.id, self.client = call.id, call.client
        self.extension = extension
        self.dialled = dialled             # as the dial plan reads it; the call has it normalised
        self.stage = ClickStage.RINGING_YOU
        self.version = 1
        self.ended_at: float | None = None
        self._call: CallInProgress | None = call
        self._last: ClickedCall | None = None           # once the call is gone
        self._outcome: ClickOutcome | None = None
        self._why = ""
        self._changed = asyncio.Event()

    @property
    def is_let_go(self) -> bool:
        return self._last is not None

    @property
    def call(self) -> CallInProgress:
        assert self._call is not None, "its script is over"
        return self._call

    def becomes(self, stage: ClickStage) -> None:
        self.stage = stage
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def over(self, now: float) -> None:
        """What became of it stands in the call. Nothing, when that was told before."""
        if self.ended_at is None:
            self.ended_at = now
            self._outcome = outcome_of(self.call, self.stage)
            self._why = self.call.why[-1] if self.call.why else ""
            self.becomes(ClickStage.ENDED)

    def let_go(self) -> None:
        """Of the call, which nobody else needs any more."""
        self._last = self.now()
        self._call = None

    def now(self) -> ClickedCall:
        if self._last is not None:
            return self._last
        call = self.call
        return ClickedCall(
            id=call.id,
            client=call.client,
            extension=self.extension.number,
            number=call.dialled,
            stage=self.stage,
            outcome=self._outcome,
            why=self._why,
            contact=call.contact.name if call.contact is not None else None,
            talk_seconds=_talked(call),
            version=self.version,
            card=call.contact,
        )

    async def changed(self, after_version: int) -> ClickedCall:
        while self.version == after_version:
            await self._changed.wait()
        return self.now()


def _talked(call: CallInProgress) -> int | None:
    if call.answered_at is None:
        return None
    return max(0, round(((call.ended_at or call.clock()) - call.answered_at).total_seconds()))


class Clicks:
    """One per switchboard. It holds a click for ten minutes by its key, and while its call lives and a minute more."""

    def __init__(self, pbx: Switchboard) -> None:
        self._pbx = pbx
        self._by_key: OrderedDict[_Key, tuple[float, Click]] = OrderedDict()        # the oldest first
        self._by_call: dict[CallId, Click] = {}
        self._of_extension: dict[tuple[ClientId, str], Click] = {}                  # that have not ended
        self._counted: dict[ClientId, tuple[int, int]] = {}                         # minute, clicks in it

    def __len__(self) -> int:
        return len(self._by_call)

    def click(self, client: ClientId, number: str, text: str, key: str, now: float) -> ClickedCall:
        """Raises as Control.click2call does."""
        self._forget(now)
        if (again := self._by_key.get((client, number, key))) is not None:
            return again[1].now()
        if self._pbx.draining:
            raise Draining("the switch is stopping")
        directory = self._pbx.directory
        extension = directory.extension.get((client, number))
        if extension is None:
            raise LookupError(f"{client} has no extension {number}")
        if not key or len(key) > LONGEST_KEY:
            raise ValueError("the key of the click is empty or too long")
        dialled = what_to_dial(directory, client, text)
        before = self._of_extension.get((client, number))
        if before is not None and before.stage is not ClickStage.ENDED:
            raise AlreadyCalling(f"{number} of {client} is calling {before.call.dialled}")
        self._count(client, now)
        if before is not None:             # it only hears yet that nobody could be reached
            self._pbx.hang_up(client, before.id)
        click = self._pbx.from_click(extension, dialled)
        self._by_key[client, number, key] = now, click
        self._by_call[click.id] = click
        self._of_extension[client, number] = click
        return click.now()

    def clicked(self, client: ClientId, call: CallId, now: float) -> Click | None:
        click = self._by_call.get(call)
        if click is None or click.client != client:
            return None
        return None if click.ended_at is not None and now - click.ended_at > TOLD_AFTER_END else click

    def over(self, call: CallInProgress, now: float) -> None:
        """That call is; nothing, when nobody has clicked it."""
        click = self._by_call.get(call.id)
        if click is None:
            return
        mine = (click.client, click.extension.number)
        if self._of_extension.get(mine) is click:
            del self._of_extension[mine]
        if not click.is_let_go:
            click.over(now)
            click.let_go()

    def _count(self, client: ClientId, now: float) -> None:
        this = int(now // MINUTE)
        minute, clicks = self._counted.get(client, (this, 0))
        clicks = clicks if minute == this else 0
        if clicks >= CLICKS_A_MINUTE:
            raise TooManyClicks(f"{client} has clicked {CLICKS_A_MINUTE} calls within the minute")
        if client not in self._counted:
            self._counted = {one: counted for one, counted in self._counted.items() if counted[0] == this}
        self._counted[client] = this, clicks + 1

    def _forget(self, now: float) -> None:
        """Whoever ended, when its key is old, or when there are too many."""
        old = sum(1 for _ in takewhile(lambda entry: entry[0] <= now - SAME_CLICK, self._by_key.values()))
        oldest = islice(self._by_key.items(), max(old, len(self._by_key) - MAX_REMEMBERED))
        for key, (_, click) in list(oldest):
            if click.ended_at is not None:
                del self._by_key[key]
                del self._by_call[click.id]


def what_to_dial(directory: Directory, client: ClientId, text: str) -> str:
    """A number as the CRM's cards have it, as the dial plan reads it. Raises ValueError."""
    if len(text.strip()) > LONGEST_NUMBER:
        raise ValueError("that is longer than any number")
    plain = numbers.in_a_card(text)
    for dialled in (plain, numbers.normalise(plain, directory.client[client].country)):
        here = (client, dialled)
        if here in directory.extension or here in directory.group:
            return dialled
    if not diallable(dialled):
        raise ValueError(f"{plain!r} is nothing that can be dialled")
    return dialled


def outcome_of(call: CallInProgress, stage: ClickStage) -> ClickOutcome:
    """What the page is told of a call that is over, and how far it had come."""
    end, disposition = call.end, call.disposition
    if disposition is Disposition.ANSWERED:
        return ClickOutcome.TALKED
    if disposition is Disposition.ABANDONED:
        return ClickOutcome.CANCELLED if stage is ClickStage.RINGING_YOU else ClickOutcome.GIVEN_UP
    if end is None or disposition is None:
        return ClickOutcome.FAILED
    match end.reason:
        case EndReason.ENGAGED:
            return ClickOutcome.YOU_TALKING
        case EndReason.NOT_ALLOWED:
            return ClickOutcome.NOT_ALLOWED
        case EndReason.LIMIT_REACHED:
            return ClickOutcome.NOT_ALLOWED if end.status == 403 else ClickOutcome.LIMIT_REACHED
        case EndReason.FAULT | EndReason.SHUTDOWN | EndReason.MEDIA_TIMEOUT | EndReason.NO_COMMON_CODEC:
            return ClickOutcome.FAILED
    if end.by is EndedBy.CALLER:
        return _YOURS.get(disposition, ClickOutcome.FAILED)
    if end.reason is EndReason.REJECTED and end.status in _WRONG_NUMBER:
        return ClickOutcome.WRONG_NUMBER
    if disposition in _THEIRS:
        return _THEIRS[disposition]
    no_way = end.reason in _NO_WAY or (end.reason is EndReason.REJECTED and end.status == 500)     # 503 comes to that
    if no_way and disposition in (Disposition.UNREACHABLE, Disposition.FAILED):
        return ClickOutcome.NO_TRUNK if call.direction is Direction.OUTBOUND else ClickOutcome.THEY_NO_ANSWER
    return ClickOutcome.FAILED


_NO_WAY: Final = (EndReason.NOTHING_TO_RING, EndReason.NO_RESPONSE, EndReason.TRANSPORT_FAILED)
_YOURS: Final = {
    Disposition.BUSY: ClickOutcome.YOU_BUSY,
    Disposition.DECLINED: ClickOutcome.YOU_DECLINED,
    Disposition.NO_ANSWER: ClickOutcome.YOU_NO_ANSWER,
    Disposition.UNREACHABLE: ClickOutcome.YOU_UNREGISTERED,
}
_THEIRS: Final = {
    Disposition.BUSY: ClickOutcome.THEY_BUSY,
    Disposition.DECLINED: ClickOutcome.THEY_DECLINED,
    Disposition.NO_ANSWER: ClickOutcome.THEY_NO_ANSWER,
}
