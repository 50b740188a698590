"""Ladders: what was really sent on a scenario's network, drawn for people (`tests/support/flows.py`: the document)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from b2bua.sip.message import Message, Request, Response
from b2bua.sip.parser import parse
from tests.support.network import Carried, Network, Remark

US = "S"
NARROWEST = 12                            # characters between two lifelines
SILENCE = 0.95                            # seconds without a message that are worth a row
_SDP_LINES = re.compile(
    rb"(?m)^(?:a=(sendonly|recvonly|inactive)|(c=IN IP4 0\.0\.0\.0)|(m=audio 0)|m=image \d+ \w+ (t38))[ \r]")
_DIALOG_STATES = re.compile(rb"<state[^>]*>(\w+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One row: an arrow, or a note when source and target are the same."""

    at: float                             # when it was sent first, and last
    until: float
    source: str
    target: str
    label: str
    arrives: bool = True
    below: tuple[str, ...] = ()           # header fields
    data: bytes = b""
    times: int = 1


@dataclass
class Ladder:
    """What of a network's log is drawn, and by which names."""

    names: Mapping[str, str]              # of hosts
    hides: Sequence[str] = ()             # methods
    shows: Sequence[str] = ()             # header fields of requests
    without: str = ""                     # a participant
    _calls: dict[str, list[str]] = field(default_factory=dict)      # Call-IDs by participant
    _shown: set[tuple[str, str, str]] = field(default_factory=set)
    _sent: set[tuple[str, bytes]] = field(default_factory=set)

    def draw(self, network: Network) -> str:
        steps = _folded(self._steps(network))
        return "\n".join(_rows(steps))

    def _steps(self, network: Network) -> Iterable[Step]:
        events: list[Carried | Remark] = [*network.log]
        for remark in reversed(network.remarks):
            events.insert(remark.after, remark)
        for event in events:
            if isinstance(event, Remark):
                if self.without not in (event.source, event.target):
                    yield Step(event.at, event.at, event.source, event.target, event.text)
            elif (message := parse(event.data)).cseq.method not in self.hides and not _is_trying(message):
                yield self._step(event, message)

    def _step(self, carried: Carried, message: Message) -> Step:
        source, target = self._name(carried.source.host), self._name(carried.target.host)
        peer = target if source == US else source
        again = (source, carried.data) in self._sent
        self._sent.add((source, carried.data))
        label = f"{what_of(message)} again" if again else label_of(message)
        label += self._which_call(peer, message)
        below = () if again else tuple(self._fields(peer, message))
        arrives = carried.fate in ("carried", "doubled")
        return Step(carried.at, carried.at, source, target, label, arrives, below, carried.data)

    def _name(self, host: str) -> str:
        return self.names.get(host, host)

    def _which_call(self, peer: str, message: Message) -> str:
        calls = self._calls.setdefault(peer, [])
        if message.call_id not in calls:
            if message.cseq.method != "INVITE":
                return ""
            calls.append(message.call_id)
        place = calls.index(message.call_id) + 1
        return f" #{place}" if place > 1 else ""

    def _fields(self, peer: str, message: Message) -> Iterable[str]:
        if isinstance(message, Response) or message.method in ("ACK", "CANCEL"):
            return
        for name in self.shows:
            for value in message.headers.get_all(name):
                value = value.partition(";tag=")[0]
                if (peer, name, value) not in self._shown:
                    self._shown.add((peer, name, value))
                    yield f"{name}: {value}"


def label_of(message: Message) -> str:
    """A message in few words: what it is, and what it brings."""
    if isinstance(message, Response):
        method = message.cseq.method
        words = [str(message.status), *([] if method == "INVITE" else [method])]
        if 300 <= message.status < 400 and message.contact is not None:
            words.append(f"to {message.contact.uri.user}")
        brings = ["100rel"] if "100rel" in message.require else []
    else:
        words, brings = _request(message)
    brings += _body(message)
    return " ".join(words) + (f" ({', '.join(brings)})" if brings else "")


def what_of(message: Message) -> str:
    return message.method if isinstance(message, Request) else str(message.status)


def _request(request: Request) -> tuple[list[str], list[str]]:
    headers = request.headers
    signed = headers.get("Authorization") or headers.get("Proxy-Authorization")
    brings = ["digest"] if signed and request.method != "ACK" else []
    brings += ["Replaces"] if headers.get("Replaces") else []
    match request.method:
        case "INVITE" if request.to_tag is None:
            return ["INVITE", request.uri.user], brings
        case "INVITE":
            return ["re-INVITE"], brings
        case "REFER":
            target = headers.get("Refer-To") or ""
            number = re.search(r"(?:sips?|tel):([^@?>]*)", target)
            return ["REFER to", number[1] if number else target], ["Replaces"] if "Replaces=" in target else []
        case "NOTIFY":
            state = (headers.get("Subscription-State") or "").partition(";")[0]
            return ["NOTIFY"], ["terminated"] if state == "terminated" else []
        case "BYE" | "CANCEL" as end if reason := headers.get("Reason"):
            return [end], [reason.partition(";text")[0]]
        case "SUBSCRIBE":
            return ["SUBSCRIBE", request.uri.user], brings
        case method:
            return [method], brings


