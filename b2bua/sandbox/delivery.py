"""Delivers webhooks when their time has come by the sandbox's clock."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from b2bua.sandbox.state import SandboxState
from b2bua.sandbox.webhooks import ANSWER_SECONDS


async def deliver_due(state: SandboxState) -> int:
    """One after the other; how many were tried."""
    tried = 0
    for account in list(state.accounts.values()):
        for delivery in account.webhooks.due(state.clock.now()):
            delivery.attempts, tried = delivery.attempts + 1, tried + 1
            hook = delivery.webhook
            status = await state.outgoing.post_form(hook.destination, delivery.body, ANSWER_SECONDS)
            now = state.clock.now()
            is_over = hook.is_answered(status, now) or hook.is_disabled or not delivery.put_off(status, now)
            if not is_over and hook.destination in account.webhooks.by_destination:
                account.webhooks.deliveries.append(delivery)
    return tried


async def keep_delivering(state: SandboxState) -> None:
    """Until it is cancelled. Wakes when something was written, when the clock is moved, and when something is due."""
    while True:
        state.news.clear()
        await deliver_due(state)
        times = [due for account in state.accounts.values() if (due := account.webhooks.next_due) is not None]
        wait = min(times) - state.clock.now() if times else None
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await state.news.wait()
