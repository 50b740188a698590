"""A trunk answers that the call shall be made elsewhere: its Contacts in turn (RFC 3261 §8.1.3.4, §21.3).

Only there where the trunk is at home; a Contact anywhere else stands for its number, which is called through the trunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from b2bua import numbers
from b2bua.calls.outcomes import AnsweredBy, Redirected, RingResult, Unanswered, best_of, redirected_nowhere
from b2bua.routing.dialplan import DialTrunk
from b2bua.sip.effects import Address, Flow
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Response
from b2bua.sip.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from b2bua.calls.invitation import Invitation
    from b2bua.calls.switchboard import Switchboard

    Try = Callable[["Way"], Awaitable[RingResult]]

MAX_REDIRECTIONS: Final = 5                # INVITEs that redirections of one trunk make of one
MAX_CONTACTS: Final = 8                    # of one redirection

_FOLLOWED = frozenset({300, 301, 302, 305})


@dataclass(frozen=True, slots=True)
class Way:
    """One INVITE of an outgoing call: its Request-URI, its Route fields, and to which server it goes."""

    uri: Uri
    flow: Flow
    routes: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, Address]:
        """Two INVITEs to the same place are a loop."""
        return str(self.uri), self.flow.remote


def redirected_to(response: Response) -> Redirected | None:
    """None: this is no redirection. One that cannot be followed leads to nobody."""
    if not 300 <= response.status < 400:
        return None
    try:
        contacts = response.contacts if response.status in _FOLLOWED else []
        ordered = sorted(contacts, key=lambda contact: -contact.q)
    except ParseError:
        ordered = []
    uris = tuple(contact.uri for contact in ordered[:MAX_CONTACTS] if not contact.is_wildcard)
    return Redirected(response.status, uris)


async def follow(
    pbx: Switchboard, step: DialTrunk, invitation: Invitation, first: Redirected, been: Sequence[Way], try_: Try
) -> RingResult:
    """Each Contact once, those that it names itself before the rest; a 6xx, or a phone that has rung, ends it."""
    call, trunk = invitation.call, step.trunk
    places = {way.place for way in been}
    waiting = deque((first.status, uri) for uri in first.contacts)
    failures: list[Unanswered] = []
    tried = 0
    while waiting:
        status, uri = waiting.popleft()
        ways = await pbx.dialler.redirected(step, uri, use_proxy=status == 305)
        if isinstance(ways, str):
            call.note(f"{trunk.name} redirects ({status}) to {_told(uri)}: {ways}")
            continue
        way = next((way for way in ways if way.place not in places), None)
        if way is None:
            call.note(f"{trunk.name} redirects ({status}) to {_told(uri)}, where the call has been")
            continue
        if tried == MAX_REDIRECTIONS:
            call.note(f"{trunk.name} has redirected the call {MAX_REDIRECTIONS} times already")
            break
        tried += 1
        places.add(way.place)
        call.note(f"{trunk.name} redirects ({status}) to {_told(uri)}: followed")
        refused = _refused(pbx, invitation, step, way)
        result = refused or await try_(way)
        if isinstance(result, AnsweredBy):
            return result
        if result.redirected is not None:
            waiting.extendleft((result.redirected.status, uri) for uri in reversed(result.redirected.contacts))
            continue
        failures.append(result)
        if result.rang or result.status >= 600:
            break
    return best_of(failures) if failures else redirected_nowhere()


def _refused(pbx: Switchboard, invitation: Invitation, step: DialTrunk, way: Way) -> Unanswered | None:
    """Another number than the one that was let through may be one that is not."""
    number = numbers.international(number_in(way.uri), step.trunk.country)
    if number == step.outside:
        return None
    return pbx.may_go_outside(invitation.call, replace(step, outside=number))


def number_in(uri: Uri) -> str:
    """Without the parameters that some networks append to it, as `;npdi` (RFC 3966 in a SIP URI)."""
    return uri.user.partition(";")[0]


def _told(uri: Uri) -> str:
    return str(uri)[:100]
