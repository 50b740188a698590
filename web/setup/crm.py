"""An office's amoCRM: how it is entered, whether that works, what is wrong and what to do; and its widget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import structlog
from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.entries import CrmEntry, Entry
from b2bua.apply.office import Complaint, Office, Part, Thing
from b2bua.cdr import ClientId
from b2bua.crm.health import CrmHealth
from b2bua.crm.vendor import VENDOR
from b2bua.crm.widget_account import origin_of
from b2bua.phrases import Phrase
from b2bua.store.outbox import OutboxRows
from b2bua.widget_archive import ARCHIVE_NAME, UnusableUrl, build, server_url
from web import forms
from web.amocrm_hooks import CrmConnections
from web.crm_words import ENDS_SOON, STATES, SYNC
from web.forms import Block
from web.pages import NO_STORE
from web.problems import Problem
from web.setup.things import SetUp, ThingPages, client_of, names_in, office_of, path_of
from web.signin import SignIn
from web.visits import Visit

LONGEST_PASTED = 8_192                 # characters of a code, or of the address that it came with
MOST_FIELDS = 20                       # of that address
EXCHANGE_SECONDS = 8.0                 # that the page waits for a code to be exchanged

_CRM = Thing(Part.CRM)
_ACCESS = "access"                     # name of the input for `token`, which on our pages is the form's own

log = structlog.get_logger(__name__)


class CrmPages(ThingPages):
    part = Part.CRM
    template = "crm.html"
    blocks = (
        Block("Account", ("base_url", "default_user")),
        Block("Integration", ("client_id", "client_secret", "redirect_uri")),
        Block("Long-lived token instead of the integration", ("token",), folded=True),
        Block("Widget", ("widget", "users_from")),
        Block("Calls and the CRM", ("patience", "responsible_ring_seconds", "pop_up", "sync", "sync_minutes",
                                    "sync_cards", "webhooks"), folded=True),
    )

    def __init__(
        self, set_up: SetUp, sign_in: SignIn, health_of: Callable[[ClientId], CrmHealth | None],
        connections: CrmConnections, outbox: OutboxRows,
    ) -> None:
        super().__init__(set_up, sign_in)
        self._health_of = health_of
        self._connections = connections
        self._outbox = outbox

    def routes(self) -> list[Route]:
        folder, only = "/clients/{client}/crm", self._sign_in.only
        return [
            Route(folder, only(self.show)),
            Route(folder, only(self.save), methods=["POST"]),
            Route(f"{folder}/remove", only(self.ask)),
            Route(f"{folder}/remove", only(self.remove), methods=["POST"]),
            Route(f"{folder}/code", only(self.code), methods=["POST"]),
            Route(f"{folder}/{ARCHIVE_NAME}", only(self.archive)),
        ]

    async def index(self, visit: Visit) -> Response:
        return await self.show(visit)

    async def show(self, visit: Visit) -> Response:
        """Of an office without a CRM, too: it is entered here."""
        office = await office_of(visit, self._offices)
        return await self._page(visit, office, self._texts(office))

    async def save(self, visit: Visit) -> Response:
        form = await visit.form()
        form = {**form, "token": form.get(_ACCESS, "")}
        office = await office_of(visit, self._offices)
        if visit.client is not None and (wrong := _not_the_vendors(form.get("base_url", ""), office)):
            texts = forms.sent(form, CrmEntry, names_in(self.blocks))
            return await self._page(visit, office, texts, [wrong], form.get("seen", ""))
        return await self._save(visit, office, _CRM, form)

    def values_of(self, form: Mapping[str, str], entry: Entry | None, names: Sequence[str]) -> dict[str, Any]:
        """A secret goes by its switch, or with the integration that it is of; otherwise nothing said is nothing new."""
        values = super().values_of(form, entry, names)
        if form.get("forget_token"):
            values["token"] = ""
        if "client_id" not in values:
            values["client_secret"] = ""
        return values

    async def form(self, visit: Visit, office: Office, thing: Thing, blocks: Sequence[Block],
                   texts: Mapping[str, str], complaints: Sequence[Complaint] = (), seen: str | None = None) -> Response:
        return await self._page(visit, office, texts, complaints, seen)

    async def code(self, visit: Visit) -> Response:
        """The code itself, or the whole address that amoCRM has sent the browser to."""
        form = await visit.form()
        client, text = client_of(visit), form.get("code", "")
        code, host = _pasted(text)
        try:
            await self._connections.code_pasted(client, code, host, EXCHANGE_SECONDS)
        except LookupError as error:
            log.info("a pasted code for the CRM was refused", client=client, by=visit.who, why=str(error))
            office = await office_of(visit, self._offices)
            return await self._page(visit, office, self._texts(office), wrong_code=text[:LONGEST_PASTED])
        log.info("a code for the CRM was pasted", client=client, by=visit.who)
        health = self._health_of(client)
        is_connected = health is not None and health.status.is_connected and not health.code_trouble
        return visit.redirect(path_of(client, _CRM), "crm-connected" if is_connected else "")

    async def archive(self, visit: Visit) -> Response:
        await office_of(visit, self._offices)
        try:
            packed = await asyncio.to_thread(build, self._set_up.public_url)
        except UnusableUrl as error:
            raise Problem(404, "There is no widget for this server yet", "Have the operator of the platform set "
                          "web.public_url to an https address.", detail=str(error)) from None
        headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="{ARCHIVE_NAME}"'}
        return Response(packed, headers=headers, media_type="application/zip")

    def _texts(self, office: Office) -> dict[str, str]:
        """Of the form, as long as nothing was sent."""
        entry = office.get(_CRM)
        texts = forms.shown(entry, CrmEntry, names_in(self.blocks))
        return texts if entry is not None else texts | {"redirect_uri": self._redirect_address}

    @property
    def _redirect_address(self) -> str:
        return f"{self._set_up.public_url}/amocrm/oauth"

    async def _page(self, visit: Visit, office: Office, texts: Mapping[str, str],
                    complaints: Sequence[Complaint] = (), seen: str | None = None,
                    wrong_code: str | None = None) -> Response:
        is_new = office.get(_CRM) is None
        form = forms.made(visit.say, CrmEntry, self.blocks, texts, office.digest(_CRM) if seen is None else seen,
                          complaints, is_new=is_new)
        form = replace(form, blocks=tuple(replace(block, inputs=tuple(
            replace(one, name=_ACCESS) if one.name == "token" else one for one in block.inputs))
            for block in form.blocks))
        health = self._health_of(office.client)
        account = office.directory.clients[0].crm
        return await visit.page(
            self.template, 422 if complaints or wrong_code is not None else 200, client=office.client, here="crm",
            form=form, is_new=is_new, lists={}, wrong_code=wrong_code, health=health, states=STATES, sync=SYNC,
            owed=await self._outbox.owed_to(office.client), ends_soon=ENDS_SOON,
            by_oauth=account is not None and bool(account.client_secret and not account.token),
            redirect=self._redirect_address, has_widget=_can_have_widget(self._set_up.public_url),
            widget_account=account.account if account is not None else None,
            has_token=account is not None and bool(account.token))


def _not_the_vendors(url: str, office: Office) -> Complaint | None:
    """A client's administrator sends no requests of ours to wherever they like; what is there already may stay."""
    known, url = office.get(_CRM), url.strip().rstrip("/")
    if isinstance(known, CrmEntry) and url == known.base_url:
        return None
    if VENDOR.fullmatch(origin_of(url).removeprefix("https://")):
        return None
    return Complaint(_CRM, "base_url", Phrase("{url!r} is no address of amoCRM or Kommo", url=url[:200]),
                     Phrase("Write it like https://NAME.amocrm.ru."), 0)


def _pasted(text: str) -> tuple[str, str]:
    """Code and host of the account."""
    text = text.strip()[:LONGEST_PASTED]
    if "?" not in text:
        return text, ""
    try:
        given = parse_qs(text.partition("?")[2].partition("#")[0], max_num_fields=MOST_FIELDS)
    except ValueError:
        return "", ""
    host = given.get("referer", [""])[0]
    return given.get("code", [""])[0], host.removeprefix("https://").rstrip("/").lower()


def _can_have_widget(public_url: str) -> bool:
    try:
        server_url(public_url)
    except UnusableUrl:
        return False
    return True
