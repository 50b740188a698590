"""An office's own settings. What keeps the costs within limits is the operator's to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.entries import ClientEntry
from b2bua.apply.office import Complaint, Office, Part, Thing
from b2bua.phrases import Phrase
from web import forms
from web.forms import Block
from web.passwords import Passwords
from web.setup.things import SetUp, ThingPages, names_in, office_of
from web.signin import SignIn
from web.visits import Visit

SPARE_LIMITS = 3                       # empty rows for further ones
MOST_LIMITS = 200
_WRONG_PASSWORD = Complaint(Thing(Part.CLIENT), "password", Phrase("the current password is wrong"),
                            Phrase("Give the one that you have signed in with."), 0)
_LIMIT = re.compile(r"limit\[(\d{1,3})\]\.(\w+)")
_COLUMNS = ("prefix", "max_calls", "per_hour", "refused")


class SettingsPages(ThingPages):
    part = Part.CLIENT
    template = "settings.html"
    blocks = (
        Block("The office", ("name", "country", "caller_id", "record", "music_on_hold")),
        Block("Calls between colleagues", ("pickup_code", "group_pickup_code", "show_callers")),
        Block("Calls from amoCRM", ("click2call_answer_after",)),
        Block("Calls sent outside", ("forward_outside",)),
        Block("Sign-in of the administrator", ("login", "password")),
    )

    def __init__(self, set_up: SetUp, sign_in: SignIn, passwords: Passwords) -> None:
        super().__init__(set_up, sign_in)
        self._passwords = passwords

    def routes(self) -> list[Route]:
        path = "/clients/{client}/settings"
        return [Route(path, self._sign_in.only(self.index)),
                Route(path, self._sign_in.only(self.save), methods=["POST"])]

    async def index(self, visit: Visit) -> Response:
        return await self.show(visit)

    async def save(self, visit: Visit) -> Response:
        """Whoever changes the password that they have signed in with says it once more."""
        form = packed(await visit.form())
        office = await office_of(visit, self._offices)
        thing = Thing(Part.CLIENT)
        known = office.directory.clients[0].password_hash
        if (form.get("password") and visit.client is not None
                and not await self._passwords.is_right(known, form.get("current", ""))):
            blocks = self.blocks_for(visit, office, form)
            texts = forms.sent(form, ClientEntry, names_in(blocks))
            return await self.form(visit, office, thing, blocks, texts, [_WRONG_PASSWORD], form.get("seen", ""))
        return await self._save(visit, office, thing, form)

    async def done(self, visit: Visit, office: Office, thing: Thing, values: Mapping[str, Any]) -> Response:
        if "password" in values and visit.client is not None:
            return visit.redirect("/sign-in")          # with the old password went all of its sessions
        return await super().done(visit, office, thing, values)

    def blocks_for(self, visit: Visit, office: Office, form: Mapping[str, str] | None = None) -> Sequence[Block]:
        if visit.client is not None:
            return self.blocks
        entry = office.entry
        rows = _rows_in(form) if form is not None else (len(entry.limit) if entry is not None else 0) + SPARE_LIMITS
        limits = tuple(f"limit[{row}].{column}" for row in range(rows) for column in _COLUMNS)
        return (*self.blocks, Block("Limits", ("max_calls", "outgoing_per_hour")),
                Block("Limits for certain numbers", limits))

    def more(self, visit: Visit, office: Office, thing: Thing) -> Mapping[str, Any]:
        client = office.directory.clients[0]
        return {"asks_current": visit.client is not None, "has_password": bool(client.password_hash),
                "settings": office.entry}

    def suggestions(self, names: Sequence[str]) -> Mapping[str, str]:
        return {"music_on_hold": "sounds"}

    async def lists(self, office: Office) -> Mapping[str, list[tuple[str, str]]]:
        return {"sounds": [(name, "") for name in await self._offices.sounds()]}


def packed(form: Mapping[str, str]) -> dict[str, str]:
    """Rows of limits without those that are empty, so that each is where the core will look for it."""
    rows: dict[int, dict[str, str]] = {}
    for name, text in form.items():
        if (found := _LIMIT.fullmatch(name)) and text.strip():
            rows.setdefault(int(found[1]), {})[found[2]] = text
    kept = {name: text for name, text in form.items() if not _LIMIT.fullmatch(name)}
    for place, row in enumerate(rows[number] for number in sorted(rows)):
        kept |= {f"limit[{place}].{column}": text for column, text in row.items()}
    return kept


def _rows_in(form: Mapping[str, str]) -> int:
    return min(max((int(found[1]) + 1 for name in form if (found := _LIMIT.fullmatch(name))), default=0),
               MOST_LIMITS) + SPARE_LIMITS
