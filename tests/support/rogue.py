"""The other end of a call, keeping to no rule unless it is told to: bare messages on the in-memory network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from b2bua.sip.auth import DigestClient
from b2bua.sip.effects import Address, Flow
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from tests.support.network import Endpoint, Network

MAX_CALLS = 3
KEPT = frozenset({"Require", "Supported", "Session-Expires", "Replaces"})      # by an INVITE with the password
SURELY_OPEN = 30.0                        # seconds; so long an INVITE is certain to wait for a final response


@dataclass(frozen=True, slots=True)
class Twist:
    """What is wrong with a message: this field has that value, or (None) is not there."""

    name: str
    value: str | None

    def of(self, data: bytes) -> bytes:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        prefix = self.name.encode() + b":"
        others = [line for line in fields if not line.startswith(prefix)]
        new = [] if self.value is None else [prefix + b" " + self.value.encode()]
        return b"\r\n".join([first, *new, *others, b"", b""]) + body


@dataclass(frozen=True, slots=True)
class Dialog:
    """One that a 2xx to an INVITE made, as its end at the rogue has it."""

    call_id: str
    ours: str                             # tags
    theirs: str


@dataclass(eq=False, slots=True)
class Talk:
    """A call as this end sees it: the names that requests in its dialog need, as far as they are known."""

    invite: Request                       # the last one outside of dialogs
    called: bool                          # it came to us
    local: str                            # values of From and To
    remote: str
    target: str
    since: float = 0.0
    cseq: int = 1
    final: int = 0                        # of `invite`
    rseq: str = ""                        # of the last reliable response that came
    tag: str = ""                         # ours, when we are called: of the last response that had one
    sent_rseq: int = 0


@dataclass(eq=False)
class Rogue:
    """Does what it is told, and by itself only what `polite` and `plugged` say."""

    user: str
    network: Network
    here: Address
    server: Address
    password: str = ""
    polite: bool = True                   # it answers what is asked in a dialog, acknowledges, and knows its password
    talks: dict[str, Talk] = field(default_factory=dict)
    up: set[Dialog] = field(default_factory=set)            # made by a 2xx in which nothing was wrong
    said_bye: set[Dialog] = field(default_factory=set)      # the server did, or it took ours
    acked: set[Dialog] = field(default_factory=set)         # the server sent an ACK in it
    asked: dict[str, str] = field(default_factory=dict)     # in dialogs, with nothing wrong: methods by branch
    repeated: set[str] = field(default_factory=set)         # branches of what was sent again, perhaps too late
    finals: dict[str, set[int]] = field(default_factory=dict)       # what the server answered, by branch
    _said: list[bytes] = field(default_factory=list)
    _asked: dict[str, Request] = field(default_factory=dict)        # by branch
    _unanswered: list[Request] = field(default_factory=list)        # of the server, in dialogs
    _endpoint: Endpoint | None = None
    _count: int = 0

    def __post_init__(self) -> None:
        self._digest = DigestClient(self.user, self.password, random.Random(1)) if self.password else None
        self.plug()

    def plug(self) -> None:
        if self._endpoint is None:
            self._endpoint = self.network.attach(self.here, self)

    def unplug(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None

    # -- what it is told

    def call(self, number: str, as_: str, sdp: bytes, *headers: str, twist: Twist | None = None) -> None:
        if len(self.talks) >= MAX_CALLS:
            return
        self._count += 1
        call_id = f"{self.user}-{self._count}"
        target = f"sip:{number}@{self.server.host}"
        local, remote = f"<sip:{as_}@{self.here.host}>;tag={call_id}", f"<{target}>"
        data = self._request("INVITE", target, local, remote, call_id, 1, headers, sdp)
        invite = parse(data)
        assert isinstance(invite, Request)
        self.talks[call_id] = Talk(invite, False, local, remote, target)
        self._send(data, twist)

    def respond(
        self, status: int, tag: int, sdp: bytes, *headers: str, reliable: bool = False, twist: Twist | None = None
    ) -> None:
        """To the last call that came, whether or not it has its answer already."""
        talk = next((talk for talk in reversed(self.talks.values()) if talk.called), None)
        if talk is None:
            return
        fields = [*headers]
        if reliable and 100 < status < 200:
            talk.sent_rseq += 1
            fields += ["Require: 100rel", f"RSeq: {talk.sent_rseq}"]
        ours = f"{self.user}-{tag}" if status > 100 else ""
        if not talk.final:                # the dialog that counts is that of the first final response
            talk.tag = ours or talk.tag
            talk.final = status if status >= 200 else 0
        if 200 <= status < 300 and talk.final < 300 and twist is None and self._now() < talk.since + SURELY_OPEN:
            self.up.add(Dialog(talk.invite.call_id, ours, talk.invite.from_tag or ""))
        self._reply(talk.invite, status, ours, fields, sdp, twist)

    def answer(self, status: int, sdp: bytes, twist: Twist | None = None) -> None:
        """The oldest request in a dialog that waits."""
        if self._unanswered:
            self._reply(self._unanswered.pop(0), status, "", (), sdp, twist)

    def ask(
        self, method: str, sdp: bytes, *headers: str, skip: int = 1, tag: str = "", twist: Twist | None = None
    ) -> None:
        """A request in the dialog of the last call; `skip` is how far its CSeq goes on, `tag` a wrong one."""
        talk = next(reversed(self.talks.values()), None)
        if talk is not None:
            self._ask(talk, method, sdp, headers, skip, tag, twist)

    def prack(self, *, right: bool) -> None:
        talk = next((talk for talk in reversed(self.talks.values()) if not talk.called), None)
        if talk is not None and talk.rseq:
            rack = f"RAck: {talk.rseq if right else 7} {talk.invite.cseq.number} INVITE"
            self._ask(talk, "PRACK", b"", (rack,), 1, "", None)

    def cancel(self) -> None:
        talk = next((talk for talk in reversed(self.talks.values()) if not talk.called), None)
        if talk is not None:
            self._cancel(talk)

    def acknowledge(self, sdp: bytes, skip: int) -> None:
        """An ACK that nobody has asked for, or with the wrong CSeq."""
        talk = next(reversed(self.talks.values()), None)
        if talk is not None:
            number, call_id = talk.invite.cseq.number + skip, talk.invite.call_id
            self._send(self._request("ACK", talk.target, talk.local, talk.remote, call_id, number, (), sdp))

    def repeat(self, back: int) -> None:
        """Send again what it has sent before."""
        if back < len(self._said):
            again = self._said[-1 - back]
            self.repeated |= {branch for branch in self._asked if branch.encode() in again}
            self._put_out(again)

    def behave(self) -> None:
        """From now on by the rules; what it owes it gives, and what had no answer it asks again (RFC 3261 §17.1): who
        asks briefly is not answered the first time (admission.Balance)."""
        self.polite = True
        self.plug()
        for branch in self.unheard(only_invites=False):
            self.repeated.add(branch)
            self._put_out(self._asked[branch].raw)
        while self._unanswered:
            self.answer(200 if self._unanswered[0].method in ("BYE", "PRACK", "NOTIFY") else 488, b"")

    def unheard(self, *, only_invites: bool) -> set[str]:
        """What it has asked in dialogs, and got no answer to."""
        asked = {branch for branch, method in self.asked.items() if method == "INVITE" or not only_invites}
        return asked - self.finals.keys()

    def wind_up(self) -> None:
        """End what is still there by the rules."""
        for talk in self.talks.values():
            if talk.called and not talk.final:
                talk.final = 486
                self._reply(talk.invite, 486, talk.tag or "wind-up", (), b"")
            elif not talk.called and not talk.final:
                self._cancel(talk)
            elif talk.called or talk.final < 300:
                self._ask(talk, "BYE", b"", (), 200, "", None)

    # -- what comes

    def on_message(self, data: bytes, flow: Flow) -> None:
        try:
            message = parse(data)
        except ParseError:                # a 400 has what was wrong with the request
            return
        if isinstance(message, Response):
            self._response(message)
        elif message.method == "INVITE" and message.to_tag is None:
            self._called(message)
        elif message.method == "CANCEL":
            self._cancelled(message)
        elif message.method == "OPTIONS" and message.to_tag is None:
            self._reply(message, 200, "ping", (), b"")
        elif message.method == "ACK":
            self.acked.add(Dialog(message.call_id, message.to_tag or "", message.from_tag or ""))
        else:
            self._asked_in_dialog(message)

    def on_failure(self, flow: Flow) -> None:
        """It does not care."""

    def _called(self, invite: Request) -> None:
        if invite.call_id not in self.talks and invite.contact is not None:
            self.talks[invite.call_id] = Talk(
                invite, True, invite.headers.get("To") or "", invite.headers.get("From") or "", str(invite.contact.uri),
                self._now(),
            )

    def _cancelled(self, cancel: Request) -> None:
        talk = self.talks.get(cancel.call_id)
        if not self.polite:
            return
        self._reply(cancel, 200, "cancel", (), b"")
        if talk is not None and talk.called and not talk.final:
            talk.final = 487
            self._reply(talk.invite, 487, talk.tag or "cancelled", (), b"")

    def _asked_in_dialog(self, request: Request) -> None:
        if request.method == "BYE":
            self.said_bye.add(Dialog(request.call_id, request.to_tag or "", request.from_tag or ""))
        if not self.polite:
            self._unanswered.append(request)
            return
        wants_sdp = request.method == "INVITE" or (request.method == "UPDATE" and request.body)
        self._reply(request, 200, "", (), sdp_of(self.here) if wants_sdp else b"")

    def _response(self, response: Response) -> None:
        request, talk = self._asked.get(response.via.branch or ""), self.talks.get(response.call_id)
        if request is None or talk is None or request.method != response.cseq.method:
            return
        if response.status >= 200:
            self.finals.setdefault(response.via.branch or "", set()).add(response.status)
        dialog = Dialog(response.call_id, response.from_tag or "", response.to_tag or "")
        if request.method == "BYE" and response.status == 200:
            self.said_bye.add(dialog)
        if request.method != "INVITE":
            return
        first = request.cseq.number == talk.invite.cseq.number and not talk.called
        if first and response.to_tag is not None:
            talk.remote = response.headers.get("To") or talk.remote
            talk.rseq = response.headers.get("RSeq") or talk.rseq
            if response.contact is not None:
                talk.target = str(response.contact.uri)
        if response.status < 200:
            return
        if first and response.status < 300:
            self.up.add(dialog)
        if self.polite:
            self._acknowledge(request, response)
        if not first or talk.final:
            return
        if not (self.polite and response.status == 401 and self._log_in(talk, request, response)):
            talk.final = response.status

    def _log_in(self, talk: Talk, invite: Request, response: Response) -> bool:
        headers = None if self._digest is None else self._digest.authorize(invite, response)
        if headers is None:
            return False
        kept = [f"{name}: {value}" for name, value in invite.headers if name in KEPT]
        signed = [f"{name}: {value}" for name, value in headers]
        talk.cseq += 1
        target = str(invite.uri)
        talk.remote = f"<{target}>"
        data = self._request(
            "INVITE", target, talk.local, talk.remote, invite.call_id, talk.cseq, (*kept, *signed), invite.body
        )
        again = parse(data)
        assert isinstance(again, Request)
        talk.invite = again
        self._send(data)
        return True

    def _acknowledge(self, invite: Request, response: Response) -> None:
        to, from_ = response.headers.get("To") or "", response.headers.get("From") or ""
        target, branch = str(invite.uri), invite.via.branch or ""
        if response.status < 300:
            target, branch = str(response.contact.uri) if response.contact is not None else target, ""
        sdp = sdp_of(self.here) if response.status < 300 and not invite.body else b""
        number = invite.cseq.number
        self._send(self._request("ACK", target, from_, to, response.call_id, number, (), sdp, branch=branch))

    # -- making messages

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _ask(
        self, talk: Talk, method: str, sdp: bytes, headers: Sequence[str], skip: int, tag: str, twist: Twist | None
    ) -> None:
        if method == "INVITE" and not talk.called and ";tag=" not in talk.remote:
            return                        # that would be another call
        local = talk.local
        if talk.called:
            local = f"{local};tag={talk.tag}" if talk.tag else local
        if tag:
            local = f"{local.partition(';tag=')[0]};tag={tag}"
        talk.cseq = max(0, talk.cseq + skip)
        call_id = talk.invite.call_id
        data = self._request(method, talk.target, local, talk.remote, call_id, talk.cseq, headers, sdp)
        if twist is None and self._endpoint is not None and method not in ("ACK", "CANCEL"):
            self.asked[parse(data).via.branch or ""] = method
        self._send(data, twist)

    def _cancel(self, talk: Talk) -> None:
        invite = talk.invite
        to, number, branch = invite.headers.get("To") or "", invite.cseq.number, invite.via.branch or ""
        uri, call_id = str(invite.uri), invite.call_id
        self._send(self._request("CANCEL", uri, talk.local, to, call_id, number, (), b"", branch=branch))

    def _request(
        self, method: str, uri: str, from_: str, to: str, call_id: str, cseq: int, headers: Sequence[str], body: bytes,
        *, branch: str = "",
    ) -> bytes:
        self._count += 1
        branch = branch or f"z9hG4bK-{self.user}-{self._count}"
        host, port = self.here
        lines = [
            f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/UDP {host}:{port};branch={branch};rport", "Max-Forwards: 70",
            f"From: {from_}", f"To: {to}", f"Call-ID: {call_id}", f"CSeq: {cseq} {method}",
            f"Contact: <sip:{self.user}@{host}:{port}>", *headers,
            *(["Content-Type: application/sdp"] if body else []), f"Content-Length: {len(body)}", "", "",
        ]
        data = "\r\n".join(lines).encode() + body
        if method not in ("ACK", "CANCEL"):
            request = parse(data)
            assert isinstance(request, Request)
            self._asked[branch] = request
        return data

    def _reply(
        self, request: Request, status: int, tag: str, headers: Sequence[str], sdp: bytes, twist: Twist | None = None
    ) -> None:
        fields = [(name, value) for name, _, value in (line.partition(": ") for line in headers)]
        contact = f"<sip:{self.user}@{self.here.host}:{self.here.port}>"
        response = request.response(status, to_tag=tag or None, contact=contact, headers=fields, body=sdp)
        self._send(bytes(response), twist)

    def _send(self, data: bytes, twist: Twist | None = None) -> None:
        if self._endpoint is None:
            return
        data = data if twist is None else twist.of(data)
        self._said.append(data)
        self._put_out(data)

    def _put_out(self, data: bytes) -> None:
        if self._endpoint is not None:
            self._endpoint.send(data, self._endpoint.flow_for(self.server))


def sdp_of(where: Address, *, direction: str = "sendrecv", codec: int = 8) -> bytes:
    return (
        f"v=0\r\no=- 1 1 IN IP4 {where.host}\r\ns=-\r\nc=IN IP4 {where.host}\r\nt=0 0\r\n"
        f"m=audio 40000 RTP/AVP {codec}\r\na={direction}\r\n"
    ).encode()

