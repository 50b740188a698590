"""Messages, flows and a clock for the tests of the transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from b2bua.sip.effects import Address, Flow, Transmit, Transport
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.timers import Deadlines
from b2bua.sip.transaction_table import (
    AckReceived,
    CancelReceived,
    ClientTimedOut,
    ClientTransportFailed,
    RequestReceived,
    ResponseReceived,
    StrayResponse,
)
from b2bua.sip.uri import Uri

HERE = Address("192.0.2.1", 5060)
THERE = Address("198.51.100.7", 40000)
UDP = Flow(Transport.UDP, HERE, THERE)
TCP = Flow(Transport.TCP, HERE, THERE, connection=7)


def make_request(
    method: str = "INVITE",
    *,
    via: str = "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK-1;rport",
    uri: str = "sip:101@192.0.2.1",
    call_id: str = "call-1",
    from_tag: str = "alice",
    to_tag: str = "",
    cseq: int = 1,
    max_forwards: str = "70",
    more: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Request:
    fields = [
        ("Via", via),
        ("Max-Forwards", max_forwards),
        ("From", f"<sip:alice@198.51.100.7>;tag={from_tag}" if from_tag else "<sip:alice@198.51.100.7>"),
        ("To", f"<sip:101@192.0.2.1>;tag={to_tag}" if to_tag else "<sip:101@192.0.2.1>"),
        ("Call-ID", call_id),
        ("CSeq", f"{cseq} {method}"),
        *more,
    ]
    return Request(method, Uri.parse(uri), Headers(fields), body)


def answer(request: Request, status: int, to_tag: str = "bob") -> Response:
    """A response as it comes back to who sent the request."""
    return request.response(status, to_tag=to_tag)


def names(effects: Sequence[object]) -> list[str]:
    """Effects in a word each: a method or status for what is sent, the event for the rest."""
    return [_name(effect) for effect in effects]


def _name(effect: object) -> str:
    match effect:
        case Transmit(message=Request() as request):
            return request.method
        case Transmit(message=Response() as response):
            return str(response.status)
        case ResponseReceived(_, response):
            return f"got {response.status}"
        case ClientTimedOut():
            return "timed out"
        case ClientTransportFailed():
            return "failed"
        case AckReceived():
            return "got ACK"
        case RequestReceived(_, request, _):
            return f"got {request.method}"
        case CancelReceived():
            return "got CANCEL"
        case StrayResponse():
            return "stray"
        case _:
            raise AssertionError(effect)


def play(
    deadlines: Deadlines, expire: Callable[[Any, Any, float], list[Any]], effects: Sequence[object], now: float = 0.0
) -> list[tuple[float, str]]:
    """Let the clock jump from deadline to deadline until none is left: [(time, what happened), ...]."""
    log = [(now, name) for name in names(effects)]
    while (at := deadlines.next) is not None:
        now = max(now, at)
        for deadline in deadlines.due(now):
            log += [(now, name) for name in names(expire(deadline.owner, deadline.timer, now))]
    return log
