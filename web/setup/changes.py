"""Who has changed what of an office, and when."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.difference import FieldChange
from b2bua.store.changes import ChangeRows, LoggedChange
from web import forms
from web.office_words import KINDS
from web.problems import nothing_here
from web.setup.things import SetUp, client_of
from web.signin import SignIn
from web.visits import Visit

ROWS = 50                              # on one page
LONGEST_SHOWN = 300                    # characters of one value


class ChangePages:
    def __init__(self, set_up: SetUp, sign_in: SignIn, rows: ChangeRows) -> None:
        self._offices = set_up.offices
        self._sign_in = sign_in
        self._rows = rows

    def routes(self) -> list[Route]:
        return [Route("/clients/{client}/changes", self._sign_in.only(self.show))]

    async def show(self, visit: Visit) -> Response:
        client = client_of(visit)
        if not await self._offices.exists(client):
            raise nothing_here()
        text = visit.request.query_params.get("before", "")
        before = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None
        found = await self._rows.last(client, before, ROWS + 1)
        return await visit.page("changes.html", client=client, here="changes", is_first=before is None,
                                changes=[(one, _what(visit, one), _values(visit, one)) for one in found[:ROWS]],
                                before=found[ROWS - 1].id if len(found) > ROWS else None)


def _what(visit: Visit, change: LoggedChange) -> str:
    """"extension acme/101" -> "Extension 101"."""
    kind, _, key = change.what.partition(" ")
    if change.what.startswith("CRM of "):
        return visit.say(KINDS["crm"])
    return f"{visit.say(KINDS[kind])} {key.partition('/')[2]}".strip()


def _values(visit: Visit, change: LoggedChange) -> list[tuple[str, FieldChange, str, str]]:
    """Label, the change itself, before and after."""
    return [(forms.label_of(visit.say, one.name), one, _text(visit, one.name, one.before),
             _text(visit, one.name, one.after)) for one in change.values]


def _text(visit: Visit, name: str, value: Any) -> str:
    match value:
        case None | "" | []:
            return "–"
        case bool():
            return visit.say("yes") if value else visit.say("no")
        case list():
            text = ", ".join(_text(visit, name, one) for one in value)
        case dict():
            text = "; ".join(f"{forms.label_of(visit.say, f'{name}.{key}')}: {_text(visit, key, one)}"
                             for key, one in value.items() if one not in (None, [], "", False))
        case _:
            text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
