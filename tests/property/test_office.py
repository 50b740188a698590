"""Whatever apply takes can be edited: the way back to entries loses nothing, and an edit that says the same is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.apply.back import entry_of
from b2bua.apply.difference import difference
from b2bua.apply.entries import ClientEntry
from b2bua.apply.file import directory_of, read_directory
from b2bua.apply.office import LISTS, MODELS, Edit, Office, Part, Thing, _drafted, said
from b2bua.apply.review import Review
from b2bua.apply.toml_lines import LocatedToml
from b2bua.cdr import ClientId
from b2bua.crm.functions import CardKind, Responsible
from b2bua.directory import Directory, Strategy, UsersFrom
from b2bua.faults import ConfigurationFaults
from b2bua.media import sounds
from b2bua.numbers import NumberFormat
from b2bua.trunk_profiles import PROFILES, Identity
from web import forms
from web.setup.client import SettingsPages
from web.setup.extensions import ExtensionPages
from web.setup.groups import GroupPages
from web.setup.numbers import NumberPages
from web.setup.things import ThingPages, names_in

ACME = ClientId("acme")
EXTENSIONS, GROUPS = ("101", "102", "*7"), ("600", "601")
TEXTS = st.sampled_from(["", "Продажи", "O'Hara \\\\ & <b>", "=1+1", "acme"])
TARGETS = st.sampled_from([*EXTENSIONS, *GROUPS, "+79160000001", "announcement:busy"])


def fields(**known: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    """Some of these settings, as TOML."""
    return st.fixed_dictionaries({}, optional=known).map(
        lambda said: "".join(f"{name} = {toml(value)}\n" for name, value in said.items()))


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'


BOOL = st.booleans()
CLIENT = fields(
    name=TEXTS, max_calls=st.integers(1, 200), record=BOOL, country=st.sampled_from(["RU", "US"]),
    caller_id=st.sampled_from(["8 495 111-22-33", "+12025550123"]), forward_outside=BOOL,
    music_on_hold=st.sampled_from(["", "ringback"]), pickup_code=st.sampled_from(["", "*9"]), show_callers=BOOL,
    click2call_answer_after=st.integers(0, 60), login=st.sampled_from(["acme", "boss"]),
    password=st.just("correct horse battery"), outgoing_per_hour=st.integers(0, 9))
CRM = fields(
    client_id=st.just("5b0c"), pop_up=BOOL, create_on_incoming=BOOL, patience=st.sampled_from([0, 1.5, 2]),
    default_user=st.integers(1, 9), sync=BOOL, not_told=st.lists(st.sampled_from(["+79160000009", "8 916 000 00 08"]),
                                                               unique=True, max_size=2),
    widget=st.sampled_from(["", "w1"]), users_from=st.sampled_from([one.value for one in UsersFrom]))
RULES = fields(
    incoming_answered=st.sampled_from([one.value for one in CardKind]),
    outgoing_answered=st.sampled_from(["contact", "nothing"]), contact_name=st.sampled_from(["{number}", "New {did}"]),
    responsible=st.sampled_from([one.value for one in Responsible]), tag=TEXTS, call_back_minutes=st.integers(1, 20))
DID = fields(incoming_missed=st.sampled_from([one.value for one in CardKind]), tag=TEXTS, fill_in_text=TEXTS)
TRUNK = fields(
    port=st.integers(1, 65535), networks=st.just(["192.0.2.0/24", "2001:db8::/32"]), user=st.just("u1"),
    password=st.just("p1"), register=BOOL, country=st.sampled_from(["RU", "US"]), priority=st.integers(0, 3),
    prefixes=st.just(["+7495", "112"]), profile=st.sampled_from(sorted(PROFILES)),
    number_format=st.sampled_from([one.value for one in NumberFormat]),
    identity=st.sampled_from([one.value for one in Identity]), trusts=st.just(["p-asserted-identity", "from"]),
    transport=st.sampled_from(["udp", "tcp"]))
EXTENSION = fields(
    password=st.just("of-the-phone"), login=st.sampled_from(["anna", "boris"]), name=TEXTS,
    crm_user=st.integers(1, 3), address=st.just("sip:1@192.0.2.1"), ascii_only=BOOL, hide_caller_id=BOOL,
    caller_id=st.just("8 495 111-22-33"), ring_seconds=st.integers(1, 300), forward_always=TARGETS, on_busy=TARGETS,
    max_calls=st.integers(1, 20))
GROUP = fields(
    name=TEXTS, strategy=st.sampled_from([one.value for one in Strategy]), member_seconds=st.integers(1, 30),
    ring_seconds=st.integers(1, 30), on_no_answer=TARGETS)
NUMBER = fields(trunk=st.just("op"), ring_seconds=st.integers(1, 300), on_unregistered=TARGETS)
HOURS = fields(holidays=st.just(["01-01", "2026-05-11"]))


@st.composite
def files(draw: st.DrawFn) -> str:
    text = f'[[client]]\nid = "acme"\n{draw(CLIENT)}'
    if draw(BOOL):
        text += f'[[client.limit]]\nprefix = "+882"\n{draw(st.sampled_from(["refused = true", "max_calls = 2"]))}\n'
    text += f'[[client.trunk]]\nname = "op"\nhost = "192.0.2.2"\n{draw(TRUNK)}'
    for number in EXTENSIONS:
        text += f'[[client.extension]]\nnumber = "{number}"\n{draw(EXTENSION)}'
    for number in GROUPS:
        text += f'[[client.group]]\nnumber = "{number}"\nmembers = ["101"]\n{draw(GROUP)}'
    text += f'[[client.number]]\nnumber = "8 495 111-22-33"\ndestination = "600"\n{draw(NUMBER)}'
    if draw(BOOL):
        text += ('[client.number.hours]\ntime_zone = "Europe/Moscow"\nopen = ["mon-fri 09:00-18:00"]\n'
                 f'otherwise = "{draw(TARGETS)}"\n{draw(HOURS)}')
    if draw(BOOL):
        text += ('[client.crm]\nbase_url = "https://acme.amocrm.ru"\ntoken = "t"\nclient_secret = "s"\n'
                 f'redirect_uri = "https://pbx.example.org/o"\n{draw(CRM)}')
        text += f"[client.crm.rules]\n{draw(RULES)}" + ("[client.crm.rules.deal]\npipeline = 7\n" if draw(BOOL) else "")
        text += f'[[client.crm.did]]\nnumber = "+74951112233"\n{draw(DID)}' if draw(BOOL) else ""
    return text


def mostly_right(text: str) -> Directory | None:
    """What the file says once everything that is faulty is out of it: a random file is hardly ever right at once."""
    with TemporaryDirectory() as place:
        path = Path(place) / "acme.toml"
        for _ in range(60):
            path.write_text(text)
            try:
                return read_directory(path, "smartswitch").directory
            except ConfigurationFaults as wrong:
                lines = text.splitlines()
                bad = {fault.line for fault in wrong.faults}
                if any(lines[line - 1].startswith("[[client.extension]]") for line in bad if line):
                    lines = [f'{line}\npassword = "of-the-phone"' if number in bad and line.startswith("[[") else line
                             for number, line in enumerate(lines, 1)]
                    bad = set()
                text = "\n".join(line for number, line in enumerate(lines, 1) if number not in bad) + "\n"
    return None


@given(files())
@settings(max_examples=300, deadline=None)
def test_what_apply_has_taken_comes_back_as_entries_and_is_the_same_again(text: str) -> None:
    directory = mostly_right(text)
    if directory is None:
        return
    entry = entry_of(directory, ACME)
    again = directory_of([entry], "smartswitch")
    (client,), (new,) = directory.clients, again.clients
    assert replace(new, password_hash=client.password_hash) == client
    assert [replace(one, ha1={}) for one in directory.extensions] == list(again.extensions)
    assert (again.trunks, again.groups, again.numbers) == (directory.trunks, directory.groups, directory.numbers)

    revalidated = ClientEntry.model_validate(entry.model_dump(by_alias=True, exclude_unset=True))
    review = Review(LocatedToml({}, {}), sounds.BUILT_IN, {one.login for one in directory.extensions if one.ha1})
    review.client(revalidated, ())
    assert review.findings == []


@given(files())
@settings(max_examples=300, deadline=None)
def test_an_edit_that_says_what_is_there_is_none(text: str) -> None:
    directory = mostly_right(text)
    if directory is None:
        return
    office = Office(ACME, directory, 1, entry_of(directory, ACME))
    things = [Thing(Part.CLIENT), *(Thing(part, key) for part in LISTS for key in office.all_of(part))]
    if directory.clients[0].crm is not None:
        things.append(Thing(Part.CRM))
    edits = []
    for thing in things:
        entry = office.get(thing)
        assert entry is not None
        edits.append(Edit(thing, said(entry), office.digest(thing)))
    draft = _drafted(office, edits)
    assert draft.entry is not None
    assert set(draft.edits) == set(things)
    assert difference(directory_of([entry_of(directory, ACME)], "s"), directory_of([draft.entry], "s")) == []


PAGES: tuple[type[ThingPages], ...] = (ExtensionPages, GroupPages, NumberPages, SettingsPages)


@given(files())
@settings(max_examples=200, deadline=None)
def test_a_form_that_nobody_has_touched_says_what_is_there(text: str) -> None:
    directory = mostly_right(text)
    if directory is None:
        return
    office = Office(ACME, directory, 1, entry_of(directory, ACME))
    for pages in PAGES:
        names = names_in(pages.blocks)
        for key in office.all_of(pages.part) if pages.part in LISTS else ("",):
            entry = office.get(Thing(pages.part, key))
            assert entry is not None
            texts = forms.shown(entry, MODELS[pages.part], names)
            sent = {name: value.replace("\n", "\r\n") for name, value in texts.items() if value}     # as browsers do
            again = MODELS[pages.part].model_validate({"id": ACME, **forms.values_of(sent, MODELS[pages.part], names)}
                                                      if pages.part is Part.CLIENT else
                                                      forms.values_of(sent, MODELS[pages.part], names))
            for name in names:
                assert forms.shown(again, MODELS[pages.part], [name])[name] == texts[name], name
