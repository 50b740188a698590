"""What kinds of operator there are: how each writes numbers, where it looks for the caller, what it says of callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from b2bua.numbers import NumberFormat


class Identity(Enum):
    """The header that asserts who calls, beside From."""

    NONE = "none"
    ASSERTED = "p-asserted-identity"        # RFC 3325 §9.1
    PREFERRED = "p-preferred-identity"      # RFC 3325 §9.2
    REMOTE_PARTY = "remote-party-id"        # draft-ietf-sip-privacy-04, older than RFC 3325 and more common


class FromShows(Enum):
    NUMBER = "number"                       # the caller id
    ACCOUNT = "account"                     # our user name there; the caller id is in the identity header alone


class Diverting(Enum):
    """How it is told that a call which was to reach a number of ours goes on to the outside."""

    NONE = "none"
    DIVERSION = "diversion"                 # RFC 5806, historic and understood by most
    HISTORY_INFO = "history-info"           # RFC 7044
    BOTH = "both"


class CallerSource(Enum):
    """Where the caller's number of an incoming call is looked for."""

    ASSERTED = "p-asserted-identity"
    REMOTE_PARTY = "remote-party-id"
    PREFERRED = "p-preferred-identity"
    FROM = "from"


EVERY_SOURCE: Final = (CallerSource.ASSERTED, CallerSource.REMOTE_PARTY, CallerSource.PREFERRED, CallerSource.FROM)


@dataclass(frozen=True, slots=True)
class TrunkProfile:
    """The rules of a trunk. A client's trunk names a profile, and may differ from it by single rules."""

    meaning: str                            # for people who choose one
    number_format: NumberFormat = NumberFormat.E164     # of the number that is called
    caller_format: NumberFormat = NumberFormat.E164     # of the caller id
    identity: Identity = Identity.NONE
    from_shows: FromShows = FromShows.NUMBER
    trusts: tuple[CallerSource, ...] = EVERY_SOURCE     # the first that has a number tells who calls
    diversion: Diverting = Diverting.DIVERSION          # the profile's alone


PROFILES: Final[Mapping[str, TrunkProfile]] = MappingProxyType({
    "generic": TrunkProfile("+7…, the caller id in From"),
    "plain": TrunkProfile(
        "7… without plus, the caller id in From",
        NumberFormat.PLAIN, NumberFormat.PLAIN,
    ),
    "registering-8": TrunkProfile(
        "one line that registers: numbers as people dial them (8…, 810…), From is the account",
        NumberFormat.NATIONAL, NumberFormat.PLAIN, from_shows=FromShows.ACCOUNT,
    ),
    "e164-plus-pai": TrunkProfile(
        "+7…, the caller id in From and P-Asserted-Identity",
        identity=Identity.ASSERTED,
    ),
    "e164-pai": TrunkProfile(
        "7… without plus, the caller id in From and P-Asserted-Identity",
        NumberFormat.PLAIN, NumberFormat.PLAIN, Identity.ASSERTED,
    ),
    "account-ppi": TrunkProfile(
        "+7…, From is the account, the caller id in P-Preferred-Identity, History-Info too (IMS and the like)",
        identity=Identity.PREFERRED, from_shows=FromShows.ACCOUNT, diversion=Diverting.BOTH,
    ),
    "rpid": TrunkProfile(
        "7… without plus, the caller id in From and Remote-Party-ID (older softswitches)",
        NumberFormat.PLAIN, NumberFormat.PLAIN, Identity.REMOTE_PARTY,
        trusts=(CallerSource.REMOTE_PARTY, CallerSource.ASSERTED, CallerSource.FROM),
    ),
    "zeros": TrunkProfile(
        "007…, the caller id in From (wholesale carriers)",
        NumberFormat.ZEROS, NumberFormat.PLAIN,
    ),
    "gateway": TrunkProfile(
        "a gateway or PBX of one's own: numbers go out as dialled, only From is believed",
        NumberFormat.DIALLED, NumberFormat.E164, trusts=(CallerSource.FROM,),
    ),
})  # fmt: skip
