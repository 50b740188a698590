"""Subscriptions to what colleagues' phones are doing (RFC 6665, RFC 4235): the asyncio face of `sip.subscription`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from b2bua.cdr import ClientId
from b2bua.directory import Directory, Extension
from b2bua.sip.dialog_info import CONTENT_TYPE, EVENT, DialogInfo, full_state
from b2bua.sip.effects import Flow, IncomingRequest
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request, Response
from b2bua.sip.stack import contact_of
from b2bua.sip.subscription import (
    Notify,
    NotSubscribed,
    Subscribed,
    Subscription,
    SubscriptionPolicy,
    Subscriptions,
    Watched,
    Watcher,
)
from b2bua.ua.agent import UserAgent
from b2bua.ua.registrar import ExtensionKey

ALLOW_EVENTS: Final = ("Allow-Events", EVENT)
SENT_AT_ONCE: Final = 10                   # NOTIFYs; the others when the loop has seen to everything else
FAREWELL_PAUSE: Final = 0.004              # seconds between so many of the end

Dialogs = Callable[[ExtensionKey], Sequence[DialogInfo]]

log = logging.getLogger(__name__)


def wants_dialogs(request: Request) -> bool:
    """Whether it is the one event package that we have; phones ask for many more."""
    event = (request.headers.get("Event") or "").partition(";")[0].strip(" \t")
    return event == EVENT


class Notifier:
    """Tells phones what `dialogs` says of an extension, whenever `changed` is told of it."""

    def __init__(self, agent: UserAgent, dialogs: Dialogs, policy: SubscriptionPolicy = SubscriptionPolicy()) -> None:
        self._agent = agent
        self._dialogs = dialogs
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.subscriptions = Subscriptions(EVENT, CONTENT_TYPE, self._document, policy)

    def subscribe(self, event: IncomingRequest, extension: Extension, directory: Directory) -> None:
        """The answer to a SUBSCRIBE of this extension's phone, and the first NOTIFY."""
        request, flow = event.request, event.flow
        outcome = self._outcome(request, flow, extension, directory)
        match outcome:
            case Subscribed(headers=headers, to_tag=tag):
                response = request.response(200, to_tag=tag, headers=headers)
            case NotSubscribed(status=status, why=why, headers=headers):
                response = request.response(status, to_tag=self._agent.core.new_tag(), headers=headers)
                log.info("subscription refused", extra={
                    "client": extension.client, "extension": extension.number, "status": status, "why": why})
        self._agent.perform(self._agent.core.respond(event.transaction, response, self._agent.now()))
        self._send()

    def _outcome(
        self, request: Request, flow: Flow, extension: Extension, directory: Directory
    ) -> Subscribed | NotSubscribed:
        subscriptions, now = self.subscriptions, self._agent.now()
        if not wants_dialogs(request):
            return subscriptions.refuse(489, "no such event", (ALLOW_EVENTS,))
        if not _reads(request):
            return subscriptions.refuse(406, "it reads no dialog-info", (("Accept", CONTENT_TYPE),))
        watcher = Watcher(extension.client, extension.number)
        try:
            if request.to_tag is not None:
                there = subscriptions.find(request)
                if there is None or there.watcher != watcher:
                    return subscriptions.refuse(481, "no such subscription")
                return subscriptions.resubscribe(there, request, flow, now)
            watched = (extension.client, request.uri.user)
            if watched not in directory.extension:
                return subscriptions.refuse(404, f"no extension {request.uri.user[:64]}")
            contact = contact_of(flow, request.uri.user, secure=request.uri.scheme == "sips")
            tag = self._agent.core.new_tag()
            return subscriptions.subscribe(request, flow, watcher, watched, tag, contact, now)
        except ParseError as error:
            return subscriptions.refuse(error.status, error.reason)

    def changed(self, watched: Watched) -> None:
        self.subscriptions.changed(watched, self._agent.now())
        self._arm()                        # not sent from here: whoever changes something is in the midst of it

    def flow_gone(self, flow: Flow) -> None:
        self.subscriptions.flow_gone(flow)

    def use(self, directory: Directory) -> None:
        """Another snapshot: nobody watches who is no more, and who is no more watches nobody."""
        gone, away = [], []
        for one in self.subscriptions:
            if one.watched not in directory.extension:
                gone.append(one)
            elif (ClientId(one.watcher.client), one.watcher.number) not in directory.extension:
                away.append(one)
        self.subscriptions.end(gone, "noresource", self._agent.now())
        self.subscriptions.end(away, "rejected", self._agent.now())
        self._send()

    async def deactivate(self) -> None:
        """We end: the phones shall subscribe anew, with whoever is there then."""
        everybody = list(self.subscriptions)
        for start in range(0, len(everybody), SENT_AT_ONCE):
            self.subscriptions.end(everybody[start:start + SENT_AT_ONCE], "deactivated", self._agent.now())
            self._send()
            await asyncio.sleep(FAREWELL_PAUSE)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- NOTIFY

    def _document(self, subscription: Subscription) -> bytes:
        dialogs = self._dialogs(subscription.watched)  # type: ignore[arg-type]     # they are made here, of keys
        ids = tuple(one.id for one in dialogs)
        ended = [id_ for id_ in subscription.told if id_ not in ids]
        subscription.told = ids
        return full_state(subscription.entity, subscription.version, dialogs, ended)

    def _send(self) -> None:
        try:
            for notify in self.subscriptions.due(self._agent.now(), SENT_AT_ONCE):
                self._transmit(notify)
        finally:
            self._arm()                    # a fault with one must not keep the others waiting

    def _transmit(self, notify: Notify) -> None:
        answered = partial(self._answered, notify.subscription)
        self._agent.notify(notify.subscription.dialog, notify.headers, notify.body, CONTENT_TYPE, answered)

    def _answered(self, subscription: Subscription, response: Response) -> None:
        self.subscriptions.answered(subscription, response, self._agent.now())
        self._arm()

    def _arm(self) -> None:
        self.close()
        due = self.subscriptions.next_timeout
        if due is not None:
            self._timer = self._loop.call_at(due, self._send)


def _reads(request: Request) -> bool:
    """Whether it takes our documents; who names none takes them (RFC 6665 §3.1.3)."""
    kinds = [kind.partition(";")[0].strip(" \t").lower() for kind in request.headers.get_all("Accept")]
    return not kinds or any(kind in (CONTENT_TYPE, "application/*", "*/*") for kind in kinds)