def _body(message: Message) -> list[str]:
    """What is in the body: of SDP how it differs from talking, of a sipfrag its status, of a key which one, of
    dialog-info the dialogs' states, of others the kind.
    """
    if not message.body:
        return []
    match message.content_type:
        case "application/sdp":
            found = _SDP_LINES.search(message.body)
            word = "" if found is None else next(group for group in found.groups() if group).decode()
            return [f"SDP {word.removeprefix('c=IN IP4 ')}".rstrip()]
        case "message/sipfrag":
            return [message.body.decode().partition("\r\n")[0].removeprefix("SIP/2.0 ")]
        case "application/dtmf-relay":
            return [message.body.decode().partition("\r\n")[0]]
        case "application/dialog-info+xml":
            return [f"dialog {state.decode()}" for state in _DIALOG_STATES.findall(message.body)]
        case kind:
            return [kind.rpartition("/")[2]]


def _is_trying(message: Message) -> bool:
    return isinstance(message, Response) and message.status == 100


def _folded(steps: Iterable[Step]) -> list[Step]:
    """What is sent again and again with nothing in between is one row."""
    folded: list[Step] = []
    for step in steps:
        last = folded[-1] if folded else None
        if last and step.data and (last.source, last.target, last.data, last.label) == (
            step.source, step.target, step.data, step.label
        ):
            folded[-1] = replace(last, until=step.at, times=last.times + 1)
        else:
            folded.append(step)
    return [step if step.times == 1 else replace(step, label=_how_often(step)) for step in folded]


def _how_often(step: Step) -> str:
    took = step.until - step.at
    return f"{step.label}, {step.times} times" + (f" in {took:.0f} s" if took > SILENCE else "")


# -- on paper

def _rows(steps: Sequence[Step]) -> Iterable[str]:
    columns = _columns(steps)
    at = {name: index for index, name in enumerate(columns)}
    places = _places(columns, [(at[step.source], at[step.target], step) for step in steps])
    heads = [" "] * (places[-1] + len(columns[-1]))
    for name, place in zip(columns, places, strict=True):
        start = max(0, place - (len(name) - 1) // 2)
        heads[start : start + len(name)] = name
    yield "".join(heads).rstrip()
    yield _lifelines(places, "|")
    before = steps[0].at if steps else 0.0
    for step in steps:
        if step.at - before > SILENCE:
            yield _written(_lifelines(places, ":"), places[at[US]] + 2, f"{step.at - before:.0f} s")
        source, target = places[at[step.source]], places[at[step.target]]
        yield _row(_lifelines(places, "|"), source, target, step)
        for line in step.below:
            yield _written(_lifelines(places, "|"), min(source, target) + 4, line)
        before = step.until


def _columns(steps: Sequence[Step]) -> list[str]:
    """Who begins stands on the left of us, the others on the right as they come."""
    seen = list(dict.fromkeys(name for step in steps for name in (step.source, step.target)))
    others = [name for name in seen if name != US]
    return [*others[:1], US, *others[1:]]


def _places(columns: Sequence[str], steps: Iterable[tuple[int, int, Step]]) -> list[int]:
    """Where the lifelines are: as near as what is written between them lets them."""
    gaps = [max(NARROWEST, (len(one) + len(other)) // 2 + 3) for one, other in pairwise(columns)]
    us = columns.index(US)
    for source, target, step in sorted(steps, key=lambda each: abs(each[0] - each[1])):
        if source == target:
            continue
        left, right = min(source, target), max(source, target)
        wanted = max(len(step.label) + 6, *(len(line) + 5 for line in step.below), 0)
        if (missing := wanted - sum(gaps[left:right])) > 0:
            gaps[left if left == us else right - 1] += missing
    start = (len(columns[0]) - 1) // 2
    return [start + sum(gaps[:index]) for index in range(len(columns))]


def _row(line: str, source: int, target: int, step: Step) -> str:
    if source == target:
        return _written(line, source + 2, f"* {step.label} ")
    left, right = min(source, target), max(source, target)
    length = right - left - 1
    if source < target:
        end = ">" if step.arrives else "x  "
        arrow = f" {step.label} ".ljust(length - len(end), "-") + end
    else:
        end = "<" if step.arrives else "  x"
        arrow = end + f" {step.label} ".rjust(length - len(end), "-")
    return _written(line, left + 1, arrow)


def _lifelines(places: Sequence[int], mark: str) -> str:
    line = [" "] * (places[-1] + 1)
    for place in places:
        line[place] = mark
    return "".join(line)


def _written(line: str, start: int, text: str) -> str:
    return (line[:start].ljust(start) + text + line[start + len(text) :]).rstrip()
