"""URIs: their parts, their escapes, and the table of equal and different ones (RFC 3261 §19.1.4, RFC 3966)."""

from __future__ import annotations

import pytest

from b2bua.sip.grammar import ParseError
from b2bua.sip.uri import MAX_URI, Uri


def test_a_uri_comes_apart_into_all_its_parts() -> None:
    uri = Uri.parse("sip:alice:secret%20word@Atlanta.com:5070;transport=tcp;lr?subject=project%20x&priority=urgent")
    assert (uri.scheme, uri.user, uri.password) == ("sip", "alice", "secret word")
    assert (uri.host, uri.port, uri.transport) == ("Atlanta.com", 5070, "TCP")
    assert uri.params == {"transport": "tcp", "lr": ""}
    assert uri.headers == {"subject": "project x", "priority": "urgent"}
    assert uri.is_sip
    assert uri.is_loose_router


@pytest.mark.parametrize("text", [
    "sip:host",
    "sips:user@host.example.com",
    "sip:user@[2001:db8::1]:5070;transport=udp",
    "sip:*72#@host",
    "sip:+7(495)123-45-67;phone-context=x@host;user=phone",
    "sip:user@host;maddr=239.255.255.1;ttl=15",
    "tel:+7-495-111-22-33;phone-context=example.com",
    "urn:service:sos",
    "http://www.example.com/x?y",
    "SIP:user@HOST;Transport=UDP",
])
def test_a_parsed_uri_is_written_as_it_was_read(text: str) -> None:
    assert str(Uri.parse(text)) == text
    assert Uri.parse(text) == Uri.parse(text)
    assert hash(Uri.parse(text)) == hash(Uri.parse(text))


@pytest.mark.parametrize("text", [
    "",
    "sip:",
    "sip:@host",
    "sip:user@",
    "sip:2001:db8::10",
    "sip:user@host:",
    "sip:user@host:99999",
    "sip:user@host;",
    "sip:user@host;;lr",
    "sip:user@host;a=1;A=2",
    "sip:us er@host",
    "sip:a@b@c",
    "<sip:user@host>",
    "sip:user@host\r\nVia: x",
    "tel:",
    "tel:home",
    "user@host",
    "*",
    "sip:" + "a" * MAX_URI + "@host",
])
def test_what_is_not_a_uri_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        Uri.parse(text)


EQUAL = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
    ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    ("sip:user@[2001:DB8::1]", "sip:user@[2001:db8::1]"),
    ("sip:user@host;lr", "sip:user@host"),
    ("tel:+1-201-555-0123", "tel:+12015550123"),
    ("tel:7042;phone-context=Example.com", "tel:7042;phone-context=example.com"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:alice@atlanta.com", "sips:alice@atlanta.com"),
    ("sip:alice@atlanta.com", "sip:atlanta.com"),
    ("sip:alice:a@atlanta.com", "sip:alice:b@atlanta.com"),
    ("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;user=phone"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;maddr=10.0.0.1"),
    ("sip:carol@chicago.com;ttl=1", "sip:carol@chicago.com"),
    ("tel:+12015550123", "tel:+12015550123;ext=1"),
    ("tel:+12015550123", "sip:+12015550123@host"),
    ("urn:service:sos", "urn:service:sos.fire"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_uris(one: str, other: str) -> None:
    assert Uri.parse(one).equals(Uri.parse(other))
    assert Uri.parse(other).equals(Uri.parse(one))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_uris(one: str, other: str) -> None:
    assert not Uri.parse(one).equals(Uri.parse(other))
    assert not Uri.parse(other).equals(Uri.parse(one))


@pytest.mark.parametrize(("uri", "text"), [
    (Uri.sip("101", "192.0.2.1", 5062), "sip:101@192.0.2.1:5062"),
    (Uri.sip("", "example.com"), "sip:example.com"),
    (Uri.sip("Иван", "host"), "sip:%D0%98%D0%B2%D0%B0%D0%BD@host"),
    (Uri.sip("a@b c", "2001:db8::1", 5060, {"ob": "", "lr": "on"}), "sip:a%40b%20c@[2001:db8::1]:5060;ob;lr=on"),
    (Uri.sip("a\r\nb", "host"), "sip:a%0D%0Ab@host"),
    (Uri.tel("+74951112233"), "tel:+74951112233"),
    (Uri("sips", "u", "h", headers={"Replaces": "x;a=b"}, password="p:w"), "sips:u:p%3Aw@h?Replaces=x%3Ba%3Db"),
])
def test_a_composed_uri_is_escaped_where_it_must_be(uri: Uri, text: str) -> None:
    assert str(uri) == text
    assert str(Uri.parse(text)) == text


def test_octets_that_are_no_utf_8_survive_in_a_user() -> None:
    uri = Uri.parse("sip:%FF%00@host")
    assert str(uri.with_(host="other")) == "sip:%FF%00@other"


def test_parts_are_replaced_and_the_rest_kept() -> None:
    uri = Uri.parse("sip:101@192.0.2.1:5062;ob;transport=tcp?Replaces=x")
    assert str(uri.with_(user="102", params={"lr": ""})) == "sip:102@192.0.2.1:5062;lr?Replaces=x"
    assert str(uri.without_headers()) == "sip:101@192.0.2.1:5062;ob;transport=tcp"


@pytest.mark.parametrize(("text", "key"), [
    ("sip:101@Example.COM;transport=udp?x=y", "sip:101@example.com"),
    ("sip:%3101:pw@example.com", "sip:101@example.com"),
    ("sip:example.com:5070", "sip:example.com:5070"),
    ("tel:+7-495-1;ext=2", "tel:+74951"),
])
def test_an_address_of_record_has_neither_parameters_nor_case(text: str, key: str) -> None:
    assert Uri.parse(text).address_of_record() == key


def test_the_number_of_a_tel_uri_has_no_visual_separators() -> None:
    assert Uri.parse("tel:+7(495)111-22.33").user == "+74951112233"


def test_an_unknown_scheme_is_kept_for_the_416() -> None:
    uri = Uri.parse("soap.beep://192.0.2.103:3002")
    assert uri.scheme == "soap.beep"
    assert not uri.is_sip
