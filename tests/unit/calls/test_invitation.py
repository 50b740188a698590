"""Who is shown as calling, to a phone that rings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from b2bua.calls.call import CallInProgress
from b2bua.calls.invitation import Invitation, Shown, shown
from b2bua.cdr import CallId, Direction
from b2bua.crm.functions import CrmFunctions
from b2bua.crm.port import Contact, EntityKind
from b2bua.directory import CrmAccount
from b2bua.ua.leg import Inbox
from tests.support.office import ACME, DID, directory

IVAN = "+79161234567"
ACCOUNT = CrmAccount("http://crm.test", "token")
ANNA = directory().extensions[0]


def a_call(crm: CrmAccount | None = ACCOUNT) -> CallInProgress:
    clock = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    call = CallInProgress(CallId("1"), ACME, Direction.INBOUND, IVAN, DID, "operator", lambda: clock, crm)
    call.contact = Contact(EntityKind.CONTACT, 1, "Иван", None)
    return call


@pytest.mark.parametrize(
    ("crm", "name"),
    [(ACCOUNT, "Иван"), (replace(ACCOUNT, functions=CrmFunctions(set_caller_name=False)), ""), (None, "")],
)
def test_the_outside_party_has_the_crms_name_where_the_client_wants_it(crm: CrmAccount | None, name: str) -> None:
    assert shown(a_call(crm), None) == Shown(IVAN, name)


def test_a_colleague_has_a_name_of_its_own() -> None:
    assert shown(a_call(), ANNA) == Shown("101", "Employee 101")


def test_who_refers_is_passed_on() -> None:
    invitation = Invitation(a_call(), Inbox(), b"", Shown("101", ""), ANNA)
    assert invitation.headers == ()
    assert replace(invitation, referred_by="<sip:101@x>").headers == (("Referred-By", "<sip:101@x>"),)
