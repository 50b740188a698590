"""One finished call: what happened when, where it went and why, its recording, and what its CRM was told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from b2bua.cdr import CallId, CallRecord, ClientId
from b2bua.control import Control
from b2bua.crm.user_keeper import UserKeeper
from b2bua.links import RecordingLinks
from b2bua.store.rows import storable
from b2bua.store.store import KEEP_DELIVERED_DAYS, Store
from web.admin.history import LONGEST_TYPED, past_calls
from web.admin.outbox import shown_rows
from web.problems import Problem, nothing_here
from web.visits import Visit


@dataclass(frozen=True, slots=True)
class Moment:
    what: str                          # received, decided, rang, answered, ended
    after: float                       # seconds since the INVITE
    said: str = ""                     # what was decided


class CallPage:
    def __init__(self, control: Control, store: Store, links: RecordingLinks, users: UserKeeper,
                 moved_to: Callable[[ClientId], str]) -> None:
        self._control = control
        self._store = store
        self._links = links
        self._users = users
        self._moved_to = moved_to

    async def show(self, visit: Visit) -> Response:
        call = await self._call(visit, CallId(storable(visit.request.path_params["id"], LONGEST_TYPED)))
        (past,) = await past_calls(self._store, self._links, [call])
        owed = await self._store.outbox.of_call(call.client, call.id)
        employee = self._users.directory.extension.get((call.client, call.extension or ""))
        now = datetime.now(UTC)
        return await visit.page("call.html", call=past, record=call, moments=moments(call),
                                employee=employee.name if employee is not None else "",
                                owed=shown_rows(owed, self._users.directory, self._moved_to), now=now,
                                kept_days=KEEP_DELIVERED_DAYS,
                                is_forgotten=now - call.ended_at > timedelta(days=KEEP_DELIVERED_DAYS))

    async def _call(self, visit: Visit, id_: CallId) -> CallRecord:
        """Raises Problem."""
        call = await self._store.calls.get(id_)
        if call is not None:
            visit.demand(call.client)
            return call
        if any(live.id == id_ and visit.may_see(live.client) for live in self._control.live_calls()):
            raise Problem(404, "This call has not ended yet",
                          "It is among the live calls; it is here when it has ended.")
        raise nothing_here()


def moments(call: CallRecord) -> list[Moment]:
    """In their order, the decisions among them as far as their times are known."""
    decisions = [Moment("decided", after, said) for after, said in zip(call.why_after, call.why, strict=False)]
    ends = [Moment(what, (at - call.started_at).total_seconds()) for what, at in (
        ("rang", call.rang_at), ("answered", call.answered_at), ("ended", call.ended_at)) if at is not None]
    return sorted([Moment("received", 0.0), *decisions, *ends], key=lambda moment: moment.after)
