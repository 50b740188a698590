"""Requests and responses: what their fields mean, how answers are derived, what is sent (RFC 3261 §7, §8.2.6)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING
from zlib import crc32

from b2bua.sip.fields import WILDCARD, CSeq, NameAddr, RAck, SessionExpires, Via
from b2bua.sip.grammar import ParseError, ProtocolMisuse, parse_number
from b2bua.sip.headers import COMPACT_OF, Headers
from b2bua.sip.status import reason_phrase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b2bua.sip.uri import Uri

MAX_MAX_FORWARDS = 255

# What a request must show for an answer to be possible (RFC 3261 §8.2.6.2).
ANSWER_NEEDS = ("Via", "From", "To", "Call-ID", "CSeq")

_COPIED = frozenset({"Via", "From", "To", "Call-ID", "CSeq"})
_COPIED_INTO_TRYING = _COPIED | {"Timestamp"}                # RFC 3261 §8.2.6.1
_COPIED_INTO_DIALOG = _COPIED | {"Record-Route"}             # RFC 3261 §12.1.1
_DIALOG_FORMING = frozenset({"INVITE", "SUBSCRIBE", "REFER", "NOTIFY"})


class Message(ABC):
    """What requests and responses share. Fields are read when asked for, and remembered until a field changes.

    Each property raises `ParseError` when its field is malformed or, where it is mandatory, missing.
    """

    __slots__ = ("_bytes", "body", "headers")

    headers: Headers
    body: bytes

    def __init__(self, headers: Headers | Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body
        self._bytes = b""

    @property
    @abstractmethod
    def start_line(self) -> str: ...

    def __bytes__(self) -> bytes:
        """The message as it is sent; Content-Length is written here only. The first call seals the headers."""
        if not self._bytes:
            self._bytes = self._serialise()
            self.headers.seal()
        return self._bytes

    def condense(self) -> None:
        """It is kept to be sent again: its bytes only. They are a tenth of the objects that the fields were."""
        bytes(self)
        del self.headers

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Headers:
            """The fields of a condensed message, read back from what was written, for whoever asks after all."""
            if name != "headers":
                raise AttributeError(name)
            head = self._bytes.partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape")
            self.headers = Headers.adopt([tuple(line.split(": ", 1)) for line in head.split("\r\n")[1:-1]])
            self.headers.seal()
            return self.headers

    def abbreviate(self) -> None:
        """Write it with the compact names of its fields (RFC 3261 §7.3.3), for where bytes are counted."""
        self._bytes = self._serialise(compact=True)
        self.headers.seal()

    def _serialise(self, *, compact: bool = False) -> bytes:
        fields: Iterable[tuple[str, str]] = self.headers
        if "Content-Length" in self.headers:
            fields = [field for field in fields if field[0] != "Content-Length"]
        if compact:
            fields = [(COMPACT_OF.get(name, name), value) for name, value in fields]
        lines = [self.start_line, *map(": ".join, fields)]
        lines.append(f"{'l' if compact else 'Content-Length'}: {len(self.body)}\r\n\r\n")
        text = "\r\n".join(lines)
        # A line break inside a value would be a header, or a message, of somebody else's making.
        breaks = len(lines) + 1
        if text.count("\n") != breaks or text.count("\r") != breaks:
            raise ProtocolMisuse("line break in a header field")
        return text.encode("utf-8", "surrogateescape") + self.body

    def __repr__(self) -> str:
        return f"<{self.start_line}>"

    def _mandatory(self, name: str) -> str:
        value = self.headers.get(name)
        if value is None:
            raise ParseError(f"{name} is missing")
        return value

    @property
    def call_id(self) -> str:
        return self.headers.understood.get("call_id") or self._mandatory("Call-ID")

    @property
    def cseq(self) -> CSeq:
        understood = self.headers.understood
        cseq = understood.get("cseq")
        if cseq is None:
            cseq = understood["cseq"] = CSeq.parse(self._mandatory("CSeq"))
        return cseq

    @property
    def from_(self) -> NameAddr:
        understood = self.headers.understood
        address = understood.get("from_")
        if address is None:
            address = understood["from_"] = NameAddr.parse(self._mandatory("From"))
        return address

    @property
    def to(self) -> NameAddr:
        understood = self.headers.understood
        address = understood.get("to")
        if address is None:
            address = understood["to"] = NameAddr.parse(self._mandatory("To"))
        return address

    @property
    def from_tag(self) -> str | None:
        understood = self.headers.understood
        tag = understood.get("from_tag")
        if tag is None:
            tag = understood["from_tag"] = self.from_.tag or ""
        return tag or None

    @property
    def to_tag(self) -> str | None:
        understood = self.headers.understood
        tag = understood.get("to_tag")
        if tag is None:
            tag = understood["to_tag"] = self.to.tag or ""
        return tag or None

    @property
    def via(self) -> Via:
        """The topmost Via."""
        understood = self.headers.understood
        via = understood.get("via")
        if via is None:
            via = understood["via"] = self.vias[0]
        return via

    @property
    def vias(self) -> list[Via]:
        understood = self.headers.understood
        vias = understood.get("vias")
        if vias is None:
            vias = [Via.parse(value) for value in self.headers.get_all("Via")]
            if not vias:
                raise ParseError("Via is missing")
            understood["vias"] = vias
        return vias

    def set_via(self, via: Via) -> None:
        """Replace the topmost Via, which the receiver stamps (RFC 3261 §18.2.1)."""
        self.headers.replace_first("Via", str(via))
        self.headers.understood["via"] = via

    @property
    def contacts(self) -> list[NameAddr]:
        """Empty, addresses, or `[WILDCARD]` for `Contact: *`."""
        understood = self.headers.understood
        contacts = understood.get("contacts")
        if contacts is None:
            contacts = understood["contacts"] = self._read_contacts()
        return contacts

    def _read_contacts(self) -> list[NameAddr]:
        values = self.headers.get_all("Contact")
        return [WILDCARD] if values == ["*"] else [NameAddr.parse(value) for value in values]

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact; a wildcard is none."""
        contacts = self.contacts
        return contacts[0] if contacts and not contacts[0].is_wildcard else None

    @property
    def routes(self) -> list[NameAddr]:
        understood = self.headers.understood
        routes = understood.get("routes")
        if routes is None:
            routes = understood["routes"] = self._addresses("Route")
        return routes

    @property
    def record_routes(self) -> list[NameAddr]:
        understood = self.headers.understood
        routes = understood.get("record_routes")
        if routes is None:
            routes = understood["record_routes"] = self._addresses("Record-Route")
        return routes

    def _addresses(self, name: str) -> list[NameAddr]:
        return [NameAddr.parse(value) for value in self.headers.get_all(name)] if name in self.headers else []

    @property
    def asserted_identities(self) -> list[NameAddr]:
        """P-Asserted-Identity (RFC 3325 §9.1); to be believed only when it comes from a trunk."""
        return self._addresses("P-Asserted-Identity")

    @property
    def privacy(self) -> frozenset[str]:
        """RFC 3323 §4.2: values are separated by semicolons, by some peers by commas."""
        value = self.headers.get("Privacy") or ""
        return frozenset(word.strip(" \t").lower() for word in value.replace(",", ";").split(";")) - {""}

    @property
    def refer_to(self) -> NameAddr | None:
        value = self.headers.get("Refer-To")
        return None if value is None else NameAddr.parse(value)

    @property
    def max_forwards(self) -> int | None:
        value = self._number("Max-Forwards")
        if value is not None and value > MAX_MAX_FORWARDS:
            raise ParseError("Max-Forwards out of range")
        return value

    @property
    def expires(self) -> int | None:
        return self._number("Expires")

    @property
    def min_expires(self) -> int | None:
        return self._number("Min-Expires")

    @property
    def retry_after(self) -> int | None:
        """Seconds; the comment and parameters that may follow (RFC 3261 §20.33) are of no use here."""
        value = self.headers.get("Retry-After")
        return None if value is None else parse_number(value.partition(";")[0].partition("(")[0], "Retry-After")

    @property
    def rseq(self) -> int | None:
        return self._number("RSeq")

    @property
    def rack(self) -> RAck | None:
        value = self.headers.get("RAck")
        return None if value is None else RAck.parse(value)

    @property
    def session_expires(self) -> SessionExpires | None:
        value = self.headers.get("Session-Expires")
        return None if value is None else SessionExpires.parse(value)

    @property
    def min_se(self) -> int | None:
        value = self.headers.get("Min-SE")
        return None if value is None else parse_number(value.partition(";")[0], "Min-SE")

    def _number(self, name: str) -> int | None:
        value = self.headers.get(name)
        return None if value is None else parse_number(value, name)

    @property
    def content_type(self) -> str:
        """Type and subtype in lower case, without parameters; empty when there is none."""
        value = self.headers.get("Content-Type")
        return value.partition(";")[0].strip(" \t").lower() if value else ""

    @property
    def supported(self) -> frozenset[str]:
        """Option tags, in lower case."""
        understood = self.headers.understood
        tags = understood.get("supported")
        if tags is None:
            tags = understood["supported"] = self._option_tags("Supported")
        return tags

    @property
    def require(self) -> frozenset[str]:
        understood = self.headers.understood
        tags = understood.get("require")
        if tags is None:
            tags = understood["require"] = self._option_tags("Require")
        return tags

    def _option_tags(self, name: str) -> frozenset[str]:
        if name not in self.headers:
            return frozenset()
        return frozenset([tag.lower() for tag in self.headers.get_all(name) if tag])

    @property
    def allow(self) -> frozenset[str]:
        """Methods; unlike option tags they have one case only."""
        understood = self.headers.understood
        methods = understood.get("allow")
        if methods is None:
            methods = understood["allow"] = frozenset(filter(None, self.headers.get_all("Allow")))
        return methods


