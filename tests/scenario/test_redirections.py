"""An operator answers that the call shall be made elsewhere (3xx)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from b2bua.calls.redirect import MAX_REDIRECTIONS
from b2bua.cdr import Disposition, EndReason
from b2bua.directory import PrefixLimit
from b2bua.sip.effects import Address
from tests.scenario.test_trunks import SPARE, operator, operator_at, spare, with_trunks
from tests.support.office import OPERATOR, Office, open_office
from tests.support.phone import Phone, PhoneCall, Rejects

OUTSIDE = "+79265554433"
OTHER = "+79265550000"


@pytest.fixture
def office():
    return open_office()


async def out(office: Office, answered: bool = True) -> PhoneCall:
    anna = await office.phone("101")
    call = anna.call(OUTSIDE)
    await (call.answered if answered else call.over).wait()
    call.hang_up()
    return call


@pytest.mark.parametrize("status", [300, 301, 302])
async def test_a_redirection_to_a_server_of_the_trunk_is_followed(office: Office, status: int) -> None:
    office.trunk.does = Rejects(status, contact=f"<sip:{OTHER}@{SPARE.host}>")
    second = operator_at(office, SPARE)
    await out(office)
    record = await office.record()
    assert (record.disposition, record.trunk) == (Disposition.ANSWERED, "operator")
    assert second.calls[0].session.invite.uri.user == OTHER
    assert second.calls[0].session.invite.from_.uri.user == office.trunk.calls[0].session.invite.from_.uri.user
    assert f"operator redirects ({status}) to sip:{OTHER}@{SPARE.host}: followed" in record.why
    await office.all_quiet()


async def test_contacts_are_tried_in_the_order_of_q(office: Office) -> None:
    office.trunk.does = Rejects(302, contact=f"<sip:1@{SPARE.host}>;q=0.1, <sip:2@{SPARE.host}>;q=0.9")
    second = operator_at(office, SPARE, Rejects(404))
    call = await out(office, answered=False)
    assert call.status == 404
    assert [each.session.invite.uri.user for each in second.calls] == ["2", "1"]
    await office.record()
    await office.all_quiet()


async def test_use_proxy_goes_there_with_the_same_request_uri(office: Office) -> None:
    office.trunk.does = Rejects(305, contact=f"<sip:{SPARE.host}>")
    second = operator_at(office, SPARE)
    await out(office)
    assert second.calls[0].session.invite.uri.user == OUTSIDE
    assert second.calls[0].session.invite.uri.host == OPERATOR.host
    await office.record()
    await office.all_quiet()


async def test_a_number_elsewhere_is_called_through_the_same_trunk(office: Office) -> None:
    office.trunk.does = Rejects(302, contact=f"<sip:{OTHER}@198.51.100.7>")
    call = await out(office, answered=False)
    assert [each.session.invite.uri.user for each in office.trunk.calls] == [OUTSIDE, OTHER]
    record = await office.record()
    assert (call.status, record.reason) == (480, EndReason.REJECTED)
    assert any("where the call has been" in why for why in record.why)
    await office.all_quiet()


@pytest.mark.parametrize(("status", "contact"), [
    (302, "<sip:somebody@198.51.100.7>"), (302, ""), (380, f"<sip:{OTHER}@{SPARE.host}>"),
    (305, "<sip:198.51.100.7>"), (302, f"<sip:{OUTSIDE}@{OPERATOR.host}:{OPERATOR.port}>"),
])
async def test_a_redirection_to_nowhere_is_a_fault_of_that_trunk(office: Office, status: int, contact: str) -> None:
    third = operator_at(office, Address("10.9.0.3", 5060))
    office.trunk.does = Rejects(status, contact=contact)
    await with_trunks(office, operator(office), spare(host="10.9.0.3"))
    await out(office)
    assert (len(office.trunk.calls), len(third.calls)) == (1, 1)
    assert (await office.record()).trunk == "spare"
    await office.all_quiet()


async def test_an_operator_that_redirects_for_ever_is_left(office: Office) -> None:
    class Redirects(Phone):
        def _called(self, session):  # type: ignore[no-untyped-def]
            self.does = Rejects(302, contact=f"<sip:+7926{len(self.calls):07}@{OPERATOR.host}>")
            super()._called(session)

    office.trunk.__class__ = Redirects
    call = await out(office, answered=False)
    assert call.status == 480
    assert len(office.trunk.calls) == 1 + MAX_REDIRECTIONS
    await office.record()
    await office.all_quiet()


async def test_a_redirection_leads_to_no_number_that_is_refused(office: Office) -> None:
    client = replace(office.books.directory.clients[0], limits=(PrefixLimit("+882", refused=True),))
    office.change(clients=(client,))
    await office.pbx.settings_changed()
    office.trunk.does = Rejects(302, contact=f"<sip:+88213300012@{OPERATOR.host}>")
    call = await out(office, answered=False)
    record = await office.record()
    assert (call.status, record.reason, len(office.trunk.calls)) == (403, EndReason.LIMIT_REACHED, 1)
    await office.all_quiet()
