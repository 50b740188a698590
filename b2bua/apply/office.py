"""One client's set-up, changed from the pages: checked by the code that checks an apply file, and written whole.

`Offices.read` gives an `Office`: what the client's apply file would say (`Office.entry`, pydantic entries of
apply/entries.py), of one moment. A *thing* is a part of it that has a page of its own: the client's settings, an
extension, group, number or trunk, its CRM account. A form shows the entry, carries `Office.digest(thing)`, and comes
back as an `Edit`: all that the thing shall say from now on, as a file would; or None, and the thing goes. What has its
default may be left out, and secrets that are left out stay as they are: `said(entry)` is what it says now.
`Offices.change` makes some edits at once, all or none, in the name of `who`; `Offices.check` only says what would
change. Both raise

- `Refused`: complaints, each with the field that it belongs to, of the thing that was edited (`Complaint.edit`: which
  edit) or of another one that would break (`edit` is None). What was wrong with others before is no reason to refuse;
- `Outdated`: somebody else has changed that thing since the form was shown;
- `LookupError`: there is no such client.

Whatever gets another number or name is followed by those who name it, and its phones keep their login.

A running daemon finds what has changed within a second or two, without touching calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from pydantic import SecretStr, ValidationError

from b2bua.apply.back import entry_of
from b2bua.apply.difference import Change, difference
from b2bua.apply.entries import (
    ClientEntry,
    CrmEntry,
    Entry,
    ExtensionEntry,
    GroupEntry,
    NumberEntry,
    TrunkEntry,
    login_of,
)
from b2bua.apply.file import ATTEMPTS, as_it_was, directory_of
from b2bua.apply.review import Review
from b2bua.apply.toml_lines import LocatedToml
from b2bua.cdr import ClientId
from b2bua.directory import Cause, Directory
from b2bua.faults import Location, dotted, faults_of_validation
from b2bua.numbers import normalise
from b2bua.phrases import Phrase
from b2bua.store.directory import DirectoryChanged, DirectoryStore, Taken


class Part(Enum):
    """Kinds of things; the value is the field of a ClientEntry that holds them."""

    CLIENT = "client"                  # its own settings, with its limits; goes with everything below
    CRM = "crm"
    TRUNK = "trunk"
    EXTENSION = "extension"
    GROUP = "group"
    NUMBER = "number"


MODELS: Mapping[Part, type[Entry]] = {
    Part.CLIENT: ClientEntry, Part.CRM: CrmEntry, Part.TRUNK: TrunkEntry, Part.EXTENSION: ExtensionEntry,
    Part.GROUP: GroupEntry, Part.NUMBER: NumberEntry,
}
LISTS = (Part.TRUNK, Part.EXTENSION, Part.GROUP, Part.NUMBER)
_APART = frozenset({Part.CRM.value, *(part.value for part in LISTS)})      # fields of a client that are other things
MOST_REMEMBERED = 30                   # offices
_TARGETS = ("destination", *(cause.value for cause in Cause))
_NO_FILE = LocatedToml({}, {})


@dataclass(frozen=True, slots=True)
class Thing:
    part: Part
    key: str = ""                      # its number or name; "" of a new one, of settings and of the CRM


@dataclass(frozen=True, slots=True)
class Edit:
    thing: Thing
    values: Mapping[str, Any] | None   # as in a file, all of it; secrets that are not in it stay; None: it goes
    seen: str | None = None            # its digest when it was shown; None: however it is by now


@dataclass(frozen=True, slots=True)
class Complaint:
    thing: Thing                       # the edited one, or one that would break
    field: str                         # "members[1]", "hours.open"; "": the whole of it
    problem: str
    remedy: str
    edit: int | None                   # place of the edit among those made at once; None: it is another thing's


class Refused(Exception):
    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__("; ".join(one.problem for one in complaints))
        self.complaints = tuple(complaints)


class Outdated(Exception):
    """Somebody else has changed this thing since."""

    def __init__(self, thing: Thing, now: Entry | None) -> None:
        super().__init__(f"{thing.part.value} {thing.key} has changed since")
        self.thing = thing
        self.now = now                 # None: it is gone


@dataclass(frozen=True)
class Office:
    """One client's set-up at one moment."""

    client: ClientId
    directory: Directory               # this client's alone
    generation: int
    entry: ClientEntry | None          # None: there is no such client yet

    @cached_property
    def _lists(self) -> Mapping[Part, Mapping[str, Entry]]:
        if self.entry is None:
            return {part: {} for part in LISTS}
        return {part: {key_of(part, one, self.entry.country): one for one in getattr(self.entry, part.value)}
                for part in LISTS}

    def all_of(self, part: Part) -> Mapping[str, Entry]:
        """By number or name, in their order."""
        return self._lists[part]

    def get(self, thing: Thing) -> Entry | None:
        if self.entry is None:
            return None
        if thing.part is Part.CLIENT:
            return self.entry
        return self.entry.crm if thing.part is Part.CRM else self.all_of(thing.part).get(thing.key)

    def digest(self, thing: Thing) -> str:
        """Another one whenever the thing says something else; secrets do not count."""
        found = self.get(thing)
        return "" if found is None else digest_of(found)

    @cached_property
    def kept_logins(self) -> frozenset[str]:
        """Of phones that have a password: it goes with its login."""
        return frozenset(one.login for one in self.directory.extensions if one.ha1)


