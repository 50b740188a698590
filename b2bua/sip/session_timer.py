"""How long a session lives without a refresh, and who refreshes it: the rules of RFC 4028, without a clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from b2bua.sip.effects import Party

if TYPE_CHECKING:
    from b2bua.sip.message import Request, Response

MIN_SE_FLOOR = 90      # RFC 4028 §5: nobody may ask for less


@dataclass(frozen=True, slots=True)
class SessionTimerPolicy:
    """What we ask for and accept. Tame by default: a peer's wish is granted, none of our own is made."""

    expires: int = 1800
    min_se: int = MIN_SE_FLOOR
    ask: bool = False


@dataclass(frozen=True, slots=True)
class Agreement:
    """The session interval in force, and who refreshes."""

    interval: int
    refresher: Party

    @property
    def refresh_after(self) -> float:
        return self.interval / 2

    @property
    def ends_after(self) -> float:
        """The party that waits hangs up a little before the end (RFC 4028 §10)."""
        return self.interval - min(32.0, self.interval / 3)


def is_too_brief(policy: SessionTimerPolicy, request: Request) -> bool:
    """Whether a request deserves 422.

    Deviation: also when the UAC does not support timers itself (RFC 4028 §9 lets that pass), as we would have
    to refresh as often as a stranger says.
    """
    asked = request.session_expires
    return asked is not None and asked.seconds < policy.min_se


def as_uas(policy: SessionTimerPolicy, request: Request) -> Agreement | None:
    """What our 2xx grants (RFC 4028 §9, table 2)."""
    asked = request.session_expires
    peer_can = "timer" in request.supported
    if asked is None:
        return Agreement(policy.expires, Party.REMOTE) if policy.ask and peer_can else None
    uac_refreshes = peer_can and asked.refresher != "uas"
    return Agreement(asked.seconds, Party.REMOTE if uac_refreshes else Party.LOCAL)


def granted(agreement: Agreement | None) -> tuple[tuple[str, str], ...]:
    """The headers that say so in our 2xx."""
    if agreement is None:
        return ()
    if agreement.refresher is Party.LOCAL:
        return (("Session-Expires", f"{agreement.interval};refresher=uas"),)
    return ("Session-Expires", f"{agreement.interval};refresher=uac"), ("Require", "timer")


def as_uac(policy: SessionTimerPolicy, response: Response) -> Agreement | None:
    """What a 2xx to our INVITE or UPDATE agreed (RFC 4028 §7.2); none said, none in force."""
    told = response.session_expires
    if told is None:
        return None
    # Never shorter than our own minimum: a peer must not drive us to refresh without pause.
    return Agreement(max(told.seconds, policy.min_se), Party.REMOTE if told.refresher == "uas" else Party.LOCAL)


def asked(policy: SessionTimerPolicy, agreement: Agreement | None, min_se: int) -> Iterable[tuple[str, str]]:
    """The headers of a request that sets up or refreshes a session; `min_se` is what a 422 taught us (§7.4)."""
    if agreement is not None:
        refresher = "uac" if agreement.refresher is Party.LOCAL else "uas"
        yield "Session-Expires", f"{max(agreement.interval, min_se)};refresher={refresher}"
    elif policy.ask or min_se:
        yield "Session-Expires", str(max(policy.expires, min_se))
    else:
        return
    if max(policy.min_se, min_se) > MIN_SE_FLOOR:
        yield "Min-SE", str(max(policy.min_se, min_se))
