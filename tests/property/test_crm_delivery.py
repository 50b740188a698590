"""A random day of calls against the stand-in amoCRM with random faults, while our process dies again and again: in the
end amoCRM holds what a plain list of the day says, each thing once, with the times of the calls.

FUZZ_EXAMPLES=N looks at N days that nobody has seen before, where the default is the same few ones each time.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from b2bua.cdr import CallId, Direction, Disposition
from b2bua.crm.amocrm.gate import IN_FLIGHT, PER_SECOND
from b2bua.crm.functions import CardKind
from b2bua.crm.port import CallNote, Card, CrmWrite, Deal, Purpose, TalkedTo, Task
from b2bua.sandbox import Act, Fault
from tests.support.amo_post import ACME, EPOCH, FIRM, IVAN, AmoPost, finds_late, link_of
from tests.support.memory_outbox import State
from tests.support.virtual_loop import VirtualLoop

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
HOUR = 3_600.0
TROUBLES_END = 3 * HOUR                # then all heals, and everything must arrive
STRANGERS = ("+79160000001", "+79160000002")
DOWN = 2.0                             # seconds from a death to the next start, at least


@dataclass(frozen=True)
class Call:
    at: float
    phone: str
    inbound: bool
    answered: bool
    make: CardKind
    with_deal: bool
    recording: bool


@dataclass(frozen=True)
class Trouble:
    """From just before a call of the day is told; a fault that is to happen some times waits until it has."""

    call: int
    seconds: float
    fault: Fault


@dataclass(frozen=True)
class Death:
    """So long after a call of the day was handed over."""

    call: int
    after: float
    down: float

    def at(self, day: Sequence[Call]) -> float:
        return day[self.call % len(day)].at + self.after


# -- what a day's calls owe, and what must be in amoCRM for it


def writes_of(number: int, call: Call) -> list[CrmWrite]:
    id_, phone, start = CallId(f"call-{number}"), call.phone, EPOCH + timedelta(seconds=call.at)
    direction = Direction.INBOUND if call.inbound else Direction.OUTBOUND
    talk = 60 if call.answered else 0
    owed: list[CrmWrite] = []
    if call.make is not CardKind.NOTHING:
        owed.append(Card(id_, ACME, direction, phone, start, call.make, 77, phone, "", "+74951112233", talk))
    if call.make is CardKind.CONTACT and call.with_deal:
        owed.append(Deal(id_, ACME, phone, start, 77, f"Сделка {number}", None, None, ""))
    said = Disposition.ANSWERED if call.answered else Disposition.NO_ANSWER
    recording = f"rec-{number}" if call.answered and call.recording else None
    owed.append(CallNote(id_, ACME, direction, phone, start, talk, said, 77, None, "+74951112233", recording))
    due = start + timedelta(minutes=15)
    if call.answered:
        owed.append(Task(id_, ACME, phone, start, Purpose.FILL_IN, 77, f"Заполнить {number}", due))
        owed.append(TalkedTo(id_, ACME, phone, start))
    elif call.inbound:
        owed.append(Task(id_, ACME, phone, start, Purpose.CALL_BACK, 77, f"Перезвонить {number}", due))
    return owed


@dataclass
class Expected:
    """A number's things, in the order of its calls."""

    has_contact: bool
    has_unsorted: bool = False
    made_contacts: int = 0
    notes: list[str] = field(default_factory=list)
    deals: list[str] = field(default_factory=list)
    tasks: dict[str, bool] = field(default_factory=dict)       # text -> whether it is completed
    open_call_back: str | None = None

    def add(self, number: int, call: Call) -> None:
        is_new = False
        if call.make is not CardKind.NOTHING and not self.has_contact and not self.has_unsorted:
            if call.make is CardKind.UNSORTED and call.inbound:
                self.has_unsorted = True
            else:
                self.has_contact = is_new = True
                self.made_contacts += 1
        if is_new and call.make is CardKind.CONTACT and call.with_deal:
            self.deals.append(f"Сделка {number}")
        if self.has_contact or self.has_unsorted:
            self.notes.append(f"call-{number}")
        if call.answered and is_new:
            self.tasks[f"Заполнить {number}"] = False
        if call.answered and self.open_call_back is not None:
            self.tasks[self.open_call_back] = True
            self.open_call_back = None
        if not call.answered and call.inbound and self.has_contact and self.open_call_back is None:
            self.open_call_back = f"Перезвонить {number}"
            self.tasks[self.open_call_back] = False


def expected_of(day: Sequence[Call]) -> dict[str, Expected]:
    """Nobody in the office does anything: only the calls do."""
    numbers = {phone: Expected(has_contact=phone in (IVAN, FIRM)) for phone in (IVAN, FIRM, *STRANGERS)}
    for number, call in enumerate(day):
        numbers[call.phone].add(number, call)
    return numbers


# -- the day


async def live(day: Sequence[Call], troubles: Sequence[Trouble], deaths: Sequence[Death], lag: float) -> AmoPost:
    post = AmoPost()
    if lag:
        finds_late(post.amo, lag)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(calls_happen(post, day))
        for trouble in troubles:
            tasks.create_task(trouble_happens(post, trouble, day[trouble.call % len(day)].at))
        for death in sorted(deaths, key=lambda death: death.at(day)):
            await runs_until(post, death.at(day))
            await asyncio.sleep(DOWN + death.down)
        await runs_until(post, TROUBLES_END)
    async with post.running():
        await post.settled()
    return post


