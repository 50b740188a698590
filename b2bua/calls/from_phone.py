"""One of our phones dials: a colleague (internal) or the world (outbound)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.calls.call import CallInProgress
from b2bua.calls.connect import connect, to_its_end
from b2bua.routing.plan import NoRoute, Plan
from b2bua.ua.leg import IncomingLeg, while_up

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard


async def call_from_phone(caller: IncomingLeg, pbx: Switchboard, call: CallInProgress, plan: Plan | NoRoute) -> None:
    """The plan is made already, as it tells an internal call from an outside one: connect, report."""
    async with to_its_end(pbx, call, caller), pbx.media.open(call.id) as media, caller, while_up(caller) as set_up:
        await connect(pbx, call, caller, plan, media, set_up)
