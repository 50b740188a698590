"""Whatever file, widget and CRM say: nobody has two extensions, none has two users, and what is refused is named."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.cdr import ClientId
from b2bua.crm.users import CrmUser, FaultKind, KnownUsers, checked, mapped, one_line, tidied
from b2bua.directory import Extension

ACME = ClientId("acme")
IDS = st.integers(1, 8)
NUMBERS = st.sampled_from([str(number) for number in range(101, 109)])       # of which an office has some


@st.composite
def offices(draw: st.DrawFn) -> list[Extension]:
    """As `apply` lets them be: no user twice."""
    numbers = draw(st.lists(NUMBERS, unique=True, max_size=6))
    users = draw(st.permutations([*range(1, 9), *[None] * 6]))
    return [Extension(ACME, number, number, {}, crm_user=user) for number, user in zip(numbers, users, strict=False)]


USERS = st.builds(
    KnownUsers,
    st.lists(st.builds(CrmUser, IDS, st.sampled_from(["Анна", "Борис", "Вера"]), st.booleans()),
             unique_by=lambda user: user.id).map(tuple))
MAPS = st.dictionaries(IDS, NUMBERS)


def is_at_work(users: KnownUsers, user: int) -> bool:
    return users.active is None or user in users.active


@settings(max_examples=500, deadline=None)
@given(offices(), USERS, MAPS)
def test_each_extension_has_one_user_and_each_user_one_extension(
        office: list[Extension], users: KnownUsers, widget: dict[int, str]) -> None:
    done = mapped(office, users, widget)
    having = [one.crm_user for one in done.extensions if one.crm_user is not None]
    assert len(having) == len(set(having))
    assert all(is_at_work(users, user) for user in having)
    assert [replace(one, crm_user=None) for one in done.extensions] == [replace(one, crm_user=None) for one in office]


@settings(max_examples=500, deadline=None)
@given(offices(), USERS, MAPS)
def test_who_is_at_work_has_what_the_widget_says_or_is_named_in_a_fault(
        office: list[Extension], users: KnownUsers, widget: dict[int, str]) -> None:
    done = mapped(office, users, widget)
    has = {one.crm_user: one.number for one in done.extensions}
    refused = [fault for fault in done.faults if fault.kind in (FaultKind.DOUBLE, FaultKind.NO_EXTENSION)]
    known = {user.id: user.name for user in users.users}
    for user, extension in widget.items():
        if is_at_work(users, user) and has.get(user) != extension:
            assert any(f"extension {extension}" in fault.problem and known.get(user, f"user {user}") in fault.problem
                       for fault in refused)
    for fault in refused:                        # and nothing that could be was refused
        number = fault.problem.split("extension ")[1][:3]
        whose = [user for user, extension in widget.items() if extension == number and is_at_work(users, user)]
        assert number not in {one.number for one in office} or len(whose) > 1


@settings(max_examples=500, deadline=None)
@given(offices(), USERS, MAPS)
def test_an_extension_loses_its_user_only_to_the_widget_or_because_they_left(
        office: list[Extension], users: KnownUsers, widget: dict[int, str]) -> None:
    done = mapped(office, users, widget)
    for before, after in zip(office, done.extensions, strict=True):
        if before.crm_user not in (None, after.crm_user):
            assert before.crm_user in widget or after.crm_user in widget or not is_at_work(users, before.crm_user)
        if after.crm_user not in (None, before.crm_user):
            assert widget[after.crm_user] == after.number


@settings(max_examples=300, deadline=None)
@given(offices(), USERS, MAPS)
def test_who_left_is_named_if_and_only_if_nobody_has_their_extension(
        office: list[Extension], users: KnownUsers, widget: dict[int, str]) -> None:
    done = mapped(office, users, widget)
    named = sorted(fault.problem.split("extension ")[1][:3] for fault in done.faults
                   if fault.kind in (FaultKind.SWITCHED_OFF, FaultKind.NO_USER))
    gone = {number for user, number in widget.items() if not is_at_work(users, user)}
    orphans = []
    for before, after in zip(office, done.extensions, strict=True):
        left = before.crm_user is not None and not is_at_work(users, before.crm_user)
        if after.crm_user is None and (before.number in gone or left):
            orphans.append(before.number)
    assert named == sorted(orphans)


@settings(max_examples=300, deadline=None)
@given(offices(), USERS, MAPS)
def test_what_may_be_saved_is_then_so_as_it_was_said(
        office: list[Extension], users: KnownUsers, widget: dict[int, str]) -> None:
    if not checked(office, users, widget):
        has = {one.crm_user: one.number for one in mapped(office, users, widget).extensions}
        assert widget.items() <= has.items()


@settings(max_examples=300, deadline=None)
@given(offices(), USERS, MAPS)
def test_to_map_twice_changes_nothing_more(
        office: list[Extension], users: KnownUsers, widget: dict[int, str]) -> None:
    once = mapped(office, users, widget).extensions
    assert mapped(once, users, widget).extensions == once


@given(st.dictionaries(st.one_of(st.text(max_size=25), st.integers(), st.none(), st.booleans()),
                       st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text()))))
def test_what_was_typed_becomes_users_and_one_line_each(typed: dict[object, object]) -> None:
    for user, extension in tidied(typed).items():
        assert 0 < user < 2**63
        assert extension == one_line(extension, 32) != ""
        assert extension.isprintable()