async def calls_happen(post: AmoPost, day: Sequence[Call]) -> None:
    for number, call in enumerate(day):
        await until(call.at)
        for write in writes_of(number, call):
            post.store.add(write)


async def trouble_happens(post: AmoPost, trouble: Trouble, at: float) -> None:
    await until(at - 0.001)
    fault = replace(trouble.fault)
    post.state.faults.add(fault)
    await until(at + trouble.seconds if fault.times is None else TROUBLES_END)
    fault.times = 0


async def runs_until(post: AmoPost, at: float) -> None:
    """A process of ours: it is killed in whatever it does then."""
    async with post.connected(), asyncio.TaskGroup() as tasks:
        process = tasks.create_task(post.outbox(seed=int(at)).run())
        await until(at)
        process.cancel()


async def until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))


# -- what is true in the end


def check(post: AmoPost, day: Sequence[Call]) -> None:
    assert [row.said for row in post.store.rows if row.state is not State.DONE] == []
    told = Counter(entry.uniq for entry in post.state.calls())
    started = {f"call-{number}": int(EPOCH.timestamp() + call.at) for number, call in enumerate(day)}
    numbers = expected_of(day)
    assert told == Counter(call for number in numbers.values() for call in number.notes)
    for entry in post.state.calls():
        assert entry.created_at == started[entry.uniq]
        call = day[int(entry.uniq.removeprefix("call-"))]
        assert entry.talk_seconds == (60 if call.answered else 0)
        has_link = call.answered and call.recording
        assert entry.link == (link_of(f"rec-{entry.uniq.removeprefix('call-')}") if has_link else None)
    for phone in STRANGERS:
        visible = [one for one in post.contacts if phone in one.phones and not one.is_hidden]
        assert len(visible) == numbers[phone].made_contacts
        assert len([one for one in post.state.unsorted() if one.phone == phone]) == numbers[phone].has_unsorted
    made = [lead.name for lead in post.leads[1:] if not lead.is_hidden]
    assert sorted(made) == sorted(name for number in numbers.values() for name in number.deals)
    wanted = {text: done for number in numbers.values() for text, done in number.tasks.items()}
    assert sorted(task.text for task in post.tasks) == sorted(wanted)
    assert {task.text: task.is_completed for task in post.tasks} == wanted
    assert post.sandbox.rate.highest <= PER_SECOND + IN_FLIGHT     # what a fault delays arrives among later ones
    assert not post.state.journal.warnings


# -- random days

HTML = "<html>nginx</html>"
faults = st.builds(
    replace,
    st.sampled_from((
        Fault(act=Act.RESET), Fault(act=Act.CUT), Fault(act=Act.SILENCE), Fault(act=Act.ANSWER, status=500),
        Fault(act=Act.ANSWER, status=502, body=HTML), Fault(act=Act.ANSWER, status=504),
        Fault(act=Act.ANSWER, status=200, body=HTML), Fault(act=Act.ANSWER, status=200, body=""),
        Fault(act=Act.ANSWER, status=200, body="[]", content_type="application/json"), Fault(delay=5.0),
        Fault(delay=60.0),
    )),
    path=st.sampled_from(("/api/*", "/api/*", "/api/v4/calls", "/api/v4/contacts", "/api/v4/tasks*", "/api/v4/leads*",
                          "/api/v4/*/notes*")),
    method=st.sampled_from(("*", "POST", "POST", "GET", "PATCH")),
    committed=st.booleans(),
    probability=st.sampled_from((1.0, 1.0, 0.5, 0.2)),
    times=st.sampled_from((1, 1, 2, 3, None)),
)
refusals = st.sampled_from((
    Fault("/api/*", act=Act.ANSWER, status=429, times=3), Fault("/api/*", act=Act.ANSWER, status=402, times=1),
    Fault("/api/*", act=Act.ANSWER, status=401, times=1),
    Fault("/api/*", act=Act.ANSWER, status=403, body=HTML, times=1),
))
which = st.integers(0, 7)
troubles = st.builds(
    Trouble, which, st.sampled_from((10.0, 120.0, 1_800.0)), st.one_of(faults, faults, faults, faults, refusals)
)
calls = st.builds(
    Call, st.integers(1, int(TROUBLES_END - HOUR)).map(float), st.sampled_from((IVAN, FIRM, *STRANGERS, *STRANGERS)),
    st.booleans(), st.booleans(), st.sampled_from(CardKind), st.booleans(), st.booleans(),
)
days = st.lists(calls, min_size=1, max_size=8, unique_by=lambda call: call.at).map(
    lambda day: sorted(day, key=lambda call: call.at)
)
afterwards = st.sampled_from((0.0, 0.1, 1.0, 2.0, 5.0, 20.0, 29.0, 40.0, 130.0, 600.0))
deaths = st.builds(Death, which, afterwards, st.sampled_from((0.0, 10.0, 300.0)))


@settings(
    max_examples=EXAMPLES or 80, derandomize=not EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow],
    phases=set(Phase) - {Phase.explain},
)
@given(day=days, troubles=st.lists(troubles, max_size=6), deaths=st.lists(deaths, max_size=5),
       lag=st.sampled_from((0.0, 30.0, 4 * HOUR)))
def test_amocrm_holds_each_thing_of_the_day_once(
    day: list[Call], troubles: list[Trouble], deaths: list[Death], lag: float
) -> None:
    with capture_logs(), asyncio.Runner(loop_factory=lambda: VirtualLoop(40 * 24 * HOUR)) as runner:
        post = runner.run(live(day, troubles, deaths, lag))
    event(f"{len(post.asked()) // 20 * 20} requests or more")
    check(post, day)
