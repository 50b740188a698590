"""Extensions as a sheet: out as CSV, and in again after a look at what that would change."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.difference import Change
from b2bua.apply.extension_csv import LARGEST, MOST_ROWS, BadSheet, Sheet, read, written
from b2bua.apply.office import Office, Part, Refused, Thing
from b2bua.control import Control
from b2bua.handouts import Handouts, new_password
from web import forms
from web.office_words import KINDS
from web.pages import NO_STORE
from web.setup.extensions import phone_of
from web.setup.things import SetUp, change, home_of, name_of, office_of, path_of
from web.signin import SignIn
from web.visits import Visit

LARGEST_FORM = 6 * LARGEST + 10_000    # bytes: Cyrillic takes six in a form
MOST_SHOWN = 200                       # changes, and faults, of one look


@dataclass(frozen=True, slots=True)
class Complaint:
    line: int                          # 0: it is no row's
    where: str
    text: str


class SheetPages:
    def __init__(self, set_up: SetUp, sign_in: SignIn, control: Control, handouts: Handouts) -> None:
        self._control = control
        self._offices = set_up.offices
        self._sign_in = sign_in
        self._handouts = handouts

    def routes(self) -> list[Route]:
        folder, only = "/clients/{client}/extensions", self._sign_in.only
        return [
            Route(f"{folder}.csv", only(self.download)),
            Route(f"{folder}/import", only(self.show)),
            Route(f"{folder}/import", only(self.take), methods=["POST"]),
        ]

    async def download(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        delimiter = "," if visit.request.query_params.get("delimiter") == "comma" else ";"
        text = await asyncio.to_thread(written, office, delimiter)
        headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="extensions-{office.client}.csv"'}
        return Response(await asyncio.to_thread(text.encode), headers=headers, media_type="text/csv")

    async def show(self, visit: Visit) -> Response:
        return await self._page(visit, await office_of(visit, self._offices))

    async def take(self, visit: Visit) -> Response:
        """Shows what would change; whoever has seen just that, and says so, gets it."""
        form = await visit.form(LARGEST_FORM)
        office = await office_of(visit, self._offices)
        text, removes_others = form.get("sheet", ""), bool(form.get("remove"))
        try:
            sheet = await asyncio.to_thread(read, text, office, new_password, removes_others=removes_others)
            changes = await self._offices.check(office.client, sheet.edits)
            seen = await asyncio.to_thread(_digest, changes)
            if form.get("seen") != seen:
                return await self._page(visit, office, text, removes_others=removes_others, changes=changes, seen=seen,
                                        passwords=len(sheet.made))
            await change(visit, self._offices, office.client, *sheet.edits)
        except BadSheet as bad:
            complaints = [Complaint(one.line, one.field, forms.said_of(visit.say, one.problem, one.remedy))
                          for one in bad.faults]
            return await self._page(visit, office, text, 422, removes_others=removes_others, complaints=complaints)
        except Refused as refused:
            complaints = [Complaint(sheet.lines[one.edit] if one.edit is not None else 0,
                                    one.field if one.edit is not None else name_of(visit, one.thing),
                                    forms.in_words(visit.say, one)) for one in refused.complaints]
            return await self._page(visit, office, text, 422, removes_others=removes_others, complaints=complaints)
        return await self._done(visit, office, sheet)

    async def _done(self, visit: Visit, office: Office, sheet: Sheet) -> Response:
        if not sheet.made:
            return visit.redirect(path_of(office.client, Thing(Part.EXTENSION)), "imported")
        await self._control.settings_changed()         # as for a single one
        after = await self._offices.read(office.client)
        phones = [phone_of(after, number, password) for number, password in sheet.made.items()]
        page = self._handouts.give(phones, asyncio.get_running_loop().time())
        return visit.redirect(f"{home_of(office.client)}/phones/{page}", "imported")

    async def _page(self, visit: Visit, office: Office, text: str = "", status: int = 200, *,
                    removes_others: bool = False, changes: Sequence[Change] | None = None, seen: str = "",
                    passwords: int = 0, complaints: Sequence[Complaint] = ()) -> Response:
        shown = [(one.sign, _what(visit, one), [forms.label_of(visit.say, name) for name in one.fields])
                 for one in (changes or ())[:MOST_SHOWN]]
        return await visit.page("sheet.html", status, client=office.client, here="extensions", sheet=text,
                                removes_others=removes_others, changes=shown if changes is not None else None,
                                count=len(changes or ()), seen=seen, passwords=passwords, rows=MOST_ROWS,
                                largest=LARGEST, complaints=complaints[:MOST_SHOWN],
                                more=max(len(complaints) - MOST_SHOWN, 0))


def _what(visit: Visit, change: Change) -> str:
    kind, _, key = change.what.partition(" ")
    return f"{visit.say(KINDS.get(kind, kind))} {key.partition('/')[2]}"


def _digest(changes: Sequence[Change]) -> str:
    """Of what would change: whoever confirms it has seen this, and nothing else."""
    told = [f"{one} {[(value.name, value.before, value.after) for value in one.values]}" for one in changes]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]
