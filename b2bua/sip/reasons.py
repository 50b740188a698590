"""Why a call ended, in the words of the one who ended it, read and passed on (Reason: RFC 3326, RFC 6432)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from b2bua.sip.fields import Reason
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Message
from b2bua.sip.status import CAUSES, Q850, reason_phrase

MAX_TEXT: Final = 80                       # characters of a peer's text that are kept and passed on

# The protocols that we pass on, and which causes they have.
_NUMBERS: Final = {"Q.850": range(1, 128), "SIP": range(100, 700)}

# To phones that stop ringing as somebody else has the call: no missed call of theirs (RFC 3326 §3.1).
COMPLETED_ELSEWHERE: Final = (("Reason", str(Reason("SIP", 200, "Call completed elsewhere"))),)


def reasons_of(message: Message) -> tuple[Reason, ...]:
    """Those that may be passed on: one of each protocol (RFC 3326 §2), by number, with a text that is safe to show."""
    found: dict[str, Reason] = {}
    for value in _values(message):
        try:
            reason = Reason.parse(value)
        except ParseError:
            continue
        protocol = reason.protocol.upper()
        if reason.cause in _NUMBERS.get(protocol, ()):
            found.setdefault(protocol, Reason(protocol, reason.cause, shown(reason.text)))
    return tuple(found.values())


def stated(message: Message) -> str:
    """The first Reason as it stands there, for people; "" when there is none."""
    return shown(next(iter(_values(message)), ""))


def fields(reasons: Iterable[Reason]) -> tuple[tuple[str, str], ...]:
    """The same as header fields."""
    return tuple(("Reason", str(reason)) for reason in reasons)


def q850(reasons: Sequence[Reason]) -> int | None:
    """The cause of the telephone network: as it was given, else that which a SIP status stands for (RFC 3398)."""
    given = {reason.protocol: reason.cause for reason in reasons}
    return given.get("Q.850") or Q850.get(given.get("SIP") or 0)


def in_words(reasons: Iterable[Reason]) -> str:
    return "; ".join(map(_in_words, reasons))


def shown(text: str) -> str:
    """A peer's text, cut, and without what is no character to show."""
    return "".join(filter(str.isprintable, text[:MAX_TEXT]))


def _in_words(reason: Reason) -> str:
    cause = reason.cause or 0
    words = CAUSES.get(cause, "unknown cause") if reason.protocol == "Q.850" else reason_phrase(cause)
    text = f' ("{reason.text}")' if reason.text and reason.text.lower() != words.lower() else ""
    return f"{reason.protocol} {cause}, {words}{text}"


def _values(message: Message) -> list[str]:
    try:
        return message.headers.get_all("Reason")
    except ParseError:                     # too many
        return []