class Offices:
    def __init__(self, store: DirectoryStore, realm: str, known_sounds: Callable[[], Collection[str]]) -> None:
        """`known_sounds` may read a directory."""
        self._store = store
        self._realm = realm
        self._known_sounds = known_sounds
        self._read_last: OrderedDict[ClientId, Office] = OrderedDict()

    async def read(self, client: ClientId) -> Office:
        office = await self._read(client)
        if office.entry is None:
            raise LookupError(client)
        return office

    async def exists(self, client: ClientId) -> bool:
        return await self._store.exists(client)

    async def sounds(self) -> list[str]:
        """That announcements and music on hold may name."""
        return sorted(await asyncio.to_thread(self._known_sounds))

    async def check(self, client: ClientId, edits: Sequence[Edit]) -> list[Change]:
        """What would change."""
        office = await self.read(client)
        return await asyncio.to_thread(difference, office.directory, await self._decided(office, edits))

    async def change(self, client: ClientId, edits: Sequence[Edit], who: str) -> list[Change]:
        """What has changed: it is in the database when this returns."""
        return await self._change(client, edits, who, is_new=False)

    async def add(self, values: Mapping[str, Any], who: str) -> list[Change]:
        """A new client, by its settings."""
        return await self._change(ClientId(str(values.get("id", ""))), [Edit(Thing(Part.CLIENT), values)], who,
                                  is_new=True)

    async def _change(self, client: ClientId, edits: Sequence[Edit], who: str, *, is_new: bool) -> list[Change]:
        for _ in range(ATTEMPTS):
            office = await self._read(client) if is_new else await self.read(client)
            if is_new and office.entry is not None:
                there = Phrase("client {name!r} is there already", name=client)
                raise Refused([Complaint(Thing(Part.CLIENT), "id", there, Phrase("Choose another one."), 0)])
            new = await self._decided(office, edits)
            found = await asyncio.to_thread(difference, office.directory, new)
            if not found:
                return []
            try:
                await self._store.replace(office.directory, new, office.generation, who)
            except DirectoryChanged:
                continue
            return found
        raise DirectoryChanged

    async def _read(self, client: ClientId) -> Office:
        """Most pages are of an office that was read just before, and has not changed since."""
        known = self._read_last.get(client)
        if known is not None and known.generation == await self._store.generation():
            self._read_last.move_to_end(client)
            return known
        office = await asyncio.to_thread(_office, client, *await self._store.load(client))
        self._read_last[client] = office
        while len(self._read_last) > MOST_REMEMBERED:
            self._read_last.popitem(last=False)
        return office

    async def _decided(self, office: Office, edits: Sequence[Edit]) -> Directory:
        draft = await asyncio.to_thread(_drafted, office, edits)
        if draft.entry is None:
            return Directory()
        taken = await self._store.taken(office.client, draft.entry.own_login, _new_logins(office, draft.entry))
        return await asyncio.to_thread(self._finished, office, draft.entry, draft.edits, taken)

    def _finished(self, office: Office, entry: ClientEntry, edits: Mapping[Thing, int], taken: Taken) -> Directory:
        """Raises Refused."""
        complaints = [*_of_taken(entry, edits, taken), *self._complaints(office, entry, edits)]
        if complaints:
            raise Refused(complaints)
        new = directory_of([entry], self._realm)
        before = office.directory.by_login
        password = entry.password.get_secret_value() if entry.password is not None else ""
        return replace(
            new,
            clients=(as_it_was(new.clients[0], office.directory.client.get(office.client), password),),
            extensions=tuple(replace(one, ha1=before[one.login].ha1) if not one.ha1 and one.login in before else one
                             for one in new.extensions),
        )

    def _complaints(self, office: Office, entry: ClientEntry, edits: Mapping[Thing, int]) -> Iterator[Complaint]:
        """What the entries say of one another; not what was wrong with others before."""
        sounds = self._known_sounds()
        found = list(_reviewed(entry, sounds, office.kept_logins))
        before: set[tuple[Thing, str, str]] = set()
        if office.entry is not None and any(_edit_of(one, edits) is None for one in found):
            before = {(one.thing, one.field, one.problem)
                      for one in _reviewed(office.entry, sounds, office.kept_logins)}
        for one in found:
            edit = _edit_of(one, edits)
            if edit is not None or (one.thing, one.field, one.problem) not in before:
                yield replace(one, edit=edit)


