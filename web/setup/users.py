"""Users of an office's CRM and their extensions: who has which, what is wrong with that, and the map itself where it is
kept here."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.entries import CrmEntry, ExtensionEntry
from b2bua.apply.office import Edit, Office, Outdated, Part, Refused, Thing, said
from b2bua.crm.user_keeper import UserKeeper
from b2bua.crm.users import ListedUser, UserListing, user_id
from b2bua.directory import UsersFrom
from web import forms
from web.problems import Problem
from web.setup.things import SetUp, change, client_of, name_of, office_of, page_of
from web.signin import SignIn
from web.visits import Visit

ROWS = 50                              # users on one page: of all that are saved at once
MOST_SUGGESTED = 200                   # extensions
REFRESH_SECONDS = 15.0                 # that the page waits for the CRM
_FIELD = "user-"                       # and the user's id


@dataclass(frozen=True, slots=True)
class Row:
    user: ListedUser
    text: str                          # of the input
    complaint: str


class UserPages:
    def __init__(self, set_up: SetUp, sign_in: SignIn, users: UserKeeper) -> None:
        self._offices = set_up.offices
        self._sign_in = sign_in
        self._users = users

    def routes(self) -> list[Route]:
        path, only = "/clients/{client}/users", self._sign_in.only
        return [
            Route(path, only(self.show)),
            Route(path, only(self.save), methods=["POST"]),
            Route(f"{path}/refresh", only(self.refresh), methods=["POST"]),
        ]

    async def show(self, visit: Visit) -> Response:
        return await self._page(visit, await office_of(visit, self._offices))

    async def save(self, visit: Visit) -> Response:
        """Of the users on the page; the others keep theirs."""
        form = await visit.form()
        office = await office_of(visit, self._offices)
        if not _is_ours(office):
            raise Problem(409, "Whose extension is whose is not said here", "It is in the widget's settings in amoCRM.")
        wanted = {user: text.strip() for name, text in form.items()
                  if name.startswith(_FIELD) and (user := user_id(name.removeprefix(_FIELD))) is not None}
        names = {one.id: one.name for one in (await asyncio.to_thread(self._listing, office)).users}
        complaints = dict(_complaints(visit, office, wanted, names))
        if complaints:
            return await self._page(visit, office, wanted, complaints)
        edits = list(_edits(office, wanted))
        try:
            await change(visit, self._offices, office.client, *edits)
        except Refused as refused:
            whole = [f"{name_of(visit, one.thing)}: {forms.in_words(visit.say, one)}" for one in refused.complaints]
            return await self._page(visit, office, wanted, whole=whole)
        except Outdated:
            raise Problem(409, "Somebody else has changed these extensions just now",
                          "Look at them again first.") from None
        return visit.redirect(visit.request.url.path, "saved")

    async def refresh(self, visit: Visit) -> Response:
        await visit.form()
        client = client_of(visit)
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                await self._users.refresh(client)
        except LookupError:
            raise Problem(409, "This office has no CRM", "Connect amoCRM first.") from None
        except TimeoutError:
            raise Problem(504, "amoCRM takes long to answer", "Try again later; users are read every hour anyway.",
                          retry_after=60) from None
        return visit.redirect(visit.request.url.path.removesuffix("/refresh"))

    async def _page(self, visit: Visit, office: Office, wanted: Mapping[int, str] = {},
                    complaints: Mapping[int, str] = {}, whole: list[str] | None = None) -> Response:
        if office.get(Thing(Part.CRM)) is None:
            return await visit.page("no_crm.html", client=office.client, here="users")
        listing = await asyncio.to_thread(self._listing, office)       # of thousands it takes milliseconds
        search = visit.request.query_params.get("q", "")
        sought = search.strip().casefold()
        found = [user for user in listing.users if sought in f"{user.name} {user.extension or ''}".casefold()]
        page = page_of(visit, len(found), ROWS)
        shown = [user for user in found if user.id in wanted] if wanted else found[(page - 1) * ROWS:page * ROWS]
        now = _now(office)
        rows = [Row(user, wanted.get(user.id, now.get(user.id, "")), complaints.get(user.id, "")) for user in shown]
        return await visit.page(
            "users.html", 422 if complaints or whole else 200, client=office.client, here="users", rows=rows,
            found=len(found), page=page, is_more=len(found) > page * ROWS, wanted=search,
            faults=listing.faults, read_at=listing.read_at, is_ours=_is_ours(office), whole=whole or [],
            extensions=[(number, str(getattr(one, "name", ""))) for number, one in
                        list(office.all_of(Part.EXTENSION).items())[:MOST_SUGGESTED]])

    def _listing(self, office: Office) -> UserListing:
        try:
            return self._users.listing(office.client)
        except LookupError:            # it was connected a moment ago
            return UserListing(None, (), ())


def _is_ours(office: Office) -> bool:
    crm = office.get(Thing(Part.CRM))
    if not isinstance(crm, CrmEntry):
        return False
    return crm.users_from is UsersFrom.FILE or (crm.users_from is None and not crm.widget)


def _now(office: Office) -> dict[int, str]:
    return {user: number for number, one in office.all_of(Part.EXTENSION).items()
            if isinstance(one, ExtensionEntry) and (user := one.crm_user) is not None}


def _complaints(visit: Visit, office: Office, wanted: Mapping[int, str],
                names: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    there, whose = office.all_of(Part.EXTENSION), defaultdict[str, list[int]](list)
    for user, number in {**_now(office), **wanted}.items():
        whose[number].append(user)
    for user, number in wanted.items():
        if number and number not in there:
            yield user, visit.say("There is no extension {number}.").format(number=number)
        elif number and (others := [names.get(one) or str(one) for one in whose[number] if one != user]):
            yield user, visit.say("{who} has extension {number}, too.").format(who=others[0], number=number)


def _edits(office: Office, wanted: Mapping[int, str]) -> Iterator[Edit]:
    """Of extensions whose user changes."""
    after = {number: user for user, number in {**_now(office), **wanted}.items() if number}
    for number, entry in office.all_of(Part.EXTENSION).items():
        assert isinstance(entry, ExtensionEntry), "an extension"
        if after.get(number) != entry.crm_user:
            values: dict[str, Any] = {name: value for name, value in said(entry).items() if name != "crm_user"}
            values |= {"crm_user": after[number]} if number in after else {}
            thing = Thing(Part.EXTENSION, number)
            yield Edit(thing, values, office.digest(thing))
