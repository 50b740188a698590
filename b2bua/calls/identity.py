"""Who calls, as trunks say it and want it said: From, P-Asserted-Identity and kin, Privacy.

RFC 3323, RFC 3325, and Remote-Party-ID of draft-ietf-sip-privacy-04.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from b2bua import numbers
from b2bua.calls.diversion import addresses, told_of, user_of
from b2bua.directory import Trunk
from b2bua.sip.fields import NameAddr
from b2bua.sip.message import Request
from b2bua.sip.uri import Uri
from b2bua.trunk_profiles import CallerSource, FromShows, Identity

ANONYMOUS: Final = NameAddr(Uri.parse("sip:anonymous@anonymous.invalid"), "Anonymous")   # RFC 3323 §4.1.1.3

_HIDES = frozenset({"id", "user", "header"})       # values of Privacy that withhold who calls (RFC 3323 §4.2, RFC 3325)
_HIDING = frozenset({"full", "uri"})               # the same of Remote-Party-ID
_HEADERS: Final = {
    CallerSource.ASSERTED: "P-Asserted-Identity",
    CallerSource.REMOTE_PARTY: "Remote-Party-ID",
    CallerSource.PREFERRED: "P-Preferred-Identity",
    CallerSource.FROM: "From",
}


# -- read


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls from outside: a normalised number, "" when it is withheld; and what else the trunk says of the call."""

    number: str
    notes: tuple[str, ...] = ()


def read_caller(invite: Request, trunk: Trunk) -> Caller:
    """The first header that the trunk's rules trust and that has a number."""
    notes = tuple(told_of(invite))
    if invite.privacy & _HIDES:
        return Caller("", (f"the caller withholds the number (Privacy: {'; '.join(sorted(invite.privacy))})", *notes))
    for source in trunk.rules.trusts:
        for address in addresses(invite, _HEADERS[source]):
            user = user_of(address.uri)
            if source is CallerSource.REMOTE_PARTY and address.params.get("privacy", "").lower() in _HIDING:
                return Caller("", ("the caller withholds the number (Remote-Party-ID)", *notes))
            if user and not numbers.is_anonymous(user):
                if source is not CallerSource.FROM:
                    notes = (f"the caller's number is from {_HEADERS[source]}", *notes)
                return Caller(numbers.normalise(user, trunk.country), notes)
    return Caller("", notes)


# -- written


@dataclass(frozen=True, slots=True)
class Shown:
    """How an outgoing call says who calls: From, headers beside it, and the user part of our Contact."""

    from_: NameAddr
    headers: tuple[tuple[str, str], ...]
    contact_user: str


def hides(invite: Request) -> bool:
    """Whether a phone wants its number withheld in this call."""
    user = invite.from_.uri.user
    return bool(invite.privacy & _HIDES) or bool(user and numbers.is_anonymous(user))


def shown_to(trunk: Trunk, caller_id: str, *, hidden: bool) -> Shown:
    """The caller id as the trunk's rules want it told. Hidden, only the operator learns it (RFC 3325 §9.3)."""
    rules, domain = trunk.rules, trunk.domain or trunk.host
    number = numbers.written(caller_id, rules.caller_format, trunk.country)
    account = trunk.user if rules.from_shows is FromShows.ACCOUNT else ""
    user = account or number
    from_ = ANONYMOUS if hidden or not user else NameAddr(Uri.sip(user, domain))
    headers = _asserted(rules.identity, Uri.sip(number, domain), hidden=hidden) if number else ()
    if hidden:
        headers = (*headers, ("Privacy", "id"))
    return Shown(from_, headers, trunk.user or ("anonymous" if hidden else number))


def _asserted(identity: Identity, uri: Uri, *, hidden: bool) -> tuple[tuple[str, str], ...]:
    match identity:
        case Identity.ASSERTED:
            return (("P-Asserted-Identity", str(NameAddr(uri))),)
        case Identity.PREFERRED:
            return (("P-Preferred-Identity", str(NameAddr(uri))),)
        case Identity.REMOTE_PARTY:
            # `screen=yes`: the phone has shown its password, and does not choose its number itself.
            params = {"party": "calling", "screen": "yes", "privacy": "full" if hidden else "off"}
            return (("Remote-Party-ID", str(NameAddr(uri, "", params))),)
        case Identity.NONE:
            return ()
