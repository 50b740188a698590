"""What keeps the CRMs from learning of the calls, and does not pass by itself in a few minutes: for people to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from b2bua.cdr import ClientId
from b2bua.crm.outbox import Illness

ILL_FOR = timedelta(minutes=10)        # unreachable, slow or refusing for so long; blocked or unpaid: at once
LATE_AFTER = timedelta(hours=1)        # since the oldest write that waits was owed


def crm_alarms(
    ill: Mapping[ClientId, Illness], oldest_of: Mapping[ClientId, datetime], now: datetime
) -> Sequence[str]:
    """One for each client, as long as it lasts; `oldest_of`: when a client's oldest write that waits was made."""
    sick = {
        client: f"{client}: the CRM is not written to since {_clock(one.since)}: {one.why}"
        for client, one in ill.items() if one.needs_a_person or now - one.since >= ILL_FOR
    }
    late = {
        client: f"{client}: the CRM waits for calls since {_clock(oldest)}; smartswitch outbox lists them"
        for client, oldest in oldest_of.items() if now - oldest >= LATE_AFTER
    }
    return list((late | sick).values())


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M")
