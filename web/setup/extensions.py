"""Extensions of an office: who has which number, whether their phones are there, and the phones' credentials."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.entries import Entry, ExtensionEntry, login_of
from b2bua.apply.office import Edit, Office, Outdated, Part, Refused, Thing, said
from b2bua.cdr import ClientId
from b2bua.control import Control, RegisteredPhone
from b2bua.handouts import Handouts, Phone, new_password
from web import forms
from web.forms import Block
from web.setup.things import SetUp, ThingPages, change, home_of, matching, names_in, office_of, page_of
from web.signin import SignIn
from web.visits import Visit

ROWS = 100                             # on one page of the list


class ExtensionPages(ThingPages):
    part = Part.EXTENSION
    template = "extension.html"
    blocks = (
        Block("Basics", ("number", "name", "password", "crm_user")),
        Block("Where calls go on", ("forward_always", "on_no_answer", "on_busy", "on_unregistered", "ring_seconds")),
        Block("Outgoing calls", ("caller_id", "hide_caller_id", "max_calls", "outgoing_per_hour")),
        Block("The phone", ("login", "max_contacts", "ascii_only", "address"), folded=True),
    )

    def __init__(self, set_up: SetUp, sign_in: SignIn, control: Control, handouts: Handouts) -> None:
        super().__init__(set_up, sign_in)
        self._control = control
        self._handouts = handouts

    def routes(self) -> list[Route]:
        folder = "/clients/{client}/extensions"
        return [*super().routes(),
                Route(f"{folder}/{{key}}/password", self._sign_in.only(self.renew_password), methods=["POST"])]

    async def index(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        wanted = visit.request.query_params.get("q", "")
        found = matching(office.all_of(Part.EXTENSION), wanted)
        page = page_of(visit, len(found), ROWS)
        shown = found[(page - 1) * ROWS:page * ROWS]
        return await visit.page("extensions.html", client=office.client, here="extensions", wanted=wanted, page=page,
                                extensions=shown, found=len(found), is_more=len(found) > page * ROWS,
                                phones=_phones_of(self._control, office.client))

    def more(self, visit: Visit, office: Office, thing: Thing) -> Mapping[str, Any]:
        login = next((one.login for one in office.directory.extensions if one.number == thing.key), "")
        return {"login": login, "has_password": login in office.kept_logins,
                "phones": _phones_of(self._control, office.client)[thing.key]}

    def values_of(self, form: Mapping[str, str], entry: Entry | None, names: Sequence[str]) -> dict[str, Any]:
        """A new phone gets a password, unless it was given one or has an address of its own."""
        values = super().values_of(form, entry, names)
        if entry is None and "password" not in values and "address" not in values:
            values["password"] = new_password()
        return values

    async def done(self, visit: Visit, office: Office, thing: Thing, values: Mapping[str, Any]) -> Response:
        if "password" not in values:
            return await super().done(visit, office, thing, values)
        return await self._hand_out(visit, office.client, thing, str(values["password"]))

    async def renew_password(self, visit: Visit) -> Response:
        form = await visit.form()
        office = await office_of(visit, self._offices)
        thing, entry = self._there(visit, office)
        password = new_password()
        try:
            await change(visit, self._offices, office.client,
                         Edit(thing, {**said(entry), "password": password}, form.get("seen", "")))
        except Refused as refused:
            texts = forms.shown(entry, ExtensionEntry, names_in(self.blocks))
            return await self.form(visit, office, thing, self.blocks, texts, refused.complaints)
        except Outdated as outdated:
            return await self.outdated(visit, office, outdated, {})
        return await self._hand_out(visit, office.client, thing, password)

    async def _hand_out(self, visit: Visit, client: ClientId, thing: Thing, password: str) -> Response:
        await self._control.settings_changed()         # now: a phone that is refused once may not come again
        office = await self._offices.read(client)
        page = self._handouts.give([phone_of(office, thing.key, password)], asyncio.get_running_loop().time())
        return visit.redirect(f"{home_of(client)}/phones/{page}")


def phone_of(office: Office, number: str, password: str) -> Phone:
    entry = office.all_of(Part.EXTENSION)[number]
    assert office.entry is not None, "it has this extension"
    assert isinstance(entry, ExtensionEntry)
    return Phone(office.client, number, entry.name, login_of(office.entry, entry), password)


def _phones_of(control: Control, client: ClientId) -> defaultdict[str, list[RegisteredPhone]]:
    phones = defaultdict(list)
    for phone in control.registered_phones():
        if phone.client == client:
            phones[phone.extension].append(phone)
    return phones
