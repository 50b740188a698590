"""What the door says of a request before anything is kept of it, and how much a stateless answer may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from b2bua.sip.effects import Flow
from b2bua.sip.message import Request, Response

MAX_SAVERS: Final = 4096                    # addresses whose unanswered bytes are remembered
MAX_SAVED: Final = 4096                     # bytes of each


class Admission(Enum):
    ADMIT = "admit"
    IGNORE = "ignore"                       # not a word, and nothing kept


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer for which nothing is kept, nor repeated but to the same request again (RFC 3261 §8.2.7).

    It is told to who may come in, unless the request itself is wrong (§8.2). Of the headers as many go out as there is
    room for, and at least one: the most important ones stand first. An answer without the extras is one as well: they
    go out as far as the length of this request has room for them, whatever was saved before.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    extras: tuple[tuple[str, str], ...] = ()
    reason: str | None = None               # other words than the status's own


class Refuse(Answer):
    """The same to who may not come in: nobody looks at what it asks for (RFC 3261 §26.3.2.4)."""

    __slots__ = ()


Verdict = Admission | Answer
Admit = Callable[[Request, Flow], Verdict]


def everyone(request: Request, flow: Flow) -> Verdict:
    return Admission.ADMIT


class Balance:
    """Bytes that came from an address and were not answered.

    A source address may be forged, and our answer would go to its owner: nobody is sent more than came from there. Real
    phones' requests are longer than a challenge, or a 200 to OPTIONS. Who asks more briefly gets it when it has asked
    again, as it does within a second (RFC 3261 §17.1.1.2, §17.1.2.2). A flood from everywhere only makes the oldest
    ones be forgotten.
    """

    def __init__(self) -> None:
        self._saved: dict[str, int] = {}

    def has(self, host: str) -> int:
        return self._saved.get(host, 0)

    def move(self, host: str, received: int, sent: int) -> None:
        saved = min(self._saved.pop(host, 0) + received - sent, MAX_SAVED)
        if saved > 0:
            if len(self._saved) >= MAX_SAVERS:
                del self._saved[next(iter(self._saved))]
            self._saved[host] = saved


def stateless(answer: Answer, request: Request, flow: Flow, balance: Balance) -> Response | None:
    """None when any answer would be more than has come from there."""
    headers, extras = answer.headers, answer.extras
    if flow.transport.reliable:             # a handshake has proved the address
        return _response(answer, request, headers + extras)
    host, received = flow.remote.host, len(request.raw)
    allowed = received + balance.has(host)
    for count in range(len(headers), 0, -1) if headers else (0,):
        response = _response(answer, request, headers[:count])
        if (length := len(bytes(response))) <= allowed:
            if fitting := _fitting(extras, received - length):
                response = _response(answer, request, headers[:count] + fitting)
            break
    else:
        if not headers:                     # its status says it all; simple clients (pyVoIP) read no compact names
            response.abbreviate()
    length = len(bytes(response))
    if length > allowed:
        balance.move(host, received, 0)
        return None
    balance.move(host, received, length)
    return response


def _fitting(fields: tuple[tuple[str, str], ...], room: int) -> tuple[tuple[str, str], ...]:
    """Those of the fields that fit into so many bytes; the first ones come first."""
    fitting = []
    for name, value in fields:
        length = len(f"{name}: {value}\r\n".encode())
        if length <= room:
            fitting.append((name, value))
            room -= length
    return tuple(fitting)


def _response(answer: Answer, request: Request, fields: tuple[tuple[str, str], ...]) -> Response:
    response = request.stateless_response(answer.status, answer.reason)
    for name, value in fields:
        response.headers.add(name, value)
    return response


def malformed(request: Request, response: Response, flow: Flow) -> Response | None:
    """The 400 to what could not be read, unless it is longer than that."""
    return response if flow.transport.reliable or len(bytes(response)) <= len(request.raw) else None
