"""The notifier of RFC 6665: who subscribes to what, and which NOTIFY is due when. Without I/O.

    no SUBSCRIBE ──200──► ACTIVE ──Expires: 0, expiry, end()──► ENDING ──last NOTIFY──► gone
                            │  ▲                                                          ▲
                            └──┘ refresh, change of what is watched                       │
                            └───────── NOTIFY fails (481, 408, ...), its connection ends ─┘

Of each subscription one NOTIFY at most is under way. What changes meanwhile waits, and then the newest state is told
once: a watcher may miss a state between two others, and never the last one (§4.2.2, RFC 4235 §3.10).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from b2bua.sip.dialog import Dialog, contact_uri
from b2bua.sip.effects import Flow, Transport
from b2bua.sip.grammar import ParseError, parse_params
from b2bua.sip.message import Request, Response
from b2bua.sip.uri import Uri

LONG_ENOUGH: Final = 3600                  # seconds; who asks for as much is never told that it is too brief
RATE: Final = 1.0                          # seconds between two NOTIFYs about changes (RFC 4235 §3.10)
MAX_EVENT_ID: Final = 64                   # characters that we say back in each NOTIFY

Watched = Hashable                         # what can be subscribed to: an extension's key


@dataclass(frozen=True, slots=True)
class SubscriptionPolicy:
    """Durations in seconds, and how many subscriptions there may be."""

    min_expires: int = 60
    max_expires: int = 3600
    default_expires: int = 3600
    per_phone: int = 100
    per_watcher: int = 300                 # all phones of one extension
    per_watched: int = 500
    per_client: int = 10_000
    total: int = 20_000


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who subscribes: an extension of a client."""

    client: str
    number: str


