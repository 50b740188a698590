"""What the door says of a request before anything is kept of it, and how much a stateless answer may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from b2bua.sip.effects import Flow
from b2bua.sip.message import Request, Response

# A source address may be forged, and our answer would go to its owner. A challenge may be so many times longer than
# the request: real phones' requests are longer than it, test tools' bare ones 0.8 times as long.
MAX_GAIN: Final = 1.5


class Admission(Enum):
    ADMIT = "admit"
    IGNORE = "ignore"                       # not a word, and nothing kept


@dataclass(frozen=True, slots=True)
class Refuse:
    """One answer for which nothing is kept, nor repeated but to the same request again (RFC 3261 §8.2.7, §26.3.2.4).

    Of the headers as many go out as the length of the request allows: the most important ones stand first.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()


Verdict = Admission | Refuse
Admit = Callable[[Request, Flow], Verdict]


def everyone(request: Request, flow: Flow) -> Verdict:
    return Admission.ADMIT


def stateless(refuse: Refuse, request: Request, flow: Flow) -> Response | None:
    """None when any answer would be more than whoever sent so little may have."""
    allowed = len(request.raw) * MAX_GAIN
    response: Response | None = None
    for count in range(len(refuse.headers), 0, -1) if refuse.headers else (0,):
        response = request.stateless_response(refuse.status)
        for name, value in refuse.headers[:count]:
            response.headers.add(name, value)
        if flow.transport.reliable or len(bytes(response)) <= allowed:      # a handshake has proved the address
            return response
    return None


def malformed(request: Request, response: Response, flow: Flow) -> Response | None:
    """The 400 to what could not be read, unless it is longer than that."""
    return response if flow.transport.reliable or len(bytes(response)) <= len(request.raw) else None
