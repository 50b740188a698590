"""amoCRM read ahead: cards page by page, cards by id, and its webhooks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from b2bua.crm.amocrm import contacts, deals
from b2bua.crm.amocrm.api import AmoApi, Params
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import PATHS, Row, as_row, embedded, integer, text
from b2bua.crm.people import CARDS_OF_A_PAGE, Holder, Page
from b2bua.crm.port import Contact, CrmUnauthorized, EntityKind
from b2bua.numbers import normalise

READ_SECONDS = 15.0                    # a page takes amoCRM some seconds at worst; writes wait meanwhile
ROWS_AT_ONCE = 5                       # some 0.5 ms of reading numbers; then calls have their turn
MOST_WEBHOOKS = 100                    # of an account
HOOK_SETTINGS = tuple(
    f"{event}_{kind}"
    for kind in ("contact", "company", "lead") for event in ("add", "update", "delete", "responsible", "restore")
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AmoPeople:
    """The `People` of crm/people for one account."""

    api: AmoApi
    country: str                       # how numbers without a country code are read

    async def page(self, kind: EntityKind, number: int) -> Page:
        path = PATHS[kind]
        params: Params = [("order[updated_at]", "desc"), ("limit", CARDS_OF_A_PAGE), ("page", number)]
        answer = await self.api.get(f"/api/v4/{path}", params, Lane.SYNC, READ_SECONDS)
        if answer.status == 404:
            raise CrmUnauthorized(f"{path}: 404, the account is not here any more")
        body = answer.accepted()
        holders = []
        for index, row in enumerate(embedded(body, path)[:CARDS_OF_A_PAGE]):
            if index % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if (holder := self._holder(kind, row)) is not None:
                holders.append(holder)
        return Page(holders, bool(holders) and "next" in as_row(as_row(body).get("_links")))

    async def read(self, kind: EntityKind, card: int) -> Holder | None:
        answer = await self.api.get(f"/api/v4/{PATHS[kind]}/{card}", [], Lane.SYNC, READ_SECONDS)
        if answer.status in (204, 404):
            return None
        row = as_row(answer.accepted())
        return None if row.get("is_deleted") is True or integer(row, "id") != card else self._holder(kind, row)

    async def find(self, phone: str) -> Contact | None:
        return await contacts.find(self.api, phone, self.country, Lane.SYNC)

    async def subscribe(self, address: str, *, on: bool) -> None:
        params: Params = [("limit", MOST_WEBHOOKS)]
        listed = await self.api.get("/api/v4/webhooks", params, Lane.SYNC, READ_SECONDS)
        hooks = embedded(listed.accepted(), "webhooks")
        ours = next((hook for hook in hooks if text(hook, "destination") == address), None)
        if on and (ours is None or ours.get("disabled") is True or not _covers(ours)):
            body = {"destination": address, "settings": list(HOOK_SETTINGS), "sort": 10}
            answer = await self.api.post("/api/v4/webhooks", body, Lane.SYNC, READ_SECONDS)
            answer.accepted()
            log.info("amoCRM tells its changes from now on")
        elif not on and ours is not None:
            answer = await self.api.delete("/api/v4/webhooks", {"destination": address}, Lane.SYNC, READ_SECONDS)
            answer.accepted()
            log.info("amoCRM does not tell its changes any more")

    def _holder(self, kind: EntityKind, row: Row) -> Holder | None:
        if integer(row, "id") is None:
            return None
        if kind is EntityKind.LEAD:
            phones = deals.numbers_of(row, self.country)
        else:
            phones = [normalise(written, self.country) for written in contacts.phones_of(row)]
        if row.get("is_deleted") is True:
            phones = []
        return Holder(contacts.as_contact(kind, row), tuple(dict.fromkeys(phones)), integer(row, "updated_at") or 0)


def _covers(hook: Row) -> bool:
    settings = hook.get("settings")
    return isinstance(settings, list) and set(HOOK_SETTINGS) <= set(map(str, settings))
