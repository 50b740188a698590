"""What the pages of an office's set-up share: whose office it is, how a thing is edited, and what stands in the way.

A page of one kind of thing is a `ThingPages` with its own lists and words: show, save, ask before removing, remove. All
of them write by b2bua.apply.office, which checks what an apply file is checked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from b2bua.apply.entries import Entry
from b2bua.apply.office import LISTS, MODELS, Complaint, Edit, Office, Offices, Outdated, Part, Refused, Thing, said
from b2bua.cdr import ClientId
from b2bua.handouts import PhoneServer
from b2bua.store.directory import DirectoryChanged
from web import forms
from web.forms import Block
from web.office_words import KINDS
from web.problems import Problem, nothing_here
from web.signin import SignIn
from web.visits import Visit

MOST_SUGGESTED = 200                   # numbers that a field offers; others are typed
RETRY_SECONDS = 2
MOST_LISTED = 300                      # things on one page; others are found by their number or name
FOLDERS: Mapping[Part, str] = {
    Part.CLIENT: "settings", Part.CRM: "crm", Part.TRUNK: "trunks", Part.EXTENSION: "extensions",
    Part.GROUP: "groups", Part.NUMBER: "numbers",
}
_TARGETS = ("forward_always", "on_no_answer", "on_busy", "on_unregistered", "destination", "otherwise")


@dataclass(frozen=True, slots=True)
class SetUp:
    """What the set-up needs of the switch."""

    offices: Offices
    realm: str
    servers: tuple[PhoneServer, ...]   # where phones register, the best first
    public_url: str


def client_of(visit: Visit) -> ClientId:
    """Of the address. Raises Problem: there is none such, or it is another one's."""
    client = ClientId(visit.request.path_params["client"])
    visit.demand(client)
    if not client.isprintable():       # of no id; some databases take no such text
        raise nothing_here()
    return client


async def office_of(visit: Visit, offices: Offices) -> Office:
    """Raises Problem."""
    try:
        return await offices.read(client_of(visit))
    except LookupError:
        raise nothing_here() from None


def home_of(client: ClientId) -> str:
    return f"/clients/{quote(client, safe='')}"


def path_of(client: ClientId, thing: Thing) -> str:
    folder = f"{home_of(client)}/{FOLDERS[thing.part]}"
    return f"{folder}/{quote(thing.key, safe='')}" if thing.key else folder


def name_of(visit: Visit, thing: Thing) -> str:
    return f"{visit.say(KINDS[thing.part.value])} {thing.key}".strip()


async def change(visit: Visit, offices: Offices, client: ClientId, *edits: Edit) -> None:
    """Raises Refused, Outdated, and Problem: the client is gone, or others change too much at this moment."""
    try:
        await offices.change(client, edits, visit.who)
    except LookupError:
        raise nothing_here() from None
    except DirectoryChanged:
        raise busy() from None


