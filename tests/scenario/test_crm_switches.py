"""A function that is off makes no request on its behalf: every combination of the switches, the calls that an office
has, and what the stand-in amoCRM was asked for each. Real calls, lookup, outbox and adapter."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Flag, auto
from fnmatch import fnmatchcase
from itertools import product
from random import Random

import pytest

from b2bua.crm.functions import CrmFunctions
from b2bua.crm.memory import Memory
from b2bua.crm.sync import Sync
from b2bua.directory import Client, Directory
from tests.support.amo_office import deliver, office_of
from tests.support.amo_post import ACME, FIRM, IVAN, AmoPost, wall
from tests.support.office import DID, Office
from tests.support.phone import Answers, Phone, Rings

SWITCHES = {
    "F1": "pop_up", "F5": "forward_to_responsible", "F6": "set_caller_name", "F7": "create_on_incoming",
    "F8": "create_on_outgoing", "F9": "task_on_new_contact", "F10": "task_on_missed",
}
COMBINATIONS = [
    frozenset(name for name, is_on in zip(SWITCHES, those, strict=True) if is_on)
    for those in product((False, True), repeat=len(SWITCHES))
]


class Is(Flag):
    """What a call is, as far as a function asks."""

    INBOUND = auto()
    KNOWN = auto()
    ANSWERED = auto()
    OUTSIDE = auto()                       # and not withheld
    OWED_A_CALL = auto()                   # who is called was missed before


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    number: str
    what: Is


# Each number but the firm's is in one call alone, so that none is explained by another.
CALLS = (
    Kind("in, known, answered", IVAN, Is.OUTSIDE | Is.INBOUND | Is.KNOWN | Is.ANSWERED),
    Kind("in, known, missed", FIRM, Is.OUTSIDE | Is.INBOUND | Is.KNOWN),
    Kind("in, unknown, answered", "+79160000001", Is.OUTSIDE | Is.INBOUND | Is.ANSWERED),
    Kind("in, unknown, missed", "+79160000002", Is.OUTSIDE | Is.INBOUND),
    Kind("out, known", FIRM, Is.OUTSIDE | Is.KNOWN | Is.ANSWERED | Is.OWED_A_CALL),
    Kind("out, unknown", "+79160000003", Is.OUTSIDE | Is.ANSWERED),
    Kind("in, withheld", "anonymous", Is.INBOUND | Is.ANSWERED),
    Kind("internal", "102", Is.ANSWERED),
)

CARDS = {"GET /api/v4/contacts", "GET /api/v4/companies", "GET /api/v4/leads", "GET /api/v4/leads/*"}
CONTACT, UNSORTED, TASK = "POST /api/v4/contacts", "POST /api/v4/leads/unsorted/sip", "POST /api/v4/tasks"
CALL, POP_UP, DONE = "POST /api/v4/calls", "POST /api/v2/events/", "PATCH /api/v4/tasks/*"


def changes(on: frozenset[str], call: Is) -> list[str]:
    """What amoCRM must be asked to change for such a call, by whose wish."""
    inbound, known, answered = Is.INBOUND in call, Is.KNOWN in call, Is.ANSWERED in call
    if Is.OUTSIDE not in call:
        return []
    wanted = []
    if "F1" in on and inbound:
        wanted.append(POP_UP)
    becomes_a_contact = not known and (("F7" in on and inbound and answered) or ("F8" in on and not inbound))
    is_unsorted = not known and "F7" in on and inbound and not answered
    if becomes_a_contact:
        wanted.append(CONTACT)
    # F3, always; an unsorted lead tells its call itself.
    wanted.append(UNSORTED if is_unsorted else CALL)
    if "F9" in on and becomes_a_contact:
        wanted.append(TASK)
    if "F10" in on and known and inbound and not answered:
        wanted.append(TASK)
    if "F10" in on and Is.OWED_A_CALL in call:
        wanted.append(DONE)
    return wanted


def questions(on: frozenset[str], call: Is) -> set[str]:
    """What amoCRM may be asked for such a call, by whose wish."""
    inbound, known, answered = Is.INBOUND in call, Is.KNOWN in call, Is.ANSWERED in call
    if Is.OUTSIDE not in call:
        return set()
    may: set[str] = set()
    if inbound and {"F5", "F6"} & on:
        may |= CARDS                       # who calls
    if ("F7" if inbound else "F8") in on:
        may |= CARDS                       # whether they are there already
    if "F10" in on and inbound and not answered:
        may |= CARDS                       # on whose card the task is
    if "F10" in on and Is.OWED_A_CALL in call:
        may.add("GET /api/v4/tasks/*")     # whether a person has closed it
    if not known:
        may |= CARDS                       # F3: amoCRM itself looks into no deal for a call's number
    return may


async def place(office: Office, phones: Sequence[Phone], kind: Kind) -> None:
    """Such a call, to its end."""
    does = Answers(after=0.5) if Is.ANSWERED in kind.what else Rings()
    for phone in phones:
        phone.does = does
    before = len(office.books.records)
    call = office.trunk.call(DID, as_=kind.number) if Is.INBOUND in kind.what else phones[0].call(kind.number)
    if Is.ANSWERED in kind.what:
        await call.answered.wait()
        await asyncio.sleep(5)
        call.hang_up()
    else:
        await call.over.wait()
    await office.record(before + 1)


@pytest.mark.parametrize("on", COMBINATIONS, ids=lambda on: "+".join(name for name in SWITCHES if name in on) or "none")
async def test_each_request_is_the_wish_of_a_function_that_is_on(on: frozenset[str]) -> None:
    functions = CrmFunctions(**{switch: name in on for name, switch in SWITCHES.items()})     # type: ignore[arg-type]
    post = AmoPost(functions=functions)
    async with office_of(post) as (office, outbox):
        phones = [await office.phone(number) for number in ("101", "102")]
        for kind in CALLS:
            post.state.journal.clear()
            await place(office, phones, kind)
            await deliver(office, post, outbox)
            asked = post.asked()
            changing = [line for line in asked if not line.startswith("GET ")]
            assert Counter(_plain(line) for line in changing) == Counter(changes(on, kind.what)), (kind.name, asked)
            may = questions(on, kind.what)
            assert [line for line in asked if line.startswith("GET ") and not any(
                fnmatchcase(line, one) for one in may)] == [], kind.name
        assert office.agent.counters.faults == office.pbx.counters.faults == 0
    assert not post.state.journal.warnings


def _plain(line: str) -> str:
    """Without the number of a task."""
    return DONE if fnmatchcase(line, DONE) else line


@pytest.mark.parametrize("is_reachable", [True, False], ids=["reachable", "unreachable"])
@pytest.mark.parametrize(("sync", "webhooks", "forward", "name"), list(product((False, True), repeat=4)))
async def test_who_is_not_read_ahead_is_asked_for_nothing(
    sync: bool, webhooks: bool, forward: bool, name: bool, is_reachable: bool
) -> None:
    """`sync` reads the cards for F5 and F6; `webhooks` is what keeps them current, where amoCRM can reach us."""
    functions = CrmFunctions(forward_to_responsible=forward, set_caller_name=name, create_on_incoming=True,
                             create_on_outgoing=True, task_on_new_contact=True, task_on_missed=True)
    post = AmoPost(functions=functions)
    account = replace(post.account, sync=sync, webhooks=webhooks)
    address = "https://pbx.example.org/hooks/amocrm/acme.seal" if is_reachable else None
    async with post.connected(), asyncio.TaskGroup() as tasks:
        amo = post.crm_of(ACME)
        assert amo is not None
        reader = Sync(Memory(), lambda _: amo.people, lambda _: False, lambda _: address, wall, Random(1))
        reader.use(Directory(clients=(Client(ACME, "Acme", account),)))
        reading = tasks.create_task(reader.run())
        await asyncio.sleep(900)
        reading.cancel()
    reads = sync and (forward or name)
    asked = {line.rpartition("/")[0] if line[-1].isdigit() else line for line in post.asked()}
    cards = {"GET /api/v4/contacts", "GET /api/v4/companies", "GET /api/v4/leads"} if reads else set()
    hooks = {"GET /api/v4/webhooks", "POST /api/v4/webhooks"} if reads and webhooks and is_reachable else set()
    assert asked >= cards | hooks - {"GET /api/v4/webhooks"}
    assert asked <= cards | hooks
