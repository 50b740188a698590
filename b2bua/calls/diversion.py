"""How often and by whom a call was sent on before it came to us, and how a trunk is told that we send it on: Diversion
(RFC 5806) and History-Info (RFC 7044)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from b2bua import numbers
from b2bua.directory import Cause
from b2bua.routing.plan import DialTrunk
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request
from b2bua.sip.uri import Uri
from b2bua.trunk_profiles import Diverting

MAX_DIVERSIONS: Final = 3                  # told of one call
MAX_TOLD: Final = 64                       # characters of what a stranger wrote
MAX_TIMES: Final = 5                       # that a call may have been sent on; ISUP networks end it there as well
MAX_READ: Final = 20                       # entries of one header, the latest: more than any call may have

_REASONS: Final = {                        # of Diversion, and as a cause of RFC 4458, by RFC 7544
    None: ("deflection", 480),
    Cause.ALWAYS: ("unconditional", 302),
    Cause.NO_ANSWER: ("no-answer", 408),
    Cause.BUSY: ("user-busy", 486),
    Cause.UNREGISTERED: ("unavailable", 503),
}
_SAME_TARGET: Final = {"np", "rc"}         # of an entry: the one before it, by its next proxy or its contact


# -- read


@dataclass(frozen=True, slots=True)
class History:
    """What a trunk says of a call's way to us. `numbers` have sent it on, in the form in which limits read numbers."""

    times: int = 0
    numbers: frozenset[str] = frozenset()

    @property
    def too_often(self) -> str | None:
        """Why the call goes no further."""
        if self.times < MAX_TIMES:
            return None
        return f"it was sent on {self.times} times before it came here, and goes no further"


def history_of(invite: Request, country: str) -> History:
    """As far as it can be read; of Diversion and History-Info whichever tells more."""
    diversions, path = _entries(invite, "Diversion")[:MAX_READ], _path(invite)
    times = max(len(diversions), _moves(path), *map(_counter, diversions))
    users = {user_of(one.uri) for one in (*diversions, *path[:-1])}
    return History(times, frozenset(numbers.international(user, country) for user in users if user))


def told_of(invite: Request) -> Iterator[str]:
    """By whom the call was forwarded on its way to us, the last first (RFC 5806 §4.2, RFC 7044 §5)."""
    for diverter in _entries(invite, "Diversion")[:MAX_DIVERSIONS]:
        reason = diverter.params.get("reason", "").strip('"')
        yield f"diverted by {_told(user_of(diverter.uri))}" + (f" ({_told(reason)})" if reason else "")
    if "Diversion" in invite.headers:
        return
    # Each entry is a target that was tried; the last is the one that we are.
    earlier = _entries(invite, "History-Info")[:-1]
    for entry in earlier[::-1][:MAX_DIVERSIONS]:
        yield f"sent on from {_told(user_of(entry.uri))}"


def addresses(invite: Request, name: str) -> Iterator[NameAddr]:
    """Those that can be read; some operators' gateways put anything there."""
    try:
        values = invite.headers.get_all(name)
    except ParseError:
        return
    for value in values:
        try:
            yield NameAddr.parse(value)
        except ParseError:
            continue


def user_of(uri: Uri) -> str:
    """Without the parameters that some networks append to the number, as `;cpc=ordinary` (RFC 3966 in a SIP URI)."""
    return uri.user.partition(";")[0]


def _entries(invite: Request, name: str) -> list[NameAddr]:
    return list(addresses(invite, name))


def _counter(entry: NameAddr) -> int:
    """RFC 5806 §4.2: it stands for so many, as who has written it may have left the earlier ones out."""
    text = entry.params.get("counter", "").strip('"')
    return min(int(text[:9]), MAX_TIMES) if text.isascii() and text.isdigit() else 1


def _path(invite: Request) -> Sequence[NameAddr]:
    """The entries that lead to us, who are the last: its index tells what it comes from (RFC 7044 §5). Branches that
    failed are none of them."""
    entries = _entries(invite, "History-Info")[-MAX_READ:]
    last = entries[-1].params.get("index", "") if entries else ""
    indexes = ((one, one.params.get("index", "")) for one in entries)
    return [one for one, index in indexes if not last or (index and f"{last}.".startswith(f"{index}."))]


def _moves(path: Sequence[NameAddr]) -> int:
    """How often it was sent on to somebody else: `mp` says so, and else another user does."""
    return sum(
        "mp" in here.params or (not _SAME_TARGET & here.params.keys() and user_of(here.uri) != user_of(before.uri))
        for before, here in pairwise(path)
    )


def _told(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:MAX_TOLD] or "somebody unnamed"


# -- written


def diverted_headers(step: DialTrunk, earlier: int) -> tuple[tuple[str, str], ...]:
    """Whose call it was and why it goes on, as the trunk's profile has it told; `earlier` times it had been sent on."""
    if step.diverted is None:
        return ()
    trunk, rules, domain = step.trunk, step.trunk.rules, step.trunk.domain or step.trunk.host
    whose = Uri.sip(numbers.written(step.diverted.number, rules.caller_format, trunk.country), domain)
    reason, cause = _REASONS[step.diverted.cause]
    headers: list[tuple[str, str]] = []
    if rules.diversion in (Diverting.DIVERSION, Diverting.BOTH):
        headers.append(("Diversion", str(NameAddr(whose, "", {"reason": reason, "counter": str(earlier + 1)}))))
    if rules.diversion in (Diverting.HISTORY_INFO, Diverting.BOTH):
        there = Uri.sip(step.number, domain, params={"cause": str(cause)})
        entries = NameAddr(whose, "", {"index": "1"}), NameAddr(there, "", {"index": "1.1", "mp": "1"})
        headers.append(("History-Info", ", ".join(map(str, entries))))
    return tuple(headers)