def busy() -> Problem:
    return Problem(503, "Others change this office at the same moment", "Try again shortly.", retry_after=RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a page that tells what somebody else has changed."""

    label: str
    now: str
    wanted: str


class ThingPages(ABC):
    """Pages of one kind of thing."""

    part: Part
    blocks: tuple[Block, ...]
    template: str                      # of the form

    def __init__(self, set_up: SetUp, sign_in: SignIn) -> None:
        self._set_up = set_up
        self._offices = set_up.offices
        self._sign_in = sign_in

    def routes(self) -> list[Route]:
        folder, only = f"/clients/{{client}}/{FOLDERS[self.part]}", self._sign_in.only
        return [
            Route(folder, only(self.index)),
            Route(f"{folder}/new", only(self.show_new)),
            Route(f"{folder}/new", only(self.save_new), methods=["POST"]),
            Route(f"{folder}/{{key}}", only(self.show)),
            Route(f"{folder}/{{key}}", only(self.save), methods=["POST"]),
            Route(f"{folder}/{{key}}/remove", only(self.ask)),
            Route(f"{folder}/{{key}}/remove", only(self.remove), methods=["POST"]),
        ]

    @abstractmethod
    async def index(self, visit: Visit) -> Response: ...

    def first_texts(self, office: Office) -> Mapping[str, str]:
        """What fields begin with that nobody has filled in, beside the defaults."""
        return {}

    def blocks_for(self, visit: Visit, office: Office, form: Mapping[str, str] | None = None) -> Sequence[Block]:
        """The fields that this visitor may fill in; `form` is what was sent."""
        return self.blocks

    def values_of(self, form: Mapping[str, str], entry: Entry | None, names: Sequence[str]) -> dict[str, Any]:
        """What the form says; fields that are not on it stay."""
        kept = said(entry) if entry is not None else {}
        on_form = {name.partition(".")[0].partition("[")[0] for name in names}
        return {name: value for name, value in kept.items() if name not in on_form
                } | forms.values_of(form, MODELS[self.part], names)

    async def done(self, visit: Visit, office: Office, thing: Thing, values: Mapping[str, Any]) -> Response:
        """After it was saved; `thing` is how it is called by now."""
        return visit.redirect(path_of(office.client, Thing(self.part)), "saved")

    async def show_new(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        blocks = self.blocks_for(visit, office)
        texts = {**forms.shown(None, MODELS[self.part], names_in(blocks)), **self.first_texts(office)}
        return await self.form(visit, office, Thing(self.part), blocks, texts)

    async def show(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        thing, entry = self._there(visit, office)
        blocks = self.blocks_for(visit, office)
        texts = forms.shown(entry, MODELS[self.part], names_in(blocks))
        texts |= {name: text for name, text in self.first_texts(office).items() if not texts[name]}
        return await self.form(visit, office, thing, blocks, texts)

    async def save_new(self, visit: Visit) -> Response:
        form = await visit.form()
        return await self._save(visit, await office_of(visit, self._offices), Thing(self.part), form)

    async def save(self, visit: Visit) -> Response:
        form = await visit.form()
        return await self._save(visit, await office_of(visit, self._offices), self._thing(visit), form)

    async def ask(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        thing, _ = self._there(visit, office)
        return await self._asked(visit, office, thing)

    async def remove(self, visit: Visit) -> Response:
        form = await visit.form()
        office = await office_of(visit, self._offices)
        thing = self._thing(visit)
        try:
            await change(visit, self._offices, office.client, Edit(thing, None, form.get("seen", "")))
        except Refused:
            return await self._asked(visit, office, thing, status=422)
        except Outdated as outdated:
            return await self.outdated(visit, office, outdated, {})
        return visit.redirect(path_of(office.client, Thing(self.part)), "removed")

    async def form(self, visit: Visit, office: Office, thing: Thing, blocks: Sequence[Block],
                   texts: Mapping[str, str], complaints: Sequence[Complaint] = (), seen: str | None = None) -> Response:
        """The page of one thing: 422 when there are complaints."""
        is_new = office.get(thing) is None
        form = forms.made(visit.say, MODELS[self.part], blocks, texts, office.digest(thing) if seen is None else seen,
                          complaints, name_of=lambda one: name_of(visit, one.thing),
                          suggestions=self.suggestions(names_in(blocks)), is_new=is_new)
        return await visit.page(self.template, 422 if complaints else 200, client=office.client, thing=thing, form=form,
                                is_new=is_new, folder=path_of(office.client, Thing(self.part)), here=FOLDERS[self.part],
                                lists=await self.lists(office), **self.more(visit, office, thing))

    def more(self, visit: Visit, office: Office, thing: Thing) -> Mapping[str, Any]:
        """What the form's template needs besides."""
        return {}

    def suggestions(self, names: Sequence[str]) -> Mapping[str, str]:
        """Fields whose inputs offer something, and the list of what they offer: here, where a call may go."""
        return {name: "targets" for name in names if name.rpartition(".")[2] in _TARGETS}

    async def lists(self, office: Office) -> Mapping[str, list[tuple[str, str]]]:
        """What inputs offer, by the id of the list: values, and what they are."""
        entries = [*office.all_of(Part.EXTENSION).items(), *office.all_of(Part.GROUP).items()][:MOST_SUGGESTED]
        sounds = await self._offices.sounds()
        return {"targets": [(number, str(getattr(entry, "name", ""))) for number, entry in entries]
                + [(f"announcement:{name}", "") for name in sounds]}

    async def _save(self, visit: Visit, office: Office, thing: Thing, form: Mapping[str, str]) -> Response:
        blocks, seen = self.blocks_for(visit, office, form), form.get("seen", "")
        names = names_in(blocks)
        texts, values = forms.sent(form, MODELS[self.part], names), self.values_of(form, office.get(thing), names)
        is_new = not thing.key and thing.part in LISTS
        try:
            await change(visit, self._offices, office.client, Edit(thing, values, None if is_new else seen))
        except Refused as refused:
            return await self.form(visit, office, thing, blocks, texts, refused.complaints, seen)
        except Outdated as outdated:
            return await self.outdated(visit, office, outdated, texts)
        return await self.done(visit, office, Thing(self.part, str(values.get("number", ""))), values)

    async def outdated(self, visit: Visit, office: Office, outdated: Outdated, texts: Mapping[str, str]) -> Response:
        """What is there by now, beside what the form wanted."""
        model, now = MODELS[self.part], outdated.now
        there = forms.shown(now, model, texts)
        fields = [Field(forms.label_of(visit.say, name, model), there[name], wanted) for name, wanted in texts.items()
                  if there[name] != wanted and forms.kind_of(forms.info_of(model, name)) != "password"]
        return await visit.page("outdated.html", 409, client=office.client, is_gone=now is None, fields=fields,
                                what=name_of(visit, outdated.thing), here=FOLDERS[self.part],
                                address=path_of(office.client, outdated.thing if now is not None else Thing(self.part)))

    async def _asked(self, visit: Visit, office: Office, thing: Thing, status: int = 200) -> Response:
        """Whether it shall go, and what that would break."""
        breaks: list[tuple[str, str, str]] = []
        try:
            await self._offices.check(office.client, [Edit(thing, None)])
        except Refused as refused:
            breaks = [(name_of(visit, one.thing), path_of(office.client, one.thing),
                       forms.label_of(visit.say, one.field, MODELS[one.thing.part]) if one.field
                       else forms.in_words(visit.say, one)) for one in refused.complaints]
        return await visit.page("remove.html", status, client=office.client, what=name_of(visit, thing), breaks=breaks,
                                seen=office.digest(thing), address=path_of(office.client, thing),
                                here=FOLDERS[self.part], folder=path_of(office.client, Thing(self.part)))

    def _thing(self, visit: Visit) -> Thing:
        return Thing(self.part, visit.request.path_params.get("key", ""))

    def _there(self, visit: Visit, office: Office) -> tuple[Thing, Entry]:
        """Raises Problem."""
        thing = self._thing(visit)
        if (entry := office.get(thing)) is None:
            raise nothing_here()
        return thing, entry


def names_in(blocks: Sequence[Block]) -> list[str]:
    return [name for block in blocks for name in block.fields]


def page_of(visit: Visit, found: int, rows: int) -> int:
    """Of a list, from 1; the last one for who asks for more."""
    text = visit.request.query_params.get("page", "1")
    asked = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1
    return max(1, min(asked, -(-found // rows)))


def matching(entries: Mapping[str, Entry], wanted: str) -> list[tuple[str, Entry]]:
    """Whose number or name has this text in it."""
    wanted = wanted.strip().casefold()
    return [(key, entry) for key, entry in entries.items()
            if wanted in key.casefold() or wanted in str(getattr(entry, "name", "")).casefold()]
