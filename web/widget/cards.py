"""The calls of each employee as the live card shows them: the switch's live calls and the clicks, with a version that
grows with every change, and each for a while after its end."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from b2bua.cdr import CallId, ClientId, Direction
from b2bua.control import ClickedCall, ClickOutcome, ClickStage, Control, LiveCall
from b2bua.crm.open_deals import OpenDeals
from b2bua.crm.port import Contact, EntityKind
from web.widget import schemas

EVERY = 1.0                            # seconds between two looks at the live calls, for all who watch together
ENDED_SHOWN = 10.0                     # seconds
REPEATED_WITHIN = 600.0                # seconds in which the same request is the same click
MOST_CLICKS = 20_000                   # remembered; the oldest go first
CLICKS_OF_ONE = 10                     # of one extension

Desk = tuple[ClientId, str]            # client and extension


@dataclass(frozen=True, slots=True)
class _Click:
    call: CallId
    desk: Desk
    entity: schemas.Entity | None
    at: float


class Clicks:
    """What was clicked in the last minutes, and on which card."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[tuple[ClientId, str], _Click] = OrderedDict()
        self._by_call: dict[tuple[ClientId, CallId], _Click] = {}
        self._of_desk: dict[Desk, deque[CallId]] = {}

    def note(self, key: str, call: ClickedCall, entity: schemas.Entity | None, now: float) -> bool:
        """Whether it is new."""
        self._forget(now)
        known = self._by_key.get((call.client, key))
        if known is not None and known.call == call.id:
            return False
        desk = call.client, call.extension
        click = _Click(call.id, desk, entity, now)
        self._by_key[call.client, key] = self._by_call[call.client, call.id] = click
        self._of_desk.setdefault(desk, deque(maxlen=CLICKS_OF_ONE)).append(call.id)
        return True

    def knows(self, client: ClientId, key: str) -> bool:
        return (client, key) in self._by_key

    def entity(self, client: ClientId, call: CallId) -> schemas.Entity | None:
        click = self._by_call.get((client, call))
        return click.entity if click is not None else None

    def of(self, desk: Desk) -> tuple[CallId, ...]:
        return tuple(self._of_desk.get(desk, ()))

    def _forget(self, now: float) -> None:
        while self._by_key:
            key, oldest = next(iter(self._by_key.items()))
            if oldest.at > now - REPEATED_WITHIN and len(self._by_key) < MOST_CLICKS:
                break
            del self._by_key[key]
            self._by_call.pop((key[0], oldest.call), None)
            calls = self._of_desk.get(oldest.desk)
            if calls is not None and oldest.call in calls:
                calls.remove(oldest.call)
                if not calls:
                    del self._of_desk[oldest.desk]


@dataclass(slots=True)
class _Shown:
    call: schemas.Call                 # without the seconds, which count by themselves
    ended_at: float | None = None
    answered_at: datetime | None = None
    card: Contact | None = None


@dataclass(slots=True)
class _Desks:
    looked_at: float = float("-inf")
    shown: dict[Desk, dict[CallId, _Shown]] = field(default_factory=dict)


