"""Typed properties, answers derived from requests, and what goes on the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from b2bua.sip.fields import WILDCARD, CSeq, RAck, SessionExpires, Via
from b2bua.sip.grammar import ParseError, ProtocolMisuse
from b2bua.sip.message import Message, Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.uri import Uri

FIELDS = [
    ("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa, SIP/2.0/TCP 192.0.2.2;branch=z9hG4bKb"),
    ("v", "SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKc"),
    ("Record-Route", "<sip:p1;lr>,<sip:p2;lr>"),
    ("From", '"A" <sip:a@h>;tag=1'),
    ("To", "<sip:b@h>"),
    ("Call-ID", "c1"),
    ("CSeq", "7 INVITE"),
    ("Timestamp", "54"),
    ("Max-Forwards", "70"),
    ("Subject", "none of the answer's business"),
]


def request(method: str = "INVITE", **more: str) -> Request:
    fields = [(name, value if name != "CSeq" else f"7 {method}") for name, value in FIELDS]
    fields += [(name.replace("_", "-"), value) for name, value in more.items()]
    return Request(method, Uri.sip("b", "h"), fields)


def test_a_message_is_written_with_the_length_of_its_body() -> None:
    message = Request("INFO", Uri.sip("b", "h"), [("l", "999"), ("Via", "x"), ("X-Name", "Иван")], "да".encode())
    assert bytes(message) == (
        "INFO sip:b@h SIP/2.0\r\nVia: x\r\nX-Name: Иван\r\nContent-Length: 4\r\n\r\nда".encode()
    )
    assert bytes(Response(200)) == b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert bytes(Response(299, "Так")) == "SIP/2.0 299 Так\r\nContent-Length: 0\r\n\r\n".encode()


def test_the_bytes_are_made_once_and_seal_the_headers() -> None:
    message = request()
    assert bytes(message) is bytes(message)
    with pytest.raises(ProtocolMisuse):
        message.headers.add("Subject", "too late")


@pytest.mark.parametrize("message", [
    Request("INVITE", Uri.sip("b", "h"), [("Subject", "a\r\nVia: evil")]),
    Request("INVITE", Uri.sip("b", "h"), [("Subject\r\nVia", "evil")]),
    Request("INVITE sip:x SIP/2.0\r\nVia: evil", Uri.sip("b", "h")),
    Response(200, "OK\nVia: evil"),
])
def test_no_line_break_gets_onto_the_wire(message: Message) -> None:
    with pytest.raises(ProtocolMisuse):
        bytes(message)


def test_an_answer_copies_what_rfc_3261_8_2_6_says() -> None:
    more = [("k", "timer")]
    response = request("MESSAGE").response(200, to_tag="t", headers=more, body=b"x", content_type="text/plain")
    assert list(response.headers) == [
        ("Via", FIELDS[0][1]), ("Via", FIELDS[1][1]), ("From", '"A" <sip:a@h>;tag=1'), ("To", "<sip:b@h>;tag=t"),
        ("Call-ID", "c1"), ("CSeq", "7 MESSAGE"), ("Supported", "timer"), ("Content-Type", "text/plain"),
    ]
    assert (response.status, response.reason, response.body) == (200, "OK", b"x")


@pytest.mark.parametrize(("method", "status", "extra"), [
    ("INVITE", 100, {"Timestamp"}),
    ("INVITE", 180, {"Record-Route"}),
    ("INVITE", 200, {"Record-Route"}),
    ("INVITE", 302, set()),
    ("INVITE", 486, set()),
    ("SUBSCRIBE", 200, {"Record-Route"}),
    ("BYE", 200, set()),
    ("OPTIONS", 200, set()),
])
def test_route_and_timestamp_are_copied_where_they_belong(method: str, status: int, extra: set[str]) -> None:
    names = {name for name, _ in request(method).response(status, to_tag="t").headers}
    assert names - {"Via", "From", "To", "Call-ID", "CSeq"} == extra


def test_the_to_tag_is_the_callers_if_there_is_one_and_stays_out_of_a_100() -> None:
    assert request().response(180, to_tag="t").to_tag == "t"
    assert request().response(100, to_tag="t").to_tag is None
    inside = request()
    inside.headers.set("To", "<sip:b@h>;tag=old")
    assert inside.response(200, to_tag="t").headers.get("To") == "<sip:b@h>;tag=old"


def test_a_contact_and_a_reason_can_be_named() -> None:
    response = request().response(302, "Gone fishing", contact="<sip:c@h>")
    assert (response.reason, str(response.contact)) == ("Gone fishing", "<sip:c@h>")


def test_a_stateless_answer_has_the_same_tag_each_time() -> None:
    tags = {request().stateless_response(400).to_tag for _ in range(3)}
    assert len(tags) == 1
    assert None not in tags


def test_what_is_abbreviated_says_the_same_in_fewer_bytes() -> None:
    long, brief = (request().response(200, to_tag="t", headers=[("Allow", "INVITE"), ("Supported", "timer")],
                                      body=b"v=0") for _ in range(2))
    brief.abbreviate()
    assert len(bytes(brief)) < len(bytes(long))
    assert not {b"Via", b"From", b"To", b"Call-ID", b"Supported", b"Content-Type", b"Content-Length"} & {
        line.partition(b":")[0] for line in bytes(brief).split(b"\r\n")}
    assert bytes(parse(bytes(brief))) == bytes(parse(bytes(long)))
    with pytest.raises(ProtocolMisuse):
        brief.headers.add("Allow", "ACK")               # it is written


def test_typed_properties_are_read_from_their_fields() -> None:
    message = request(
        Contact="<sip:a@192.0.2.1>;expires=60, <sip:a@192.0.2.2>", Route="<sip:r;lr>", Supported="100rel, Timer",
        Require="replaces", Allow="INVITE,ACK, Foo", Expires="3600", Min_Expires="60",
        Retry_After="18 (busy);duration=3",
        RSeq="9", RAck="9 7 INVITE", Session_Expires="1800;refresher=uas", Min_SE="90;x=y", Privacy="id;Header",
        Content_Type="Application/SDP ; charset=utf-8", Refer_To="<sip:x@y?Replaces=1%3Bto-tag%3D2>",
        P_Asserted_Identity='"Anna" <sip:+7@t>, <tel:+7>',
    )
    assert [via.host for via in message.vias] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert message.via.branch == "z9hG4bKa"
    assert (message.call_id, message.cseq, message.from_tag, message.to_tag) == ("c1", CSeq(7, "INVITE"), "1", None)
    assert message.from_.display == "A"
    assert [contact.expires for contact in message.contacts] == [60, None]
    assert message.contact == message.contacts[0]
    assert [route.uri.host for route in message.routes] == ["r"]
    assert [route.uri.host for route in message.record_routes] == ["p1", "p2"]
    assert (message.supported, message.require) == ({"100rel", "timer"}, {"replaces"})
    assert message.allow == {"INVITE", "ACK", "Foo"}
    assert (message.max_forwards, message.expires, message.min_expires, message.retry_after) == (70, 3600, 60, 18)
    assert (message.rseq, message.rack) == (9, RAck(9, 7, "INVITE"))
    assert (message.session_expires, message.min_se) == (SessionExpires(1800, "uas"), 90)
    assert (message.privacy, message.content_type) == ({"id", "header"}, "application/sdp")
    assert message.refer_to is not None
    assert message.refer_to.uri.headers == {"Replaces": "1;to-tag=2"}
    assert [str(identity.uri) for identity in message.asserted_identities] == ["sip:+7@t", "tel:+7"]


def test_absent_fields_are_none_or_empty() -> None:
    message = Request("OPTIONS", Uri.sip("b", "h"))
    assert message.contact is message.max_forwards is message.expires is message.rseq is message.rack is None
    assert message.session_expires is message.min_se is message.refer_to is message.retry_after is None
    assert message.contacts == message.routes == message.record_routes == message.asserted_identities == []
    assert message.supported == message.require == message.allow == message.privacy == frozenset()
    assert message.content_type == ""


MISSING: list[Callable[[Message], object]] = [
    lambda m: m.via, lambda m: m.vias, lambda m: m.from_, lambda m: m.to, lambda m: m.call_id, lambda m: m.cseq,
]


@pytest.mark.parametrize("read", MISSING)
def test_absent_mandatory_fields_are_errors(read: Callable[[Message], object]) -> None:
    with pytest.raises(ParseError):
        read(Request("OPTIONS", Uri.sip("b", "h")))


@pytest.mark.parametrize(("name", "value", "read"), [
    ("Max-Forwards", "300", lambda m: m.max_forwards),
    ("Max-Forwards", "", lambda m: m.max_forwards),
    ("Max-Forwards", "9" * 8000, lambda m: m.max_forwards),
    ("Expires", "-1", lambda m: m.expires),
    ("Contact", "*, <sip:a@b>", lambda m: m.contacts),
    ("Contact", "<sip:a@b>,", lambda m: m.contact),
    ("Route", "x", lambda m: m.routes),
    ("RAck", "1 INVITE", lambda m: m.rack),
    ("Session-Expires", "long", lambda m: m.session_expires),
])
def test_malformed_fields_are_errors(name: str, value: str, read: Callable[[Message], object]) -> None:
    with pytest.raises(ParseError) as error:
        read(Request("REGISTER", Uri.sip("", "h"), [(name, value)]))
    assert error.value.status == 400


def test_a_number_beyond_its_range_counts_as_the_highest() -> None:
    assert Request("REGISTER", Uri.sip("", "h"), [("Expires", "1" + "0" * 100)]).expires == 2**32 - 1


def test_a_wildcard_contact_has_its_own_form() -> None:
    message = Request("REGISTER", Uri.sip("", "h"), [("m", "*")])
    assert message.contacts == [WILDCARD]
    assert message.contacts[0].is_wildcard
    assert message.contact is None


def test_a_changed_field_is_read_anew() -> None:
    message = request(Contact="<sip:a@b>")
    assert (message.cseq.number, message.to_tag, message.via.host) == (7, None, "192.0.2.1")
    assert message.contacts
    message.headers.set("CSeq", "8 INVITE")
    message.headers.set("To", "<sip:b@h>;tag=new")
    message.headers.prepend("Via", "SIP/2.0/UDP 192.0.2.9")
    message.headers.remove("Contact")
    assert (message.cseq.number, message.to_tag, message.via.host, message.contacts) == (8, "new", "192.0.2.9", [])


def test_the_top_via_is_stamped_and_the_others_stay() -> None:
    for message in (request(), parse(bytes(request()))):
        assert len(message.vias) == 3
        message.set_via(message.via.stamped("198.51.100.1", 40000))
        assert message.via.received == "198.51.100.1"
        assert [via.host for via in message.vias] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
        assert [via.received for via in parse(bytes(message)).vias] == ["198.51.100.1", None, None]


def test_an_ack_and_a_request_without_the_necessary_get_no_answer() -> None:
    assert request().answerable
    assert not request("ACK").answerable
    incomplete = request()
    incomplete.headers.remove("CSeq")
    assert not incomplete.answerable


def test_a_composed_request_reads_back() -> None:
    message = request()
    message.headers.prepend("Via", str(Via("UDP", "2001:db8::1", 5060, {"branch": "z9hG4bKz", "rport": ""})))
    again = parse(bytes(message))
    assert isinstance(again, Request)
    assert (again.via.host, again.via.wants_rport, again.via.rport) == ("2001:db8::1", True, None)
    assert list(again.headers)[:-1] == list(message.headers)
    assert bytes(again) == bytes(message)
