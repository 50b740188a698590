"""The ordered multimap of header fields: names, lists, changes."""

from __future__ import annotations

import pytest

from b2bua.sip.grammar import ParseError, ProtocolMisuse
from b2bua.sip.headers import MAX_LIST_VALUES, Headers, split_list


def test_names_have_any_case_and_a_compact_form() -> None:
    headers = Headers([("v", "SIP/2.0/UDP a"), ("CALL-id", "1"), ("cseq", "1 BYE"), ("x-Own", "y"), ("K", "100rel")])
    assert [name for name, _ in headers] == ["Via", "Call-ID", "CSeq", "x-Own", "Supported"]
    for name in ("Call-ID", "call-id", "i", "I", "CALL-ID", "cALL-iD"):
        assert headers.get(name) == "1"
        assert name in headers
    assert headers.get("X-OWN") == "y"
    assert headers.get_all("X-OWN") == ["y"]
    assert headers.get("Contact") is None
    assert headers.get("X-Other") is None
    assert headers.get_all("Contact") == []


def test_lists_come_apart_and_others_do_not() -> None:
    headers = Headers([
        ("Via", "SIP/2.0/UDP a, SIP/2.0/UDP b"),
        ("Via", "SIP/2.0/UDP c"),
        ("Supported", ""),
        ("WWW-Authenticate", 'Digest realm="a", nonce="b"'),
        ("From", "Bell, Alexander <sip:a@b>"),
    ])
    assert headers.get_all("v") == ["SIP/2.0/UDP a", "SIP/2.0/UDP b", "SIP/2.0/UDP c"]
    assert headers.get("Via") == "SIP/2.0/UDP a, SIP/2.0/UDP b"
    assert headers.get_all("Supported") == []
    assert len(headers.get_all("WWW-Authenticate")) == 1
    assert headers.get_all("From") == ["Bell, Alexander <sip:a@b>"]


@pytest.mark.parametrize(("value", "pieces"), [
    ("", []),
    ("a", ["a"]),
    ("a , b\t,c", ["a", "b", "c"]),
    ("a,,b,", ["a", "", "b", ""]),
    ('"x,y" <sip:a,b@c>;p="1,2", <sip:d>', ['"x,y" <sip:a,b@c>;p="1,2"', "<sip:d>"]),
    ('"a\\",b" <sip:c>,d', ['"a\\",b" <sip:c>', "d"]),
    ('"open,a,b', ['"open,a,b']),
    ("<open,a,b", ["<open,a,b"]),
    ('a,"open\\', ["a", '"open\\']),
])
def test_commas_in_quotes_and_brackets_do_not_part(value: str, pieces: list[str]) -> None:
    assert split_list(value) == pieces


def test_a_list_has_an_end() -> None:
    assert len(Headers([("Route", ",".join(["<sip:a>"] * MAX_LIST_VALUES))]).get_all("Route")) == MAX_LIST_VALUES
    with pytest.raises(ParseError):
        Headers([("Route", ",".join(["<sip:a>"] * (MAX_LIST_VALUES + 1)))]).get_all("Route")


def test_fields_are_added_replaced_and_removed_in_order() -> None:
    headers = Headers([("Via", "a"), ("Via", "b"), ("To", "c"), ("X-a", "1"), ("x-A", "2")])
    headers.prepend("v", "z")
    headers.add("Contact", "d")
    headers.set("x-a", "3")
    assert list(headers) == [
        ("Via", "z"), ("Via", "a"), ("Via", "b"), ("To", "c"), ("X-a", "3"), ("Contact", "d"),
    ]
    headers.set("Via", "only")
    headers.set("Subject", "new")
    headers.remove("m")
    headers.remove("Not-There")
    assert list(headers) == [("Via", "only"), ("To", "c"), ("X-a", "3"), ("Subject", "new")]
    assert headers.get("Contact") is None
    assert headers.get("Subject") == "new"


def test_the_first_value_is_replaced_and_the_rest_stays() -> None:
    headers = Headers([("To", "x"), ("Via", "a, b"), ("Via", "c")])
    headers.replace_first("Via", "z")
    assert headers.get_all("Via") == ["z", "b", "c"]
    headers.replace_first("To", "y")
    assert headers.get("To") == "y"
    with pytest.raises(ProtocolMisuse):
        headers.replace_first("Contact", "x")


def test_a_copy_has_a_life_of_its_own() -> None:
    headers = Headers([("Via", "a"), ("To", "x")])
    assert headers.get("To") == "x"
    copy = headers.copy()
    copy.replace_first("Via", "b")
    copy.set("To", "y")
    assert (headers.get("Via"), headers.get("To")) == ("a", "x")
    assert (copy.get("Via"), copy.get("To")) == ("b", "y")


@pytest.mark.parametrize("value", ["a\r\nVia: x", "a\nb", "a\rb"])
def test_a_value_cannot_hold_a_line_break(value: str) -> None:
    headers = Headers([("Via", "a")])
    for change in (headers.add, headers.set, headers.prepend, headers.replace_first):
        with pytest.raises(ProtocolMisuse):
            change("Via", value)


def test_sealed_headers_do_not_change() -> None:
    headers = Headers([("Via", "a")])
    headers.seal()
    with pytest.raises(ProtocolMisuse):
        headers.add("To", "x")
    headers.copy().add("To", "x")