def _office(client: ClientId, directory: Directory, generation: int) -> Office:
    office = Office(client, directory, generation, entry_of(directory, client) if directory.clients else None)
    office.all_of(Part.EXTENSION)      # now, off the loop
    return office


def key_of(part: Part, entry: Entry, country: str) -> str:
    match entry:
        case TrunkEntry():
            return entry.name
        case NumberEntry():
            return normalise(entry.number, country)
        case ExtensionEntry() | GroupEntry():
            return entry.number
    raise ValueError(f"a {part.value} has no key")


def digest_of(entry: Entry) -> str:
    shown = entry.model_dump(mode="json", exclude=_left_out(entry) | secrets_of(type(entry)))
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:32]


def said(entry: Entry) -> dict[str, Any]:
    """What a file would say of it, without its secrets and, of a client, without the things that it has."""
    return entry.model_dump(mode="json", by_alias=True, exclude_unset=True,
                            exclude=_left_out(entry) | secrets_of(type(entry)))


def _left_out(entry: Entry) -> set[str]:
    return set(_APART) if isinstance(entry, ClientEntry) else set()


def secrets_of(model: type[Entry]) -> set[str]:
    return {name for name, field in model.model_fields.items()
            if field.annotation is SecretStr or SecretStr in getattr(field.annotation, "__args__", ())}


@dataclass(frozen=True, slots=True)
class _Draft:
    entry: ClientEntry | None          # None: the client goes
    edits: Mapping[Thing, int]         # which edit a thing has come of


def _drafted(office: Office, edits: Sequence[Edit]) -> _Draft:
    """The entry as it would be. Raises Refused with what is wrong within the edited things, and Outdated."""
    for edit in edits:
        if edit.seen is not None and edit.seen != office.digest(edit.thing):
            raise Outdated(edit.thing, office.get(edit.thing))
    if any(edit.thing.part is Part.CLIENT and edit.values is None for edit in edits):
        return _Draft(None, {})
    settings, complaints = office.entry, list[Complaint]()
    made: dict[int, Entry] = {}
    for index, edit in enumerate(edits):
        try:
            if edit.values is not None:
                made[index] = _validated(office, edit)
        except ValidationError as error:
            complaints += [Complaint(edit.thing, fault.field, fault.problem, fault.remedy, index)
                           for fault in faults_of_validation(error, MODELS[edit.thing.part], _NO_FILE)]
    if complaints:
        raise Refused(complaints)
    lists = {part: dict(office.all_of(part)) for part in LISTS}
    crm = office.entry.crm if office.entry is not None else None
    things: dict[Thing, int] = {}
    for index, edit in enumerate(edits):
        match edit.thing.part, made.get(index):
            case Part.CLIENT, ClientEntry() as entry:
                settings = entry
                things[edit.thing] = index
            case Part.CRM, entry:
                crm = entry if isinstance(entry, CrmEntry) else None
                things[edit.thing] = index
            case part, None:
                lists[part].pop(edit.thing.key, None)
            case part, entry:
                # A new one, or a renamed one, may have the key of another: Review says so, and both must stand here.
                place = edit.thing.key or f"\0{index}"
                lists[part][place] = entry
    assert settings is not None, "a client that is not there yet is edited by its settings first"
    things |= {Thing(edit.thing.part, key_of(edit.thing.part, made[index], settings.country)): index
               for index, edit in enumerate(edits) if edit.thing.part in LISTS and index in made}
    renamed = {Thing(part, edits[index].thing.key): thing.key for thing, index in things.items()
               if (part := thing.part) in LISTS and edits[index].thing.key not in ("", thing.key)}
    return _Draft(settings.model_copy(update={
        "crm": crm, **{part.value: tuple(_following(entry, renamed) for entry in entries.values())
                       for part, entries in lists.items()}}), things)