class Cards:
    def __init__(self, control: Control, clicks: Clicks, deals: OpenDeals, clock: Callable[[], datetime]) -> None:
        self._control = control
        self._clicks = clicks
        self._deals = deals
        self._clock = clock
        self._desks = _Desks()

    def of(self, desk: Desk, now: float) -> tuple[schemas.Call, ...]:
        """What this employee's card shows. `now`: of the loop's clock."""
        self._look(now)
        calls = {id_: self._with_deal(desk[0], one, self._with_seconds(one))
                 for id_, one in self._desks.shown.get(desk, {}).items()}
        for id_ in self._clicks.of(desk):
            clicked = self._control.clicked(desk[0], id_)
            if clicked is None or (clicked.stage is ClickStage.ENDED and id_ not in calls):
                continue               # long over
            calls[id_] = self.of_click(clicked)
        return tuple(calls.values())

    def find(self, desk: Desk, call: CallId, now: float) -> schemas.Call | None:
        """None: it is none of this employee's, or has ended long ago."""
        clicked = self._control.clicked(desk[0], call)
        if clicked is not None:
            return self.of_click(clicked) if clicked.extension == desk[1] else None
        return next((one for one in self.of(desk, now) if one.id == call), None)

    def of_click(self, one: ClickedCall) -> schemas.Call:
        """Its deal comes with the next change: the switch counts the versions of clicked calls."""
        entity, contact = self._clicks.entity(one.client, one.id), _contact(one.card, one.contact)
        if contact is not None and entity is not None and entity.type.value in ("contacts", "companies"):
            contact = contact.model_copy(update={"type": entity.type.value, "id": entity.id})
        deal = self._deals.of(one.client, one.id, one.card) if one.card is not None else None
        return schemas.Call(
            id=one.id, version=one.version, direction=schemas.Heading.OUTBOUND, state=one.stage, outcome=one.outcome,
            why=one.why or None, number=one.number, contact=contact, talk_seconds=one.talk_seconds,
            deal=schemas.Deal(id=deal.id, name=deal.name) if deal is not None else None,
            may_hang_up=one.stage is not ClickStage.ENDED)

    # -- looking

    def _look(self, now: float) -> None:
        if now - self._desks.looked_at < EVERY:
            return
        # Whoever was not watched just before has no end that anybody wants to see.
        before = self._desks.shown if now - self._desks.looked_at < ENDED_SHOWN else {}
        live = {call.id: call for call in self._control.live_calls()}
        shown: defaultdict[Desk, dict[CallId, _Shown]] = defaultdict(dict)
        for call in live.values():
            for extension in _desks_of(call) if call.direction is not Direction.INTERNAL else ():
                desk = call.client, extension
                one = _of_live(call, rings=extension in call.rings)
                shown[desk][call.id] = _grown(before.get(desk, {}).get(call.id), one)
        for desk, calls in before.items():
            for id_, one in calls.items():
                if id_ not in shown.get(desk, {}) and (one.ended_at is None or now - one.ended_at < ENDED_SHOWN):
                    shown[desk][id_] = one if one.ended_at is not None else _ended(one, live.get(id_), now)
        self._desks = _Desks(now, dict(shown))

    def _with_deal(self, client: ClientId, one: _Shown, call: schemas.Call) -> schemas.Call:
        """The CRM is asked only for calls whose card somebody looks at."""
        deal = self._deals.of(client, CallId(call.id), one.card) if one.card is not None else None
        if deal is None:
            return call
        shown = schemas.Deal(id=deal.id, name=deal.name)
        return call.model_copy(update={"deal": shown, "version": call.version + 1})

    def _with_seconds(self, one: _Shown) -> schemas.Call:
        if one.answered_at is None or one.ended_at is not None:
            return one.call
        seconds = max(0, int((self._clock() - one.answered_at).total_seconds()))
        return one.call.model_copy(update={"talk_seconds": seconds})


def list_version(calls: tuple[schemas.Call, ...]) -> str:
    """Another text when the list is another one."""
    said = " ".join(f"{call.id}:{call.version}" for call in calls)
    return hashlib.sha256(said.encode()).hexdigest()[:16] if said else "none"


def _desks_of(call: LiveCall) -> Iterable[str]:
    """Who talks, and at whose phones it rings, of a group at all; until that is known, who will be tried first."""
    if call.extension is None or (call.rings and call.state != "talking" and call.direction is Direction.INBOUND):
        return call.rings
    return dict.fromkeys((call.extension, *call.rings))


def _of_live(call: LiveCall, *, rings: bool) -> _Shown:
    """`rings`: here, perhaps because it is transferred to this employee while a colleague still talks."""
    inbound = call.direction is Direction.INBOUND
    state = (ClickStage.RINGING_YOU if rings else ClickStage.TALKING if call.state == "talking" else
             ClickStage.RINGING_YOU if inbound else ClickStage.RINGING_THEM)
    contact = _contact(call.card, call.contact)
    return _Shown(schemas.Call(
        id=call.id, version=1, direction=schemas.Heading.INBOUND if inbound else schemas.Heading.OUTBOUND, state=state,
        number=call.caller if inbound else call.dialled, contact=contact,
        # What rings here may ring at colleagues as well: nobody takes it from them.
        may_hang_up=not rings and (not inbound or state is ClickStage.TALKING),
    ), None, None if rings else call.answered_at, call.card)


def _contact(card: Contact | None, name: str | None) -> schemas.Contact | None:
    """None also of a deal that holds the number: that is shown as the deal."""
    if name is None or (card is not None and card.kind is EntityKind.LEAD):
        return None
    kind: Literal["contacts", "companies"] = "contacts"
    if card is not None and card.kind is EntityKind.COMPANY:
        kind = "companies"
    return schemas.Contact(type=kind, id=card.id if card is not None else None, name=name)


def _grown(before: _Shown | None, now: _Shown) -> _Shown:
    if before is None:
        return now
    same = before.call.model_copy(update={"version": 1}) == now.call
    version = before.call.version + (not same)
    return replace(now, call=now.call.model_copy(update={"version": version}))


def _ended(one: _Shown, live: LiveCall | None, now: float) -> _Shown:
    """It has left this employee: it is over, or somebody else's."""
    outcome: ClickOutcome | schemas.Unanswered = ClickOutcome.TALKED
    if one.call.state is not ClickStage.TALKING:
        outcome = ClickOutcome.CANCELLED
        if one.call.direction is schemas.Heading.INBOUND:
            elsewhere = live is not None and live.state == "talking"
            outcome = schemas.Unanswered.ANSWERED_ELSEWHERE if elsewhere else schemas.Unanswered.MISSED
    changes: Mapping[str, object] = {"state": ClickStage.ENDED, "outcome": outcome, "version": one.call.version + 1,
                                     "may_hang_up": False}
    return replace(one, call=one.call.model_copy(update=changes), ended_at=now)
