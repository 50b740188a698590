"""Requests inside a dialog that mean the other party: asked again in the other dialog, or refused (RFC 3428, RFC 6086).

    INFO         passed on; a digit is said in the audio instead, where the other side takes it there (RFC 4733).
                 An Info-Package is refused (469), as nobody was told of one that the other side wants (RFC 6086 §4.2.2)
    MESSAGE      passed on, with its body and what describes it; the answer is the other side's
    NOTIFY       481: we have no subscription, and pass none through (RFC 6665 §4.1.3)
    SUBSCRIBE    489; 481 for `refer`, whose subscriptions only a REFER makes (RFC 6665 §4.2.1)
    OPTIONS      answered below, in `sip.invite_session` (RFC 3261 §11.2)
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

import structlog

from b2bua.sip.message import Request, Response
from b2bua.ua.leg import HeaderFields, Leg

PASSED_ON = frozenset({"INFO", "MESSAGE"})
MAX_PASSED_ON = 8                          # requests of one side that wait for the other side's response
MAX_BODY = 16 * 1024                       # bytes of one that is passed on
MAX_DIGITS = 32                            # that wait for INFOs of ours
DIGIT_PATIENCE = 5.0                       # seconds; what was pressed before that means nothing any more
USUAL_SECONDS = 0.16                       # of a digit that comes without a duration
MAX_SECONDS = 5.0
MAX_DIGIT_BODY = 200

# What describes the body, or means the other party; the rest belongs to the one dialog alone (RFC 3261 §12.2.1.1).
CROSSING = ("Content-Disposition", "Content-Language", "Date", "Expires", "MIME-Version", "Priority", "Subject")
CROSSING_BACK = ("Accept", "Accept-Language", "Retry-After")
DEAF = frozenset({405, 408, 415, 469, 501})     # who answers so to a digit is not sent another one

_DIGITS = re.compile(r"[0-9*#A-D]", re.ASCII)
_NAMED = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}     # as the events of RFC 4733 §3.2
_SIGNAL = re.compile(r"(?im)^[ \t]*signal[ \t]*=[ \t]*([^\s]{1,2})[ \t]*\r?$", re.ASCII)
_DURATION = re.compile(r"(?im)^[ \t]*duration[ \t]*=[ \t]*([0-9]{1,6})[ \t]*\r?$", re.ASCII)

log = structlog.get_logger(__name__)


def digit_in(request: Request) -> tuple[str, float] | None:
    """The key of an INFO as phones send it (application/dtmf-relay, application/dtmf), and for how many seconds."""
    kind = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if request.method != "INFO" or kind not in ("application/dtmf-relay", "application/dtmf"):
        return None
    if len(request.body) > MAX_DIGIT_BODY:
        return None
    text = request.body.decode("latin-1")
    named, lasting = _SIGNAL.search(text), _DURATION.search(text)
    key = named[1] if named is not None else text.strip()
    key = _NAMED.get(key, key).upper()
    if not _DIGITS.fullmatch(key):
        return None
    return key, min(int(lasting[1]) / 1000, MAX_SECONDS) if lasting is not None else USUAL_SECONDS


def refusal(request: Request) -> tuple[int, HeaderFields] | None:
    """Why a request is not for the other party, with the fields that the answer needs."""
    match request.method:
        case "INFO" if request.headers.get("Info-Package") is not None:
            return 469, (("Recv-Info", ""),)
        case "INFO" | "MESSAGE" if len(request.body) > MAX_BODY:
            return 413, ()
        case "INFO" | "MESSAGE":
            return None
        case "NOTIFY":
            return 481, ()
        case "SUBSCRIBE":
            event = (request.headers.get("Event") or "").partition(";")[0].strip().lower()
            return (481, ()) if event == "refer" else (489, (("Allow-Events", "refer"),))
        case _:
            return 501, ()


@dataclass(frozen=True, slots=True)
class _Errand:
    """A request to be made in a dialog. It is somebody's in the other dialog, or a digit of ours."""

    method: str
    headers: HeaderFields
    body: bytes
    content_type: str
    asked: tuple[Leg, Request] | None
    since: float


class Onward:
    """What is to be asked in one dialog, one at a time, so that nothing is overtaken on its way."""

    __slots__ = ("_cseq", "_deaf", "_errands", "_leg", "_told")

    def __init__(self, leg: Leg) -> None:
        self._leg = leg
        self._errands: deque[_Errand] = deque()        # the first of them is on its way
        self._cseq = 0                                  # of that one, or lower than where it was challenged
        self._deaf = False                              # takes no digits by INFO
        self._told = False

    def pass_on(self, asker: Leg, request: Request) -> None:
        if sum(errand.asked is not None for errand in self._errands) >= MAX_PASSED_ON:
            asker.respond(request, 500, (("Retry-After", "5"),))
            return
        headers = [(name, value) for name in CROSSING for value in request.headers.get_all(name)]
        content_type = request.headers.get("Content-Type") or ""
        self._add(_Errand(request.method, headers, request.body, content_type, (asker, request), self._now()))

    def press(self, digit: str, seconds: float) -> None:
        """One that was heard in the other side's audio."""
        if self._deaf or sum(errand.asked is None for errand in self._errands) >= MAX_DIGITS:
            return
        body = f"Signal={digit}\r\nDuration={round(seconds * 1000)}\r\n".encode()
        self._add(_Errand("INFO", (), body, "application/dtmf-relay", None, self._now()))

    def answered(self, response: Response) -> None:
        """To the request that was on its way, or to one of which nobody wants to know any more."""
        if not self._errands or response.cseq.number < self._cseq:
            return
        errand = self._errands.popleft()
        if errand.asked is not None:
            leg, request = errand.asked
            fields = [(name, value) for name in CROSSING_BACK for value in response.headers.get_all(name)]
            leg.respond(request, _as_ours(response.status), fields)
        elif response.status >= 300:
            self._refused(response.status)
        while self._errands and self._is_stale(self._errands[0]):
            self._errands.popleft()
        if self._errands:
            self._send(self._errands[0])

    def give_up(self, status: int) -> None:
        """Whoever asked gets this answer, instead of one that may yet come."""
        errands, self._errands = self._errands, deque()
        for errand in errands:
            if errand.asked is not None:
                leg, request = errand.asked
                leg.respond(request, status)

    def _add(self, errand: _Errand) -> None:
        self._errands.append(errand)
        if len(self._errands) == 1:
            self._send(errand)

    def _send(self, errand: _Errand) -> None:
        is_digit = errand.asked is None             # the peer never asked for INFOs: one that ignores them talks on
        self._leg.send(errand.method, errand.headers, errand.body, errand.content_type, optional=is_digit)
        dialog = self._leg.session.current_dialog()
        self._cseq = dialog.local_seq if dialog is not None else 0

    def _is_stale(self, errand: _Errand) -> bool:
        return errand.asked is None and (self._deaf or self._now() - errand.since > DIGIT_PATIENCE)

    def _refused(self, status: int) -> None:
        self._deaf = self._deaf or status in DEAF
        if not self._told:
            self._told = True
            log.warning("digits are not taken", leg=self._leg.name, status=status,
                        remedy="let this phone or trunk offer telephone-event (RFC 4733) or take INFO")

    def _now(self) -> float:
        return self._leg.agent.now()


def _as_ours(status: int) -> int:
    """The other side's word, where it means something without its dialog: a challenge, or a redirection, does not."""
    if status in (401, 407):
        return 403
    return 480 if 300 <= status < 400 else status
