"""A fake phone with lamps: it subscribes to colleagues' dialogs and remembers what it is told (RFC 4235)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from b2bua.sip.effects import Flow, Transmit
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import parse_params
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.stack import contact_of
from b2bua.sip.uri import Uri
from tests.support.office import PASSWORD, SERVER, Office
from tests.support.phone import Phone, Rings

_NS = "{urn:ietf:params:xml:ns:dialog-info}"


@dataclass(frozen=True, slots=True)
class Told:
    """One dialog, as a document says it."""

    id: str
    state: str
    direction: str = ""
    call_id: str = ""
    local_tag: str = ""
    remote_tag: str = ""
    remote: str = ""
    name: str = ""

    @property
    def replaces(self) -> str:
        """As phones write it: tags as the ringing phone has them."""
        return f"{self.call_id};to-tag={self.local_tag};from-tag={self.remote_tag}"


def read_document(body: bytes) -> tuple[int, str, list[Told]]:
    """Version, entity and dialogs."""
    root = ElementTree.fromstring(body)    # noqa: S314 - our own words
    assert root.tag == f"{_NS}dialog-info"
    assert root.attrib["state"] == "full"
    dialogs = []
    for one in root:
        at = one.attrib
        identity = one.find(f"{_NS}remote/{_NS}identity")
        state = one.findtext(f"{_NS}state")
        assert state is not None
        dialogs.append(Told(
            at["id"], state, at.get("direction", ""), at.get("call-id", ""), at.get("local-tag", ""),
            at.get("remote-tag", ""), "" if identity is None else identity.text or "",
            "" if identity is None else identity.attrib.get("display", "")))
    return int(root.attrib["version"]), root.attrib["entity"], dialogs


@dataclass(eq=False)
class Lamp:
    """One subscription, as the watcher has it."""

    phone: WatchingPhone
    uri: Uri
    me: NameAddr
    call_id: str
    event: str
    to: NameAddr
    cseq: int = 0
    answers_with: int = 200                # to a NOTIFY; 0: with nothing
    notifies: list[Request] = field(default_factory=list)
    told: list[list[Told]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    @property
    def lit(self) -> list[str]:
        """What the lamp shows now: the states of the dialogs that are not over."""
        return [one.state for one in self.told[-1] if one.state != "terminated"] if self.told else []

    @property
    def states(self) -> list[list[str]]:
        """What it has shown, one after another, without repetitions."""
        seen: list[list[str]] = []
        for told in self.told:
            states = [one.state for one in told if one.state != "terminated"]
            if not seen or seen[-1] != states:
                seen.append(states)
        return seen

    @property
    def state(self) -> str:
        return self.notifies[-1].headers.get("Subscription-State") or ""

    async def subscribe(self, expires: int | None = 3600, headers: Sequence[tuple[str, str]] = ()) -> Response:
        """A SUBSCRIBE in its dialog, or the first one; challenges are answered."""
        credentials: tuple[tuple[str, str], ...] = ()
        fields = [("Event", self.event), ("Contact", self.phone.contact), ("Accept", "application/dialog-info+xml")]
        if expires is not None:
            fields.append(("Expires", str(expires)))
        for _ in range(3):
            self.cseq += 1
            response, request = await self.phone.ask_in(self, (*fields, *headers, *credentials))
            if response.status not in (401, 407):
                break
            credentials = self.phone.credentials(response, request) or ()
        if response.status == 200 and self.to.tag is None:
            self.to = response.to
        return response

    def hear(self, notify: Request) -> None:
        assert notify.cseq.method == "NOTIFY"
        if self.notifies:
            assert notify.cseq.number > self.notifies[-1].cseq.number
        version, _, told = read_document(notify.body)
        if self.told:
            assert version > read_document(self.notifies[-1].body)[0]
        self.notifies.append(notify)
        self.told.append(told)
        self.at.append(self.phone.now())


class WatchingPhone(Phone):
    """A phone whose NOTIFYs belong to its lamps."""

    lamps: dict[str, Lamp]

    @property
    def contact(self) -> str:
        return contact_of(self._way(), self.user)

    def lamp(self, number: str, *, event: str = "dialog", call_id: str = "") -> Lamp:
        lamps = self.__dict__.setdefault("lamps", {})
        call_id = call_id or f"lamp-{self.user}-{len(lamps) + 1}-{self.transport.local.host}"
        uri = Uri.sip(number, self.server.host)
        me = NameAddr(Uri.sip(self.user, self.domain)).with_tag(f"lamp{len(lamps) + 1}")
        lamp = lamps[call_id] = Lamp(self, uri, me, call_id, event, NameAddr(uri))
        return lamp

    async def ask_in(self, lamp: Lamp, headers: Sequence[tuple[str, str]]) -> tuple[Response, Request]:
        transaction, effects = self.core.request(
            "SUBSCRIBE", lamp.uri, lamp.me, lamp.to, self._way(), self.now(), headers=tuple(headers),
            call_id=lamp.call_id, cseq=lamp.cseq)
        request = next(e.message for e in effects if isinstance(e, Transmit) and isinstance(e.message, Request))
        self._asked[transaction] = asyncio.get_running_loop().create_future()
        self.do(effects)
        return await self._asked[transaction], request

    def on_message(self, data: bytes, flow: Flow) -> None:
        message = parse(data)
        lamp = self.__dict__.setdefault("lamps", {}).get(message.call_id)
        if not isinstance(message, Request) or message.method != "NOTIFY" or lamp is None:
            super().on_message(data, flow)
            return
        fresh = not lamp.notifies or message.cseq.number > lamp.notifies[-1].cseq.number
        if not lamp.answers_with:
            return
        if fresh and lamp.answers_with == 200:
            lamp.hear(message)
        self.transport.send(bytes(message.response(lamp.answers_with)), flow)


async def watching_phone(office: Office, number: str, *, host: str = "", registered: bool = True) -> WatchingPhone:
    """As Office.phone."""
    from b2bua.sip.effects import Address

    phone = WatchingPhone(number, SERVER, password=PASSWORD, does=Rings(), seed=50 + len(office._phones))
    phone.on(office.network, Address(host or f"10.0.3.{number}", 5060))
    if registered:
        assert (await phone.register()).status == 200
    office._phones[host or f"watching {number}"] = phone
    return phone


def reason_of(state: str) -> str:
    """Of Subscription-State."""
    _, semicolon, rest = state.partition(";")
    return parse_params(semicolon + rest).get("reason", "")