def _following(entry: Entry, renamed: Mapping[Thing, str]) -> Entry:
    """Whoever names what is renamed names it so from now on."""
    def name_of(name: str, *parts: Part) -> str:
        return next((renamed[thing] for part in parts if (thing := Thing(part, name)) in renamed), name)

    if not renamed or isinstance(entry, TrunkEntry):
        return entry
    inside = (Part.EXTENSION, Part.GROUP)
    update: dict[str, Any] = {field: name_of(target, *inside) for field in _TARGETS
                              if (target := getattr(entry, field, None)) is not None}
    if isinstance(entry, GroupEntry):
        update["members"] = tuple(name_of(member, Part.EXTENSION) for member in entry.members)
    if isinstance(entry, NumberEntry):
        if entry.trunk is not None:
            update["trunk"] = name_of(entry.trunk, Part.TRUNK)
        if entry.hours is not None:
            otherwise = name_of(entry.hours.otherwise, *inside)
            update["hours"] = entry.hours.model_copy(update={"otherwise": otherwise})
    return entry.model_copy(update=update)


def _validated(office: Office, edit: Edit) -> Entry:
    """Raises ValidationError."""
    model, before = MODELS[edit.thing.part], office.get(edit.thing)
    values = dict(edit.values or {})
    if edit.thing.part is Part.CLIENT:
        values = {name: value for name, value in values.items() if name not in _APART}
        values |= {"id": office.client} if before is not None else {}
    if isinstance(before, ExtensionEntry) and not {"login", "password"} & values.keys():
        assert office.entry is not None, "it has this extension"
        if values.get("number") != before.number and before.login is None:
            values["login"] = login_of(office.entry, before)       # or its phones would be out
    if before is not None and _keeps_secrets(before, values):
        kept = {name: getattr(before, name) for name in secrets_of(model) if getattr(before, name)}
        values = {**kept, **values}
    return model.model_validate(values)


def _keeps_secrets(before: Entry, values: Mapping[str, Any]) -> bool:
    """A token is not sent to another address than the one that it was entered for."""
    return not isinstance(before, CrmEntry) or str(values.get("base_url", "")).rstrip("/") == before.base_url


def _new_logins(office: Office, entry: ClientEntry) -> list[str]:
    return [login for one in entry.extension if (login := login_of(entry, one)) not in office.directory.by_login]


def _of_taken(entry: ClientEntry, edits: Mapping[Thing, int], taken: Taken) -> Iterator[Complaint]:
    """Nothing is said of who has it: that is another client's."""
    if taken.login:
        own = Thing(Part.CLIENT)
        yield _taken(own, entry.own_login, edits)
    for one in entry.extension:
        if (login := login_of(entry, one)) in taken.phones:
            yield _taken(Thing(Part.EXTENSION, one.number), login, edits)


def _taken(thing: Thing, login: str, edits: Mapping[Thing, int]) -> Complaint:
    return Complaint(thing, "login", Phrase("the login {name} is taken", name=login),
                     Phrase("Logins are unique on the server; choose another one."), edits.get(thing))


def _reviewed(entry: ClientEntry, sounds: Collection[str], kept: Collection[str]) -> Iterator[Complaint]:
    review = Review(_NO_FILE, sounds, kept)
    review.client(entry, ())
    for finding in review.findings:
        thing, place = _thing_at(entry, finding.at)
        yield Complaint(thing, dotted(place), finding.problem, finding.remedy, None)


def _thing_at(entry: ClientEntry, at: Location) -> tuple[Thing, Location]:
    if at[0] == Part.CRM.value:
        return Thing(Part.CRM), at[1:]
    if at[0] not in _APART:
        return Thing(Part.CLIENT), at
    part, index = Part(at[0]), at[1]
    assert isinstance(index, int), "things of these parts stand in lists"
    return Thing(part, key_of(part, getattr(entry, part.value)[index], entry.country)), at[2:]


def _edit_of(complaint: Complaint, edits: Mapping[Thing, int]) -> int | None:
    """A group whose number a new extension has taken is not what the complaint is about."""
    thing = complaint.thing
    found = edits.get(thing)
    if found is None and thing.part is Part.GROUP and complaint.field == "number":
        found = edits.get(Thing(Part.EXTENSION, thing.key))
    return found
