"""Dialogs, RFC 3261 §12: route sets, targets, next hops, order."""

from __future__ import annotations

import pytest

from b2bua.sip.dialog import MAX_ROUTES, Dialog
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.grammar import ParseError
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.uri import Uri

UDP = Flow(Transport.UDP, Address("10.0.0.1", 5060), Address("10.0.0.2", 5070))
TCP = Flow(Transport.TCP, Address("10.0.0.1", 5060), Address("10.0.0.2", 41234), 7)

INVITE = """INVITE sip:bob@10.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.2:5070;branch=z9hG4bK1
From: "Alice" <sip:alice@home>;tag=a1
To: <sip:bob@home>
Call-ID: c1
CSeq: 314 INVITE
Contact: <sip:alice@10.0.0.2:5070>
"""


def invite(*more: str, contact: str = "<sip:alice@10.0.0.2:5070>") -> Request:
    text = INVITE.replace("<sip:alice@10.0.0.2:5070>", contact) + "".join(f"{line}\n" for line in more)
    message = parse((text + "Content-Length: 0\n\n").replace("\n", "\r\n").encode())
    assert isinstance(message, Request)
    return message


def uas(*more: str, contact: str = "<sip:alice@10.0.0.2:5070>", flow: Flow = UDP) -> Dialog:
    return Dialog.as_uas(invite(*more, contact=contact), "b1", flow)


def uac(*fields: tuple[str, str], flow: Flow = UDP) -> Dialog:
    request = invite()
    response = request.response(200, to_tag="b1", headers=fields)
    return Dialog.as_uac(request, response, flow)


def test_a_request_of_the_callee_turns_from_and_to_around() -> None:
    bye = uas().request("BYE", "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKx")
    assert (str(bye.uri), bye.headers.get("From"), bye.headers.get("To"), bye.call_id, str(bye.cseq)) == (
        "sip:alice@10.0.0.2:5070", "<sip:bob@home>;tag=b1", '"Alice" <sip:alice@home>;tag=a1', "c1", "1 BYE")
    assert bye.max_forwards == 70


def test_the_caller_goes_on_counting_from_its_invite_and_acks_with_its_number() -> None:
    dialog = uac(("Contact", "<sip:bob@10.0.0.2:5070>"))
    assert str(dialog.ack(314, "SIP/2.0/UDP h;branch=z9hG4bK1").cseq) == "314 ACK"
    assert str(dialog.request("BYE", "SIP/2.0/UDP h;branch=z9hG4bK2").cseq) == "315 BYE"


def test_the_route_set_is_kept_in_order_by_the_callee_and_reversed_by_the_caller() -> None:
    line = "<sip:p1.example;lr>, <sip:p2.example;lr>"
    assert uas(f"Record-Route: {line}").routes == ("<sip:p1.example;lr>", "<sip:p2.example;lr>")
    assert uac(("Record-Route", line)).routes == ("<sip:p2.example;lr>", "<sip:p1.example;lr>")


def test_behind_a_loose_router_the_target_is_the_request_uri() -> None:
    bye = uas("Record-Route: <sip:p1.example;lr>").request("BYE", "SIP/2.0/UDP h;branch=z9hG4bK1")
    assert str(bye.uri) == "sip:alice@10.0.0.2:5070"
    assert bye.headers.get_all("Route") == ["<sip:p1.example;lr>"]


def test_a_strict_router_becomes_the_request_uri_and_the_target_the_last_route() -> None:
    bye = uas("Record-Route: <sip:p1.example>, <sip:p2.example;lr>").request("BYE", "SIP/2.0/UDP h;branch=z9hG4bK1")
    assert str(bye.uri) == "sip:p1.example"
    assert bye.headers.get_all("Route") == ["<sip:p2.example;lr>", "<sip:alice@10.0.0.2:5070>"]


@pytest.mark.parametrize(("contact", "route", "flow", "expected"), [
    ("<sip:a@10.0.0.2:5070>", None, UDP, ("10.0.0.2", 5070)),
    ("<sip:a@10.0.0.2>", None, UDP, ("10.0.0.2", 5060)),
    ("<sip:a@192.168.1.9:5062>", None, UDP, ("10.0.0.2", 5070)),           # behind a NAT
    ("<sip:a@phone.example>", None, UDP, ("10.0.0.2", 5070)),              # a name
    ("<sip:a@10.0.0.2:5070>", None, TCP, ("10.0.0.2", 41234)),             # a stream stays what it is
    ("<sip:a@192.168.1.9>", "<sip:10.9.9.9:5090;lr>", UDP, ("10.9.9.9", 5090)),
    ("<sip:a@192.168.1.9>", "<sip:p.example;lr>", UDP, ("10.0.0.2", 5070)),
    ("<sip:a@192.168.1.9>", "<sip:p.example;lr;maddr=10.9.9.8>", UDP, ("10.9.9.8", 5060)),
])
def test_the_next_hop(contact: str, route: str | None, flow: Flow, expected: tuple[str, int]) -> None:
    more = () if route is None else (f"Record-Route: {route}",)
    assert uas(*more, contact=contact, flow=flow).flow.remote == expected


def test_a_contact_that_moves_is_followed_and_one_that_is_broken_changes_nothing() -> None:
    dialog = uas()
    dialog.refresh_target(invite(contact="<sip:alice@10.0.0.2:6000>"), UDP)
    assert (str(dialog.target), dialog.flow.remote.port) == ("sip:alice@10.0.0.2:6000", 6000)
    dialog.refresh_target(invite(contact="<tel:+7495>"), UDP)
    dialog.refresh_target(Response(200, headers=Headers([("Contact", "<<>")])), UDP)
    assert str(dialog.target) == "sip:alice@10.0.0.2:6000"


def test_headers_of_a_contact_do_not_enter_the_request_uri() -> None:
    assert str(uas(contact="<sip:alice@10.0.0.2:5070?Subject=x>").target) == "sip:alice@10.0.0.2:5070"


def test_a_contact_that_is_no_sip_uri_is_refused_in_an_invite() -> None:
    with pytest.raises(ParseError):
        uas(contact="<mailto:alice@home>")


def test_a_2xx_without_contact_leaves_the_uri_that_reached_the_callee() -> None:
    assert str(uac().target) == "sip:bob@10.0.0.1"


@pytest.mark.parametrize(("number", "in_order"), [(313, False), (314, False), (315, True), (4000, True)])
def test_older_requests_are_out_of_order(number: int, in_order: bool) -> None:
    request = Request("INFO", Uri.parse("sip:b@h"), [("CSeq", f"{number} INFO")])
    assert uas().in_order(request) is in_order


def test_the_first_request_of_a_callee_may_have_any_number() -> None:
    request = Request("INFO", Uri.parse("sip:b@h"), [("CSeq", "0 INFO")])
    assert uac().in_order(request)


def test_another_connection_of_the_peer_is_used_from_then_on() -> None:
    dialog = uas(flow=TCP)
    dialog.heard_from(TCP._replace(connection=8))
    assert dialog.flow.connection == 8


def test_a_peer_without_a_tag_is_a_dialog_as_well() -> None:
    request = invite()
    request.headers.set("From", "<sip:old@home>")
    assert Dialog.as_uas(request, "b1", UDP).remote_tag == ""


def test_a_route_set_without_end_is_cut() -> None:
    line = ", ".join(f"<sip:p{number}.example;lr>" for number in range(100))
    assert len(uas(f"Record-Route: {line}").routes) == MAX_ROUTES
