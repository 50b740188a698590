"""Header fields of a message: an ordered multimap whose names have any case and a compact form (RFC 3261 §7.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypedDict

from b2bua.sip.grammar import ParseError, ProtocolMisuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from b2bua.sip.fields import CSeq, NameAddr, Via

MAX_LIST_VALUES = 128                      # values of one list header in one message, Via and Route among them

REGISTERED = frozenset({
    "Accept", "Accept-Contact", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events",
    "Authentication-Info", "Authorization", "Call-ID", "Call-Info", "Contact", "Content-Disposition",
    "Content-Encoding", "Content-Language", "Content-Length", "Content-Type", "CSeq", "Date", "Diversion",
    "Error-Info", "Event", "Expires", "Flow-Timer", "From", "Geolocation", "History-Info", "Identity",
    "Identity-Info", "In-Reply-To", "Info-Package", "Join", "Max-Breadth", "Max-Forwards", "MIME-Version",
    "Min-Expires", "Min-SE", "Organization", "P-Access-Network-Info", "P-Asserted-Identity", "P-Associated-URI",
    "P-Called-Party-ID", "P-Charging-Vector", "P-Early-Media", "P-Preferred-Identity", "Path", "Priority", "Privacy",
    "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Require", "RAck", "Reason",
    "Record-Route", "Recv-Info", "Refer-Sub", "Refer-To", "Referred-By", "Reject-Contact", "Remote-Party-ID",
    "Replaces", "Reply-To", "Request-Disposition", "Require", "Retry-After", "Route", "RSeq", "Security-Client",
    "Security-Server", "Security-Verify", "Server", "Service-Route", "Session-Expires", "SIP-ETag", "SIP-If-Match",
    "Subject", "Subscription-State", "Supported", "Target-Dialog", "Timestamp", "To", "Unsupported", "User-Agent",
    "Via", "Warning", "WWW-Authenticate",
})
_COMPACT = {
    "a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition", "e": "Content-Encoding",
    "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported", "l": "Content-Length", "m": "Contact",
    "n": "Identity-Info", "o": "Event", "r": "Refer-To", "s": "Subject", "t": "To", "u": "Allow-Events", "v": "Via",
    "x": "Session-Expires", "y": "Identity",
}
COMPACT_OF = {name: compact for compact, name in _COMPACT.items()}
_LOWER = {name.lower(): name for name in REGISTERED} | _COMPACT

# Every spelling that is worth a look-up of its own; the rest goes through `canonical`.
CANONICAL = {
    **_LOWER,
    **{name.upper(): name for name in REGISTERED},
    **{name.title(): name for name in REGISTERED},
    **{compact.upper(): name for compact, name in _COMPACT.items()},
    **{name: name for name in REGISTERED},
}

# Those that the grammar allows to be combined by commas (RFC 3261 §7.3.1). Credentials and challenges are not.
LISTS = frozenset({
    "Accept", "Accept-Contact", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events",
    "Call-Info", "Contact", "Content-Encoding", "Content-Language", "Diversion", "Error-Info", "Geolocation",
    "History-Info", "In-Reply-To", "P-Asserted-Identity", "P-Associated-URI", "P-Early-Media", "P-Preferred-Identity",
    "Path", "Proxy-Require", "Reason", "Record-Route", "Recv-Info", "Reject-Contact", "Replaces", "Require", "Route",
    "Security-Client", "Security-Server", "Security-Verify", "Service-Route", "Supported", "Unsupported", "Via",
    "Warning",
})

# An unclosed quote or bracket takes the rest with it, so that the time stays proportional to the length.
_ELEMENT = re.compile(r'(?>(?:[^",<]++|"(?>(?:[^"\\]++|\\.)*)"?+|<[^>]*+>?+)*)', re.DOTALL)


class Understood(TypedDict, total=False):
    """What has been read of the fields already; an absent tag is ""."""

    call_id: str
    cseq: CSeq
    from_: NameAddr
    to: NameAddr
    from_tag: str
    to_tag: str
    via: Via
    vias: list[Via]
    contacts: list[NameAddr]
    routes: list[NameAddr]
    record_routes: list[NameAddr]
    supported: frozenset[str]
    require: frozenset[str]
    allow: frozenset[str]


class Headers:
    """Header fields in their order. Names come out in their registered spelling, unknown ones as they were written."""

    __slots__ = ("_fields", "_first", "_sealed", "understood")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = list(fields)
        if not REGISTERED.issuperset([name for name, _ in self._fields]):
            self._fields = [(CANONICAL.get(name) or canonical(name), value) for name, value in self._fields]
        self._first: dict[str, str] | None = None
        self._sealed = False
        self.understood: Understood = {}

    @classmethod
    def adopt(cls, fields: list[tuple[str, str]], first: dict[str, str] | None = None) -> Headers:
        """Take over a list whose names are canonical already; `first` maps them to their first values."""
        headers = cls.__new__(cls)
        headers._fields = fields
        headers._first = first
        headers._sealed = False
        headers.understood = {}
        return headers

    @property
    def first(self) -> dict[str, str]:
        """The first value of each name."""
        return self._first if self._first is not None else self._index()

    def get(self, name: str) -> str | None:
        """The first field of that name, as it stands there."""
        first = self._first if self._first is not None else self._index()    # not by `first`: fifty times a call
        value = first.get(name)
        if value is not None or name in REGISTERED:
            return value
        return first.get(self._spellings(name)[0])

    def count(self, name: str) -> int:
        """How many fields there are of that name, which is a registered one."""
        if len(self.first) == len(self._fields):         # no name stands twice
            return int(name in self.first)
        return sum(key == name for key, _ in self._fields)

    def get_all(self, name: str) -> list[str]:
        """All values of that name; those of list headers come apart at their commas."""
        value = self.get(name)
        if value is None:
            return []
        if "," not in value and name in REGISTERED and self.count(name) == 1:
            return [value] if value or name not in LISTS else []
        names = self._spellings(name)
        values = [value for key, value in self._fields if key in names]
        if names[0] in LISTS:
            values = [piece for value in values for piece in split_list(value)]
            if len(values) > MAX_LIST_VALUES:
                raise ParseError(f"Too many values in {name}")
        return values

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"

    def add(self, name: str, value: str) -> None:
        self._change()
        self._fields.append(_checked(name, value))

    def prepend(self, name: str, value: str) -> None:
        """In front of all: where Via and Record-Route grow."""
        self._change()
        self._fields.insert(0, _checked(name, value))

    def set(self, name: str, value: str) -> None:
        """The only field of that name, in the place of the first there was."""
        self._change()
        names = self._spellings(name)
        at = next((at for at, (key, _) in enumerate(self._fields) if key in names), len(self._fields))
        rest = [field for field in self._fields[at:] if field[0] not in names]
        self._fields[at:] = [_checked(names[0], value), *rest]

    def replace_first(self, name: str, value: str) -> None:
        """Another first value; the rest of a combined field, and further fields of that name, stay."""
        first, understood = self._first, self.understood
        self._change()
        name = self._spellings(name)[0]
        at = next((at for at, (key, _) in enumerate(self._fields) if key == name), None)
        if at is None:
            raise ProtocolMisuse(f"no {name} to replace")
        if name in LISTS:
            value = ", ".join([value, *split_list(self._fields[at][1])[1:]])
        self._fields[at] = _checked(name, value)
        if name == "Via" and first is not None:
            # Every request that arrives is stamped here: what was read of its other fields stays read.
            first[name] = value
            understood.pop("via", None)
            understood.pop("vias", None)
            self._first, self.understood = first, understood

    def remove(self, name: str) -> None:
        self._change()
        names = self._spellings(name)
        self._fields = [field for field in self._fields if field[0] not in names]

    def copy(self) -> Headers:
        return Headers.adopt(self._fields.copy())

    def seal(self) -> None:
        """The message is on the wire: a change from now on would be a lie."""
        self._sealed = True

    def _change(self) -> None:
        if self._sealed:
            raise ProtocolMisuse("a message that was sent is changed")
        self._first = None
        self.understood = {}

    def _index(self) -> dict[str, str]:
        first = self._first = dict(reversed(self._fields))      # of equal names the last one stays: here the first
        return first

    def _spellings(self, name: str) -> list[str]:
        """How that name is spelt here: one way when it is registered, else as the peer liked; never empty."""
        known = CANONICAL.get(name) or canonical(name)
        if known in REGISTERED:
            return [known]
        lower = name.lower()
        return [key for key, _ in self._fields if key.lower() == lower] or [name]


def canonical(name: str) -> str:
    """The registered spelling of a name; an unknown one is kept as it is."""
    return _LOWER.get(name.lower(), name)


def split_list(value: str) -> list[str]:
    """Apart at commas, except those in quotes and angle brackets."""
    if "," not in value:
        return [value] if value else []
    if '"' not in value and "<" not in value:
        return [piece.strip(" \t") for piece in value.split(",")]
    pieces: list[str] = []
    at = 0
    while at <= len(value):
        match = _ELEMENT.match(value, at)
        assert match is not None             # it matches the empty string
        pieces.append(match[0].strip(" \t"))
        at = match.end() + 1
    return pieces


def _checked(name: str, value: str) -> tuple[str, str]:
    if "\r" in value or "\n" in value:
        raise ProtocolMisuse(f"line break in {name}")
    return CANONICAL.get(name) or canonical(name), value