@dataclass(eq=False, slots=True)
class Subscription:
    """One SUBSCRIBE's dialog, and what its watcher has been told in it."""

    dialog: Dialog
    watcher: Watcher
    watched: Watched
    entity: Uri                            # as the watcher calls what it watches
    event: str                             # the Event field of its NOTIFYs
    contact: str                           # ours
    expires_at: float
    version: int = 0
    told: tuple[str, ...] = ()             # the package's own memory of what it told last
    under_way: bool = False                # a NOTIFY is not answered yet
    stale: bool = False                    # something changed since the last one
    at_once: bool = False                  # the next one need not wait: a SUBSCRIBE asked for it, or it is the last
    next_at: float = float("-inf")         # when the rate allows another
    ending: str = ""                       # why it is over, from then on (RFC 6665 §4.1.3)
    counted: tuple[Hashable, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """A NOTIFY to be sent in the subscription's dialog; `answered` wants its final response."""

    subscription: Subscription
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Subscribed:
    """200, and what it says."""

    headers: tuple[tuple[str, str], ...]
    to_tag: str
    subscription: Subscription


@dataclass(frozen=True, slots=True)
class NotSubscribed:
    status: int
    why: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class SubscriptionCounters:
    subscribed: int = 0
    refreshed: int = 0
    ended: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    notified: int = 0
    failed: int = 0                        # a NOTIFY was refused or not answered: the subscription ended by that


Document = Callable[[Subscription], bytes]


class Subscriptions:
    """All of them. `document` makes the body of a NOTIFY: full state, with the subscription's version."""

    def __init__(self, event: str, content_type: str, document: Document, policy: SubscriptionPolicy) -> None:
        self.counters = SubscriptionCounters()
        self._event = event
        self._content_type = content_type
        self._document = document
        self._policy = policy
        self._by_tag: dict[str, Subscription] = {}                       # by our tag
        self._by_peer: dict[tuple[str, str, str], Subscription] = {}     # by Call-ID, the peer's tag, Event
        self._by_watched: dict[Watched, dict[Subscription, None]] = {}
        self._by_connection: dict[tuple[Transport, int], dict[Subscription, None]] = {}
        self._counts: Counter[Hashable] = Counter()
        self._deadlines: list[tuple[float, int, Subscription]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._by_tag)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(tuple(self._by_tag.values()))

    @property
    def waiting(self) -> int:
        """Deadlines that are kept, overtaken ones among them."""
        return len(self._deadlines)

    # -- SUBSCRIBE

    def find(self, request: Request) -> Subscription | None:
        """The subscription in whose dialog it comes."""
        subscription = self._by_tag.get(request.to_tag or "")
        if subscription is None or subscription.dialog.call_id != request.call_id:
            return None
        return subscription if subscription.dialog.remote_tag == (request.from_tag or "") else None

    def subscribe(
        self, request: Request, flow: Flow, watcher: Watcher, watched: Watched, to_tag: str, contact: str, now: float
    ) -> Subscribed | NotSubscribed:
        """A SUBSCRIBE outside of dialogs, from somebody who may (RFC 6665 §4.2.1). Raises ParseError.

        The state is told by the next `due`, once the 200 is on its way.
        """
        expires = self._expires(request)
        if isinstance(expires, NotSubscribed):
            return expires
        target = contact_uri(request)
        if target is None:
            raise ParseError("Contact is missing")
        event = self._event_of(request)
        peer = (request.call_id, request.from_tag or "", event)
        again = self._by_peer.get(peer)
        if again is not None:              # its 200 was lost for good: the phone knows nothing of the first one
            self._remove(again)
        counted = ("total", ("client", watcher.client), watcher, ("watched", watched), (watcher, str(target)))
        if (full := self._full(counted)) is not None:
            return full
        dialog = Dialog.as_uas(request, to_tag, flow)
        subscription = Subscription(dialog, watcher, watched, _entity(request), event, contact, now + expires,
                                    counted=counted)
        for rival in self._of_that_phone(subscription):
            rival.stale = rival.at_once = True             # the phone has been restarted if it does not know it (481)
            self._wake(rival, now)
        self._add(subscription, peer)
        self.counters.subscribed += 1
        self._renew(subscription, expires, now)
        return self._accepted(subscription, expires)

    def resubscribe(
        self, subscription: Subscription, request: Request, flow: Flow, now: float
    ) -> Subscribed | NotSubscribed:
        """A SUBSCRIBE in its dialog: a refresh, or its end (RFC 6665 §4.2.1.2). Raises ParseError."""
        dialog = subscription.dialog
        if subscription.ending:
            return self.refuse(481, "the subscription is over")
        if not dialog.in_order(request):
            return self.refuse(500, "out of order")
        expires = self._expires(request)
        if isinstance(expires, NotSubscribed):
            return expires
        self._leave_connection(subscription)
        dialog.follow(request, flow)
        self._join_connection(subscription)
        self.counters.refreshed += expires > 0
        self._renew(subscription, expires, now)
        return self._accepted(subscription, expires)

    def _expires(self, request: Request) -> int | NotSubscribed:
        policy = self._policy
        asked = request.expires
        expires = policy.default_expires if asked is None else min(asked, policy.max_expires)
        if 0 < expires < policy.min_expires and expires < LONG_ENOUGH:
            return self.refuse(423, "too brief", (("Min-Expires", str(policy.min_expires)),))
        return expires

    def _event_of(self, request: Request) -> str:
        """As it shall stand in our NOTIFYs: with the id that the subscriber gave it (RFC 6665 §8.2.1)."""
        _, semicolon, rest = (request.headers.get("Event") or "").partition(";")
        id_ = parse_params(semicolon + rest).get("id", "")
        if len(id_) > MAX_EVENT_ID:
            raise ParseError("id in Event is too long")
        return f"{self._event};id={id_}" if id_ else self._event

    def _full(self, counted: tuple[Hashable, ...]) -> NotSubscribed | None:
        policy = self._policy
        limits = (policy.total, policy.per_client, policy.per_watcher, policy.per_watched, policy.per_phone)
        for which, (key, limit) in enumerate(zip(counted, limits, strict=True)):
            if self._counts[key] >= limit:
                if which == 0:
                    return self.refuse(503, "too many subscriptions", (("Retry-After", "60"),))
                return self.refuse(403, "too many subscriptions")
        return None

    def refuse(self, status: int, why: str, headers: tuple[tuple[str, str], ...] = ()) -> NotSubscribed:
        """A no, counted; those that the package has to say among them."""
        self.counters.refused[str(status)] += 1
        return NotSubscribed(status, why, headers)

    def _accepted(self, subscription: Subscription, expires: int) -> Subscribed:
        headers = (("Contact", subscription.contact), ("Expires", str(expires)))
        return Subscribed(headers, subscription.dialog.local_tag, subscription)

    def _renew(self, subscription: Subscription, expires: int, now: float) -> None:
        """It lasts so long from now, or is over; the state is told at once in any case (RFC 6665 §4.2.1.2)."""
        subscription.expires_at = now + expires
        subscription.stale = subscription.at_once = True
        if expires:
            self._arm(subscription.expires_at, subscription)
        else:
            subscription.ending = "timeout"
        self._wake(subscription, now)

    # -- what happens

    def changed(self, watched: Watched, now: float) -> None:
        """Whoever watches that is told: now, or as soon as the rate allows."""
        for subscription in self._by_watched.get(watched, ()):
            if not subscription.ending:
                subscription.stale = True
                self._wake(subscription, now)

    def end(self, subscriptions: Iterable[Subscription], reason: str, now: float) -> None:
        """`deactivated`: the phone shall subscribe anew. `noresource`: what it watched is gone. `rejected`: it may not
        any more (RFC 6665 §4.1.3)."""
        for subscription in subscriptions:
            if not subscription.ending:
                subscription.ending = reason
                subscription.stale = subscription.at_once = True
                self._wake(subscription, now)

    def answered(self, subscription: Subscription, response: Response, now: float) -> None:
        """The final response to its NOTIFY. Any failure ends the subscription (RFC 6665 §4.2.2)."""
        subscription.under_way = False
        if self._by_tag.get(subscription.dialog.local_tag) is not subscription:
            return
        if not 200 <= response.status < 300:
            self.counters.failed += 1
            self._remove(subscription)
        elif subscription.stale:
            self._wake(subscription, now)

    def flow_gone(self, flow: Flow) -> None:
        """A stream connection ended: nothing can be told to a phone behind it, which will subscribe anew."""
        for subscription in self._by_connection.get((flow.transport, flow.connection), {}).copy():
            self._remove(subscription)

    @property
    def next_timeout(self) -> float | None:
        return self._deadlines[0][0] if self._deadlines else None

    def due(self, now: float, at_most: int = sys.maxsize) -> list[Notify]:
        """The NOTIFYs whose time has come, each once."""
        notifies: list[Notify] = []
        while self._deadlines and self._deadlines[0][0] <= now and len(notifies) < at_most:
            _, _, subscription = heappop(self._deadlines)
            if self._by_tag.get(subscription.dialog.local_tag) is not subscription:
                continue
            if not subscription.ending and now >= subscription.expires_at:
                subscription.ending = "timeout"
                subscription.stale = subscription.at_once = True
            if subscription.stale and not subscription.under_way:
                if subscription.at_once or now >= subscription.next_at:
                    notifies.append(self._notify(subscription, now))
                else:
                    self._wake(subscription, now)
        if len(self._deadlines) > 4 * len(self._by_tag) + 64:
            self._tidy()
        return notifies

    def _notify(self, subscription: Subscription, now: float) -> Notify:
        subscription.stale = subscription.at_once = False
        subscription.under_way = True
        subscription.next_at = now + RATE
        body = self._document(subscription)
        subscription.version += 1
        left = max(0, round(subscription.expires_at - now))
        state = f"terminated;reason={subscription.ending}" if subscription.ending else f"active;expires={left}"
        headers = (("Contact", subscription.contact), ("Event", subscription.event), ("Subscription-State", state))
        self.counters.notified += 1
        if subscription.ending:
            self._remove(subscription)
        return Notify(subscription, headers, body)

    # -- where they are kept

    def _of_that_phone(self, subscription: Subscription) -> list[Subscription]:
        mine = subscription.counted[-1]
        return [one for one in self._by_watched.get(subscription.watched, ())
                if one.counted[-1] == mine and one.event == subscription.event and not one.ending]

    def _add(self, subscription: Subscription, peer: tuple[str, str, str]) -> None:
        self._by_tag[subscription.dialog.local_tag] = subscription
        self._by_peer[peer] = subscription
        self._by_watched.setdefault(subscription.watched, {})[subscription] = None
        self._counts.update(subscription.counted)
        self._join_connection(subscription)

    def _remove(self, subscription: Subscription) -> None:
        dialog = subscription.dialog
        del self._by_tag[dialog.local_tag]
        del self._by_peer[dialog.call_id, dialog.remote_tag, subscription.event]
        watching = self._by_watched[subscription.watched]
        del watching[subscription]
        if not watching:
            del self._by_watched[subscription.watched]
        for key in subscription.counted:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
        self._leave_connection(subscription)
        self.counters.ended += 1

    def _join_connection(self, subscription: Subscription) -> None:
        flow = subscription.dialog.flow
        if flow.connection:
            self._by_connection.setdefault((flow.transport, flow.connection), {})[subscription] = None

    def _leave_connection(self, subscription: Subscription) -> None:
        flow = subscription.dialog.flow
        there = self._by_connection.get((flow.transport, flow.connection))
        if there is not None:
            there.pop(subscription, None)
            if not there:
                del self._by_connection[flow.transport, flow.connection]

    def _wake(self, subscription: Subscription, now: float) -> None:
        if not subscription.under_way:     # else its answer does
            self._arm(now if subscription.at_once else max(now, subscription.next_at), subscription)

    def _arm(self, at: float, subscription: Subscription) -> None:
        self._number += 1
        heappush(self._deadlines, (at, self._number, subscription))

    def _tidy(self) -> None:
        """Refreshed ones leave deadlines behind that mean nothing any more."""
        self._deadlines.clear()
        for subscription in self._by_tag.values():
            self._arm(subscription.expires_at, subscription)
            if subscription.stale and not subscription.under_way:
                self._arm(subscription.next_at if not subscription.at_once else 0.0, subscription)


def _entity(request: Request) -> Uri:
    uri = request.uri
    return Uri(uri.scheme, uri.user, uri.host, uri.port)