class Request(Message):
    __slots__ = ("method", "raw", "uri")

    def __init__(
        self, method: str, uri: Uri, headers: Headers | Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri
        self.raw = b""                       # as it came; b"": it is ours

    @property
    def start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0"

    @property
    def answerable(self) -> bool:
        return self.method != "ACK" and all(name in self.headers for name in ANSWER_NEEDS)

    def response(
        self,
        status: int,
        reason: str | None = None,
        *,
        to_tag: str | None = None,
        contact: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
    ) -> Response:
        """An answer to this request. `to_tag` goes unused when the request has one already, and into a 100."""
        if status == 100:
            copied = _COPIED_INTO_TRYING
        elif status < 300 and self.method in _DIALOG_FORMING:
            copied = _COPIED_INTO_DIALOG
        else:
            copied = _COPIED
        fields = [field for field in self.headers if field[0] in copied]
        if to_tag and status != 100 and self.to_tag is None:
            fields = _tagged(fields, to_tag)
        if contact is not None:
            fields.append(("Contact", contact))
        if headers:
            fields += Headers(headers)
        if body:
            fields.append(("Content-Type", content_type))
        return Response(status, reason, Headers.adopt(fields), body)

    def stateless_response(self, status: int, reason: str | None = None) -> Response:
        """An answer that keeps no state: every copy of the request gets the same To tag (RFC 3261 §8.2.7).

        It also serves requests whose fields are doubled or malformed: those are copied once and as they are.
        """
        seen: set[str] = set()
        fields: list[tuple[str, str]] = []
        for name, value in self.headers:
            if name == "Via" or (name in _COPIED and name not in seen):
                fields.append((name, value))
                seen.add(name)
        try:
            if NameAddr.parse(self._mandatory("To")).tag is None:
                fields = _tagged(fields, self._tag())
        except ParseError:
            pass                             # a tag would not be understood there either
        return Response(status, reason, Headers.adopt(fields))

    def _tag(self) -> str:
        seed = f"{self.headers.get('Via')}|{self.headers.get('Call-ID')}|{self.headers.get('CSeq')}"
        return f"{crc32(seed.encode('utf-8', 'surrogateescape')):08x}"


class Response(Message):
    __slots__ = ("reason", "status")

    def __init__(
        self,
        status: int,
        reason: str | None = None,
        headers: Headers | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        super().__init__(headers, body)
        self.status = status
        self.reason = reason_phrase(status) if reason is None else reason

    @property
    def start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"


def _tagged(fields: list[tuple[str, str]], to_tag: str) -> list[tuple[str, str]]:
    return [(name, f"{value};tag={to_tag}") if name == "To" else (name, value) for name, value in fields]
