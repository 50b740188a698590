"""Why a leg ended, as it is told to the other one (RFC 3326)."""

from __future__ import annotations

from typing import Final

from b2bua.sip.fields import Reason
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Message

MAX_TEXT: Final = 100                      # characters of what a peer wrote
Q850: Final = "Q.850"
# To phones that stop ringing as somebody else has the call: no missed call of theirs (RFC 3326 §3.1).
COMPLETED_ELSEWHERE: Final = (("Reason", 'SIP;cause=200;text="Call completed elsewhere"'),)
_PASSED_ON: Final = {"SIP": ("SIP", 699), Q850: (Q850, 127)}    # what the other side can use, and its highest cause


def reasons_of(message: Message | None) -> tuple[Reason, ...]:
    """Those that can be read and passed on, one for each protocol."""
    found: dict[str, Reason] = {}
    if message is None:
        return ()
    try:
        values = message.headers.get_all("Reason")
    except ParseError:
        return ()
    for value in values:
        try:
            reason = Reason.parse(value)
        except ParseError:
            continue
        protocol, highest = _PASSED_ON.get(reason.protocol.upper(), ("", 0))
        if reason.cause is not None and 0 < reason.cause <= highest:
            text = reason.text[:MAX_TEXT] if reason.text.isprintable() else ""
            found.setdefault(protocol, Reason(protocol, reason.cause, text))
    return tuple(found.values())


def as_headers(reasons: tuple[Reason, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(("Reason", str(reason)) for reason in reasons)


def q850_cause(reasons: tuple[Reason, ...]) -> int | None:
    return next((one.cause for one in reasons if one.protocol == Q850), None)
