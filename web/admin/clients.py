"""The platform operator's list of clients: how each one is, another one added, one removed with all that is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.entries import ClientEntry
from b2bua.apply.office import Complaint, Edit, Office, Outdated, Part, Refused, Thing
from b2bua.cdr import ClientId
from b2bua.control import AtWork, Control
from b2bua.crm.health import CrmHealth
from b2bua.crm.user_keeper import UserKeeper
from b2bua.directory import Client
from b2bua.store.directory import DirectoryChanged
from b2bua.store.engine import StoreUnavailable
from web import forms
from web.crm_words import STATES
from web.forms import Block
from web.setup.things import SetUp, busy, change, name_of, names_in, office_of, page_of
from web.signin import SignIn
from web.visits import Visit

ROWS = 50                              # clients on one page
_OF_NEW = (Block("The office", ("id", "name", "country")), Block("Sign-in of the administrator", ("login", "password")))
_SETTINGS = Thing(Part.CLIENT)


@dataclass(frozen=True, slots=True)
class Row:
    """One client, in a line."""

    client: Client
    extensions: int
    now: AtWork
    crm: CrmHealth | None


class ClientPages:
    def __init__(self, set_up: SetUp, sign_in: SignIn, control: Control, users: UserKeeper,
                 health_of: Callable[[ClientId], CrmHealth | None]) -> None:
        self._offices = set_up.offices
        self._sign_in = sign_in
        self._control = control
        self._users = users
        self._health_of = health_of

    def routes(self) -> list[Route]:
        only = self._sign_in.operator_only
        return [
            Route("/clients", only(self.show)),
            Route("/clients", only(self.add), methods=["POST"]),
            Route("/clients/{client}/remove", only(self.ask)),
            Route("/clients/{client}/remove", only(self.remove), methods=["POST"]),
        ]

    async def show(self, visit: Visit) -> Response:
        return await self._page(visit, forms.shown(None, ClientEntry, names_in(_OF_NEW)))

    async def add(self, visit: Visit) -> Response:
        form = await visit.form()
        names = names_in(_OF_NEW)
        values = forms.values_of(form, ClientEntry, names)
        try:
            await self._offices.add(values, visit.who)
        except Refused as refused:
            return await self._page(visit, forms.sent(form, ClientEntry, names), refused.complaints)
        except DirectoryChanged:
            raise busy() from None
        with suppress(StoreUnavailable):               # else within a second or two, as every change
            await self._control.settings_changed()     # now: its administrator may be waiting to sign in
        return visit.redirect(f"/clients/{values['id']}", "client-added")

    async def ask(self, visit: Visit) -> Response:
        return await self._asked(visit, await office_of(visit, self._offices))

    async def remove(self, visit: Visit) -> Response:
        """Only by who writes its name: everything of it goes, and nothing brings it back."""
        form = await visit.form()
        office = await office_of(visit, self._offices)
        if form.get("name", "").strip() != office.client:
            return await self._asked(visit, office, status=422)
        try:
            await change(visit, self._offices, office.client, Edit(_SETTINGS, None, form.get("seen", "")))
        except Outdated:
            return await self._asked(visit, office, status=409)
        return visit.redirect("/clients", "client-removed")

    async def _page(self, visit: Visit, texts: Mapping[str, str], complaints: Sequence[Complaint] = ()) -> Response:
        directory = self._users.directory
        wanted = visit.request.query_params.get("q", "")
        sought = wanted.strip().casefold()
        found = [one for one in directory.clients if sought in one.id.casefold() or sought in one.name.casefold()]
        page = page_of(visit, len(found), ROWS)
        form = forms.made(visit.say, ClientEntry, _OF_NEW, texts, "", complaints, is_new=True,
                          name_of=lambda one: name_of(visit, one.thing))
        return await visit.page(
            "clients.html", 422 if complaints else 200, rows=await self._rows(found[(page - 1) * ROWS:page * ROWS]),
            found=len(found), page=page, is_more=len(found) > page * ROWS, wanted=wanted, states=STATES, form=form)

    async def _rows(self, clients: Sequence[Client]) -> list[Row]:
        rows = []
        for one in clients:
            own = self._users.directory.extensions_of.get(one.id, ())
            rows.append(Row(one, len(own), self._control.at_work(one.id), self._health_of(one.id)))
            await asyncio.sleep(0)     # calls go on meanwhile: some have hundreds of phones
        return rows

    async def _asked(self, visit: Visit, office: Office, status: int = 200) -> Response:
        of = office.directory
        return await visit.page(
            "remove_client.html", status, client=office.client, here="", name=of.clients[0].name, wrong=status == 422,
            changed=status == 409, seen=office.digest(_SETTINGS), extensions=len(of.extensions), groups=len(of.groups),
            numbers=len(of.numbers), trunks=len(of.trunks), has_crm=of.clients[0].crm is not None)
