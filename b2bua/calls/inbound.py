"""A trunk calls one of our numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.calls.call import CallInProgress
from b2bua.calls.connect import connect, to_its_end
from b2bua.directory import Directory, Number
from b2bua.ua.leg import IncomingLeg, while_up

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard


async def inbound_call(
    caller: IncomingLeg, pbx: Switchboard, call: CallInProgress, directory: Directory, did: Number
) -> None:
    """Ask the CRM who calls, ring who should answer, connect, report."""
    async with to_its_end(pbx, call, caller), pbx.media.open(call.id) as media, caller, while_up(caller) as set_up:
        call.is_for_people = did.is_for_people
        call.contact = await pbx.find_contact(call)           # patient for 1.5 s, then None
        await connect(pbx, call, caller, pbx.plan_for_did(directory, did, call.contact), media, set_up)
