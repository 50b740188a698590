"""F5 to F10 of an office, each on or off, and the rules behind them: for all calls, and for those to single numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.entries import CrmDidEntry, CrmEntry, CrmRulesEntry, DealEntry
from b2bua.apply.office import Complaint, Edit, Office, Outdated, Part, Refused, Thing, said
from b2bua.cdr import ClientId
from b2bua.numbers import normalise
from b2bua.store.changes import ChangeRows, LoggedChange
from web import forms
from web.forms import Block
from web.problems import nothing_here
from web.setup.things import SetUp, ThingPages, change, home_of, name_of, names_in, office_of
from web.signin import SignIn
from web.visits import Visit

MOST_CHANGES = 50                      # of the log that are looked through for who changed the CRM last
MOST_NUMBERS = 50                      # on the page, those with rules of their own first; others are searched for
_CRM = Thing(Part.CRM)
_SWITCHES = ("forward_to_responsible", "set_caller_name", "create_on_incoming", "create_on_outgoing",
             "task_on_new_contact", "task_on_missed")
_INCOMING = ("incoming_answered", "incoming_missed")
_OUTGOING = ("outgoing_answered", "outgoing_unanswered")
_CARD = ("contact_name", "responsible", "tag")
_TASKS = ("fill_in_text", "fill_in_minutes", "call_back_text", "call_back_minutes")
_DEAL = ("deal.pipeline", "deal.stage", "deal.name")


def _rules(prefix: str, cards: Sequence[str]) -> tuple[Block, ...]:
    def named(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{prefix}{name}" for name in names)

    return (Block("Who is unknown to the CRM", named((*cards, *_CARD))), Block("Deal with a new contact", named(_DEAL)),
            Block("Tasks", named(_TASKS)))


class FunctionPages(ThingPages):
    """Of the whole CRM account they edit what its own page does not."""

    part = Part.CRM
    template = "functions.html"
    blocks = (Block("Functions", _SWITCHES), Block("Calls that are private", ("not_told",), folded=True),
              *_rules("rules.", (*_INCOMING, *_OUTGOING)))
    of_number = _rules("", _INCOMING)

    def __init__(self, set_up: SetUp, sign_in: SignIn, changes: ChangeRows) -> None:
        super().__init__(set_up, sign_in)
        self._changes = changes

    def routes(self) -> list[Route]:
        folder, only = "/clients/{client}/functions", self._sign_in.only
        return [
            Route(folder, only(self.show)),
            Route(folder, only(self.save), methods=["POST"]),
            Route(f"{folder}/{{number}}", only(self.show_number)),
            Route(f"{folder}/{{number}}", only(self.save_number), methods=["POST"]),
        ]

    async def index(self, visit: Visit) -> Response:
        return await self.show(visit)

    async def show(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        if (entry := _crm_of(office)) is None:
            return await visit.page("no_crm.html", client=office.client, here="functions")
        texts = forms.shown(entry, CrmEntry, names_in(self.blocks))
        rules = entry.rules or CrmRulesEntry()
        texts |= _deal_texts(rules, "rules.")
        return await self._page(visit, office, texts, makes_deal=rules.deal is not None)

    async def save(self, visit: Visit) -> Response:
        form = await visit.form()
        office = await office_of(visit, self._offices)
        if (entry := _crm_of(office)) is None:
            raise nothing_here()
        names, seen, makes_deal = names_in(self.blocks), form.get("seen", ""), bool(form.get("makes_deal"))
        values = self.values_of(form, entry, names)
        rules = _with_deal(values.pop("rules", {}), makes_deal=makes_deal)
        values |= {"rules": rules} if rules else {}
        texts = forms.sent(form, CrmEntry, names)
        try:
            await change(visit, self._offices, office.client, Edit(_CRM, values, seen))
        except Refused as refused:
            return await self._page(visit, office, texts, refused.complaints, seen, makes_deal=makes_deal)
        except Outdated as outdated:
            return await self.outdated(visit, office, outdated, texts)
        return visit.redirect(_path(office.client), "saved")

    async def _page(self, visit: Visit, office: Office, texts: Mapping[str, str],
                    complaints: Sequence[Complaint] = (), seen: str | None = None, *, makes_deal: bool) -> Response:
        form = forms.made(visit.say, CrmEntry, self.blocks, texts, office.digest(_CRM) if seen is None else seen,
                          complaints, name_of=lambda one: name_of(visit, one.thing))
        entry = _crm_of(office)
        own = {normalise(one.number, _country(office)) for one in entry.did} if entry is not None else set()
        sought = visit.request.query_params.get("q", "").strip()
        found = sorted((number not in own, number) for number in office.all_of(Part.NUMBER) if sought in number)
        return await visit.page(self.template, 422 if complaints else 200, client=office.client, here="functions",
                                form=form, lists={}, makes_deal=makes_deal, wanted=sought, found=len(found),
                                last=await self._last_change(office.client),
                                numbers=[(number, not others) for others, number in found[:MOST_NUMBERS]])

    async def _last_change(self, client: ClientId) -> LoggedChange | None:
        found = await self._changes.last(client, None, MOST_CHANGES)
        return next((one for one in found if one.what == f"CRM of {client}"), None)

    # -- calls to one number

    async def show_number(self, visit: Visit) -> Response:
        office, entry, number = await self._of_number(visit)
        rules = _did_rules(entry, number, _country(office))
        return await self._number_page(visit, office, number, _texts(rules), makes_deal=rules["deal"] is not None)

    async def save_number(self, visit: Visit) -> Response:
        """What is as for all calls is not said of the number."""
        form = await visit.form()
        office, entry, number = await self._of_number(visit)
        names = names_in(self.of_number)
        makes_deal, seen = bool(form.get("makes_deal")), form.get("seen", "")
        texts = forms.sent(form, CrmDidEntry, names)
        wanted = CrmRulesEntry().model_dump(mode="json") | _with_deal(
            forms.values_of(form, CrmDidEntry, names), makes_deal=makes_deal)
        of_all = (entry.rules or CrmRulesEntry()).model_dump(mode="json")
        rules = {name: value for name, value in wanted.items()
                 if name not in _OUTGOING and _text(name, value) != _text(name, of_all[name])}
        if form.get("as_for_all"):
            rules = {}
        others = [one for one in said(entry).get("did", ()) if normalise(one["number"], _country(office)) != number]
        values = {**said(entry), "did": [*others, *([{"number": number, **rules}] if rules else [])]}
        try:
            await change(visit, self._offices, office.client, Edit(_CRM, values, seen))
        except Refused as refused:
            prefix = f"did[{len(others)}]."
            complaints = [replace(one, field=one.field.removeprefix(prefix)) for one in refused.complaints]
            return await self._number_page(visit, office, number, texts, complaints, seen, makes_deal=makes_deal)
        except Outdated as outdated:
            return await self.outdated(visit, office, outdated, {})
        return visit.redirect(_path(office.client), "saved")

    async def _of_number(self, visit: Visit) -> tuple[Office, CrmEntry, str]:
        """Raises Problem."""
        office = await office_of(visit, self._offices)
        entry, number = _crm_of(office), visit.request.path_params["number"]
        if entry is None or number not in office.all_of(Part.NUMBER):
            raise nothing_here()
        return office, entry, number

    async def _number_page(self, visit: Visit, office: Office, number: str, texts: Mapping[str, str],
                           complaints: Sequence[Complaint] = (), seen: str | None = None, *,
                           makes_deal: bool) -> Response:
        form = forms.made(visit.say, CrmDidEntry, self.of_number, texts, office.digest(_CRM) if seen is None else seen,
                          complaints, name_of=lambda one: name_of(visit, one.thing))
        return await visit.page("functions_of_number.html", 422 if complaints else 200, client=office.client,
                                here="functions", form=form, lists={}, makes_deal=makes_deal, number=number)


def _path(client: ClientId) -> str:
    return f"{home_of(client)}/functions"


def _crm_of(office: Office) -> CrmEntry | None:
    entry = office.get(_CRM)
    return entry if isinstance(entry, CrmEntry) else None


def _country(office: Office) -> str:
    return office.entry.country if office.entry is not None else ""


def _did_rules(entry: CrmEntry, number: str, country: str) -> dict[str, Any]:
    """As they count: what the number says itself, else what is said of all calls."""
    of_all = (entry.rules or CrmRulesEntry()).model_dump(mode="json")
    own = next((one for one in entry.did if normalise(one.number, country) == number), None)
    return of_all | (own.model_dump(mode="json", exclude_unset=True) if own is not None else {})


def _texts(rules: Mapping[str, Any]) -> dict[str, str]:
    deal = rules["deal"] or DealEntry().model_dump(mode="json")
    flat = {**rules, **{f"deal.{name}": value for name, value in deal.items()}}
    return {name: "" if value is None else str(value) for name, value in flat.items() if name != "deal"}


def _deal_texts(rules: CrmRulesEntry, prefix: str) -> dict[str, str]:
    """Of a deal that there is, or would be."""
    return forms.shown(CrmEntry.model_construct(rules=rules.model_copy(update={"deal": rules.deal or DealEntry()})),
                       CrmEntry, [f"{prefix}{name}" for name in _DEAL])


def _text(name: str, value: Any) -> Any:
    """Numbers come from a form as text; of a deal the missing parts are the default ones."""
    if name == "deal" and value is not None:
        return {part: str(said) for part, said in (DealEntry().model_dump(mode="json") | dict(value)).items()}
    return value if value is None else str(value)


def _with_deal(rules: Mapping[str, Any], *, makes_deal: bool) -> dict[str, Any]:
    """A switch that the entry has not: a deal that says nothing is one nevertheless."""
    others = {name: value for name, value in rules.items() if name != "deal"}
    return {**others, "deal": rules.get("deal", {})} if makes_deal else others
