"""The pop-up of a ringing call (F1): `POST /api/v2/events/`; amoCRM finds the card itself."""

from __future__ import annotations

from b2bua.crm.amocrm.api import AmoApi
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.port import PopUp

POP_UP_SECONDS = 2.0                   # later the phone has stopped ringing


async def show(api: AmoApi, pop_up: PopUp) -> None:
    """Nothing without users: amoCRM would show it to everybody."""
    if not pop_up.users or not pop_up.phone:
        return
    event = {"type": "phone_call", "phone_number": pop_up.phone, "users": list(pop_up.users)}
    answer = await api.post("/api/v2/events/", {"add": [event]}, Lane.POP_UP, POP_UP_SECONDS)
    answer.accepted()
