"""Whose extension is whose: the file's map, the widget's, and who has left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from b2bua.cdr import ClientId
from b2bua.crm.users import (
    LONGEST_EXTENSION,
    MOST_USERS,
    CrmUser,
    FaultKind,
    KnownUsers,
    ListedUser,
    checked,
    effective,
    listed,
    mapped,
    tidied,
)
from b2bua.directory import Client, CrmAccount, Directory, Extension, UsersFrom

ACME = ClientId("acme")
ANNA, BORIS, VERA = 77, 78, 79
USERS = KnownUsers((CrmUser(ANNA, "Анна Иванова"), CrmUser(BORIS, "Пётр Сидоров"), CrmUser(VERA, "Вера Попова", False)))


def extensions(**users: int | None) -> list[Extension]:
    """`_101=77`."""
    return [Extension(ACME, name[1:], f"acme-{name[1:]}", {}, crm_user=user) for name, user in users.items()]


def users_of(done: object) -> dict[str, int | None]:
    return {one.number: one.crm_user for one in done.extensions}        # type: ignore[attr-defined]


def test_without_a_widget_the_file_counts() -> None:
    office = extensions(_101=ANNA, _102=BORIS, _103=None)
    assert mapped(office, USERS, {}).extensions == tuple(office)
    assert mapped(office, KnownUsers(), {}).faults == ()


def test_whom_the_widget_names_has_the_extension_that_it_says() -> None:
    done = mapped(extensions(_101=ANNA, _102=BORIS, _103=None), USERS, {ANNA: "103"})
    assert users_of(done) == {"101": None, "102": BORIS, "103": ANNA}
    assert done.faults == ()


def test_who_has_taken_over_an_extension_has_it() -> None:
    done = mapped(extensions(_101=ANNA, _102=None), USERS, {BORIS: "101"})
    assert users_of(done) == {"101": BORIS, "102": None}
    assert done.faults == ()


def test_two_with_one_extension_are_refused_by_name_and_the_file_stands() -> None:
    done = mapped(extensions(_101=ANNA, _102=BORIS), USERS, {ANNA: "101", BORIS: "101"})
    assert users_of(done) == {"101": ANNA, "102": BORIS}
    (fault,) = done.faults
    assert (fault.kind, fault.problem) == (
        FaultKind.DOUBLE, "Анна Иванова and Пётр Сидоров both have extension 101")


def test_of_namesakes_the_number_is_said() -> None:
    twins = KnownUsers((CrmUser(1, "Анна"), CrmUser(2, "Анна"), CrmUser(3, "Борис")))
    (fault,) = mapped(extensions(_101=None), twins, {1: "101", 2: "101", 3: "101"}).faults
    assert fault.problem == "Анна (1), Анна (2) and Борис all have extension 101"


def test_whose_names_the_crm_does_not_tell_are_users_by_number() -> None:
    (fault,) = mapped(extensions(_101=None), KnownUsers(), {1: "101", 2: "101"}).faults
    assert fault.problem == "user 1 and user 2 both have extension 101"


def test_many_with_one_extension_make_no_long_sentence() -> None:
    (fault,) = mapped(extensions(_101=None), KnownUsers(), dict.fromkeys(range(1, 500), "101")).faults
    assert fault.problem.endswith("user 9, user 10 and 489 more all have extension 101")


def test_an_extension_that_there_is_not_is_named() -> None:
    done = mapped(extensions(_101=ANNA, _102=None), USERS, {ANNA: "199"})
    assert users_of(done) == {"101": ANNA, "102": None}
    (fault,) = done.faults
    assert (fault.kind, fault.problem, fault.remedy) == (
        FaultKind.NO_EXTENSION, "Анна Иванова has extension 199, which there is not",
        "Give them one of these: 101, 102.")


@pytest.mark.parametrize("in_widget", [False, True], ids=["by the file", "by the widget"])
def test_the_extension_of_who_is_switched_off_is_nobodys(in_widget: bool) -> None:
    office = extensions(_101=ANNA, _103=None if in_widget else VERA)
    done = mapped(office, USERS, {VERA: "103"} if in_widget else {})
    assert users_of(done) == {"101": ANNA, "103": None}
    (fault,) = done.faults
    assert (fault.kind, fault.problem) == (
        FaultKind.SWITCHED_OFF, "Вера Попова is switched off in the CRM, but extension 103 is still theirs")


def test_who_has_left_stands_in_the_way_of_nobody() -> None:
    done = mapped(extensions(_103=VERA), USERS, {VERA: "103", BORIS: "103"})
    assert users_of(done) == {"103": BORIS}
    assert done.faults == ()


def test_who_is_not_in_the_list_is_not_in_the_crm() -> None:
    done = mapped(extensions(_101=5), USERS, {})
    assert users_of(done) == {"101": None}
    (fault,) = done.faults
    assert (fault.kind, fault.problem) == (
        FaultKind.NO_USER, "user 5 is not in the CRM, but extension 101 is still theirs")


def test_of_a_list_that_is_cut_or_was_never_told_nobody_is_missing() -> None:
    cut = KnownUsers(tuple(CrmUser(1000 + n, "N", is_active=n % 2 == 0) for n in range(MOST_USERS)))
    for users in (cut, KnownUsers()):
        assert users.active is None
        assert users_of(mapped(extensions(_101=5), users, {})) == {"101": 5}


def test_what_was_typed_is_tidied() -> None:
    typed: dict[object, object] = {
        "77": " 101 ", "78": "", "79": "\u00a0\t", 80: 102, "81": None, "x": "103", "0": "1", "-5": "1", "82": True,
        "83": "1" * 1000, str(2**70): "104", "84": "10\x003"}
    assert tidied(typed) == {77: "101", 80: "102", 83: "1" * LONGEST_EXTENSION, 84: "10 3"}
    assert len(tidied({str(n): "101" for n in range(1, MOST_USERS * 2)})) == MOST_USERS


def test_what_somebody_wants_to_save_has_no_user_who_has_left() -> None:
    office = extensions(_101=ANNA, _102=None)
    assert checked(office, USERS, {ANNA: "102", BORIS: "101"}) == ()
    assert [fault.kind for fault in checked(office, USERS, {VERA: "102", 5: "101", ANNA: "9"})] == [
        FaultKind.NO_EXTENSION, FaultKind.NO_USER, FaultKind.SWITCHED_OFF]


def account(**changes: object) -> CrmAccount:
    return replace(CrmAccount("http://crm.test", "token"), **changes)     # type: ignore[arg-type]


def test_the_directory_is_changed_for_those_with_a_crm() -> None:
    other = ClientId("other")
    base = Directory(
        (Client(ACME, "Acme", account(default_user=VERA)), Client(other, "Other")),
        (*extensions(_101=ANNA, _103=VERA), Extension(other, "101", "other-101", {}, crm_user=VERA)))
    done = effective(base, {ACME: USERS, other: USERS})
    assert [one.crm_user for one in done.directory.extensions] == [ANNA, None, VERA]
    crm = done.directory.client[ACME].crm
    assert crm is not None
    assert (crm.default_user, crm.active_users) == (None, {ANNA, BORIS})
    assert [crm.has_active(user) for user in (ANNA, VERA, 5)] == [True, False, False]
    assert [fault.problem for fault in done.faults[ACME]] == [
        "Вера Попова is switched off in the CRM, but extension 103 is still theirs",
        "Вера Попова is switched off in the CRM, but is the default user"]
    assert other not in done.faults
    assert done.directory.client[other] is base.client[other]


def test_the_widgets_map_counts_only_where_users_come_from_it() -> None:
    told = replace(USERS, map={ANNA: "102"})
    for source, expected in ((UsersFrom.FILE, [ANNA, None]), (UsersFrom.WIDGET, [None, ANNA])):
        base = Directory((Client(ACME, "Acme", account(users_from=source)),), tuple(extensions(_101=ANNA, _102=None)))
        assert [one.crm_user for one in effective(base, {ACME: told}).directory.extensions] == expected


def test_users_are_listed_by_name_with_what_they_have_and_from_where() -> None:
    base = extensions(_101=ANNA, _102=None, _104=5)
    given = account(users_from=UsersFrom.WIDGET)
    told = replace(USERS, map={BORIS: "102"})
    found = listed(base, mapped(base, told, told.map).extensions, given, told)
    assert found == (
        ListedUser(ANNA, "Анна Иванова", "", True, "101", "file"),
        ListedUser(VERA, "Вера Попова", "", False, None, ""),
        ListedUser(BORIS, "Пётр Сидоров", "", True, "102", "widget"),
        ListedUser(5, "", "", False, None, ""),
    )
