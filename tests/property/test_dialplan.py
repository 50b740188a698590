"""Whatever apply takes: planning ends, no step rings nobody, and no call comes back to where it has been."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.apply.file import read_directory
from b2bua.cdr import ClientId
from b2bua.crm.port import Contact, EntityKind
from b2bua.directory import Cause, Directory, Strategy
from b2bua.faults import ConfigurationFaults
from b2bua.routing.dialplan import plan_inbound
from b2bua.routing.groups import Turns
from b2bua.routing.plan import Announce, DialTrunk, NoRoute, Plan, RingExtensions, Step
from b2bua.routing.trunk_choice import TrunkChoice

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ACME = ClientId("acme")
EXTENSIONS, GROUPS = ("101", "102", "103", "104"), ("600", "601", "602")
EVERYONE = EXTENSIONS + GROUPS
MOBILE, PLAYED = "+79160000001", "announcement:busy"
TARGETS = st.none() | st.sampled_from((*EVERYONE, MOBILE, PLAYED))
CHOICE = TrunkChoice(lambda trunk: True, Random(1))
WAYS = st.fixed_dictionaries({cause.value: TARGETS for cause in Cause if cause is not Cause.ALWAYS})
FORWARDS = st.fixed_dictionaries({cause.value: TARGETS for cause in Cause})
MEMBERS = st.lists(st.sampled_from(EXTENSIONS), min_size=1, unique=True)


def lines(ways: dict[str, str | None]) -> str:
    return "".join(f'{name} = "{target}"\n' for name, target in ways.items() if target is not None)


@st.composite
def files(draw: st.DrawFn) -> str:
    text = '[[client]]\nid = "acme"\nforward_outside = true\n[[client.trunk]]\nname = "op"\nhost = "192.0.2.2"\n'
    text += '[client.crm]\nbase_url = "https://acme.amocrm.ru"\ntoken = "secret"\n'
    for number in EXTENSIONS:
        text += f'[[client.extension]]\nnumber = "{number}"\naddress = "sip:1@192.0.2.1"\ncrm_user = {number}\n'
        text += lines(draw(st.one_of(*[st.just({})] * 4, FORWARDS)))
    for number in GROUPS:
        members = ", ".join(f'"{member}"' for member in draw(MEMBERS))
        strategy = draw(st.sampled_from(Strategy)).value
        text += f'[[client.group]]\nnumber = "{number}"\nmembers = [{members}]\nstrategy = "{strategy}"\n'
        text += lines(draw(SPARSE))
    destination = draw(st.sampled_from((*EVERYONE, MOBILE, PLAYED)))
    text += f'[[client.number]]\nnumber = "+74951112233"\ndestination = "{destination}"\n'
    text += lines(draw(WAYS)) if destination != PLAYED else ""
    otherwise = draw(TARGETS)
    if otherwise is not None:
        open_ = draw(st.sampled_from(["mon-fri 09:00-18:00", "sat 22:00-06:00"]))
        text += f'[client.number.hours]\ntime_zone = "Asia/Tokyo"\nopen = ["{open_}"]\notherwise = "{otherwise}"\n'
    return text


# Mostly nowhere: else hardly a file is without a circle.
SPARSE = st.one_of(st.just({}), st.just({}), st.just({}), WAYS)


def read(text: str) -> Directory | ConfigurationFaults:
    with TemporaryDirectory() as place:
        path = Path(place) / "acme.toml"
        path.write_text(text)
        try:
            return read_directory(path, "smartswitch").directory
        except ConfigurationFaults as faults:
            return faults


@given(files(), st.sets(st.sampled_from(EXTENSIONS)), st.dictionaries(st.sampled_from(GROUPS),
       st.sampled_from(EXTENSIONS)), st.dictionaries(st.sampled_from(EXTENSIONS), st.floats(allow_nan=False)))
@settings(max_examples=400, deadline=None)
def test_any_plan_ends_and_rings_somebody(
    text: str, there: set[str], begun: dict[str, str], idle: dict[str, float]
) -> None:
    directory = read(text)
    if isinstance(directory, ConfigurationFaults):             # of nothing else than circles
        assert all("circle" in fault.problem or "come back" in fault.problem for fault in directory.faults)
        return
    turns = Turns({(ACME, group): member for group, member in begun.items()},
                  {(ACME, number): since for number, since in idle.items()})
    did = directory.numbers[0]
    plan = plan_inbound(directory, ACME, did, None, lambda one: one.number in there, CHOICE, NOON, turns)
    if isinstance(plan, NoRoute):
        assert plan.why
        return
    rings(plan, directory, there)
    assert len(plan.ends) <= len(EVERYONE) + 2                 # each destination once
    assert plan.ends[-1] == len(plan.steps) - 1
    for onward in plan.goes_on:
        assert onward.after in plan.ends
        assert onward.to is None or onward.after < onward.to < len(plan.steps)
    # Where it leads nowhere, nobody is there: no way was cut off because it would have led back.
    names = {onward.why for onward in plan.goes_on if onward.to is None}
    assert all(why.endswith("is registered") for why in names)


@given(files(), st.sets(st.sampled_from(EXTENSIONS)), st.sampled_from(EXTENSIONS))
@settings(max_examples=400, deadline=None)
def test_who_is_responsible_comes_before_the_same_as_without(text: str, there: set[str], responsible: str) -> None:
    directory = read(text)
    if isinstance(directory, ConfigurationFaults):
        return

    def planned(contact: Contact | None) -> Plan:
        did, reachable = directory.numbers[0], lambda one: one.number in there
        plan = plan_inbound(directory, ACME, did, contact, reachable, CHOICE, NOON)
        return plan if isinstance(plan, Plan) else Plan((), (plan.why,))

    without = planned(None)
    plan = planned(Contact(EntityKind.CONTACT, 1, "Ivan", int(responsible)))
    rings(plan, directory, there)
    begin = without.ends[0] + 1 if without.ends else 0
    onward = [whom(step) for step in without.steps[begin:]]
    all_ = [whom(step) for step in plan.steps]
    head, tail = all_[:len(all_) - len(onward)], all_[len(all_) - len(onward):]
    assert tail == onward                  # where the call goes on to is the same, whoever rang first
    there_else = [whom(step) for step in without.steps[:begin]]
    cuts = [cut for cut in range(len(head) + 1) if head[cut:] == [one for one in there_else if one not in head[:cut]]]
    assert cuts, f"{head} is not somebody and then {there_else}"
    assert not any(isinstance(step, Announce) for step in plan.steps[:cuts[0]])
    assert len(set(head[:cuts[0]])) == cuts[0]


def whom(step: Step) -> str:
    match step:
        case RingExtensions(extensions=extensions):
            return ",".join(one.number for one in extensions)
        case DialTrunk(outside=outside):
            return outside
        case Announce(sound=sound):
            return sound


def rings(plan: Plan, directory: Directory, there: set[str]) -> None:
    for index, step in enumerate(plan.steps):
        if isinstance(step, Announce):                         # and there it ends
            assert index in plan.ends
            assert all(onward.after != index for onward in plan.goes_on)
            continue
        assert step.seconds > 0
        if isinstance(step, DialTrunk):
            continue
        assert step.extensions
        numbers = [one.number for one in step.extensions]
        assert set(numbers) <= there
        assert len(set(numbers)) == len(numbers)
        # Who forwards all calls rings nowhere, unless they lead to where it rings.
        away = [one.forward_always for one in step.extensions if one.forward_always is not None]
        assert {target for _, target in directory.group} >= set(away)
