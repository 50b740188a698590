"""A BYE without its dialog: where it goes, and as what (RFC 3261 §12.2.1.1, §15)."""

from __future__ import annotations

import json

import pytest

from b2bua.sip.dialog import Dialog
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.farewell import CSEQ_ROOM, LONGEST, Farewell, farewell_to, from_fields
from b2bua.sip.fields import MAX_CSEQ
from b2bua.sip.message import Request
from b2bua.sip.parser import parse

US, NAT = Address("192.0.2.1", 5060), Address("198.51.100.9", 40_000)
INVITE = """\
INVITE sip:+7495@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKa
Max-Forwards: 70
{routes}From: "Анна" <sip:101@office.example>;tag=theirs
To: <sip:+7495@office.example>
Call-ID: a-call
CSeq: 7 INVITE
Contact: {contact}
Content-Length: 0

"""


def dialog(transport: Transport = Transport.UDP, contact: str = "<sip:101@10.0.0.9:5060>", routes: str = "") -> Dialog:
    invite = parse(INVITE.format(contact=contact, routes=routes).replace("\n", "\r\n").encode())
    assert isinstance(invite, Request)
    return Dialog.as_uas(invite, "ours", Flow(transport, US, NAT, 3 if transport.reliable else 0))


def farewell(of: Dialog) -> Farewell:
    one = farewell_to(of)
    assert one is not None
    assert from_fields(json.loads(json.dumps(one.to_fields()))) == one
    return one


def test_it_names_the_dialog_from_our_side_and_leaves_room_for_what_is_said_meanwhile() -> None:
    of = dialog()
    of.local_seq = 3
    one = farewell(of)
    assert (one.call_id, one.local) == ("a-call", "<sip:+7495@office.example>;tag=ours")
    assert one.remote == '"Анна" <sip:101@office.example>;tag=theirs'
    assert one.cseq == 3 + CSEQ_ROOM
    of.local_seq = MAX_CSEQ - 1
    assert farewell(of).cseq == MAX_CSEQ


def test_a_phone_behind_a_nat_is_reached_where_it_was_heard() -> None:
    assert farewell(dialog()).hops == (NAT,)
    assert farewell(dialog()).uri == "sip:101@10.0.0.9:5060"


@pytest.mark.parametrize(("contact", "hops"), [
    ("<sip:101@198.51.100.9:5062;transport=tcp>", (Address("198.51.100.9", 5062), NAT)),
    ("<sip:101@198.51.100.9:40000;transport=tcp>", (NAT,)),
    ("<sip:101@phone.invalid;transport=ws>", (NAT,)),
])
def test_a_stream_is_opened_anew_where_the_peer_listens(contact: str, hops: tuple[Address, ...]) -> None:
    assert farewell(dialog(Transport.TCP, contact)).hops == hops


def test_the_route_set_is_kept() -> None:
    one = farewell(dialog(routes="Record-Route: <sip:198.51.100.20;lr>\nRecord-Route: <sip:proxy.example;lr>\n"))
    assert one.headers[:2] == (("Route", "<sip:198.51.100.20;lr>"), ("Route", "<sip:proxy.example;lr>"))
    assert one.headers[-1] == ("Reason", 'SIP;cause=503;text="Restarted"')
    assert one.hops == (Address("198.51.100.20", 5060),)


def test_a_peer_whose_fields_are_too_long_to_keep_gets_none() -> None:
    assert farewell_to(dialog(routes=f"Record-Route: <sip:{'a' * 300}@198.51.100.20;lr>\n" * (LONGEST // 300))) is None


@pytest.mark.parametrize("fields", [None, [], {}, 7, [1, 2, 3, 4, 5, 6, 7, 8], ["sip:a"], [":", *"1234567"]])
def test_what_is_none_is_refused(fields: object) -> None:
    with pytest.raises(ValueError):     # noqa: PT011 - of several kinds
        from_fields(fields)
