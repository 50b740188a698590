"""A whole office whose CRM is the real adapter, with its outbox and the stand-in amoCRM, on the loop's own time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from b2bua.cdr import ClientId
from b2bua.crm.outbox import Outbox
from b2bua.crm.port import Crm
from tests.support.amo_post import AmoPost
from tests.support.office import FakeCrm, Office, open_office


class AmoCalls(FakeCrm):
    """The calls' CRM is the real adapter."""

    def __init__(self, post: AmoPost) -> None:
        super().__init__()
        self.post = post

    def crm_of(self, client: ClientId) -> Crm | None:
        return self.post.crm_of(client)


@asynccontextmanager
async def office_of(post: AmoPost) -> AsyncIterator[tuple[Office, Outbox]]:
    """Its phones, and what delivers."""
    async with AsyncExitStack() as parts:
        outbox = await parts.enter_async_context(post.running())
        office = await parts.enter_async_context(open_office(crm=AmoCalls(post)))
        (client,) = office.books.directory.clients
        office.change(clients=(replace(client, crm=post.account),))
        await office.pbx.settings_changed()
        yield office, outbox


def hand_over(office: Office, post: AmoPost, outbox: Outbox) -> None:
    """What the last calls owe, as the journal would in the transaction of their records."""
    for write in office.books.writes:
        post.store.add(write)
    office.books.writes.clear()
    outbox.wake()


async def deliver(office: Office, post: AmoPost, outbox: Outbox) -> None:
    """The same, until it is there."""
    hand_over(office, post, outbox)
    await post.settled()
