"""Typed header values: what real and awkward peers write, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from b2bua.sip.fields import (
    AuthParams,
    CSeq,
    NameAddr,
    RAck,
    Reason,
    Replaces,
    SessionExpires,
    Via,
)
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request
from b2bua.sip.uri import Uri

CORPORA = Path(__file__).parents[2] / "corpora"


@pytest.mark.parametrize(("text", "display", "uri", "tag"), [
    ("<sip:101@host>", "", "sip:101@host", None),
    ("sip:101@host", "", "sip:101@host", None),
    ("sip:101@host;tag=a1", "", "sip:101@host", "a1"),
    ("sip:101@host;user=phone;tag=a1", "", "sip:101@host", "a1"),
    ("<sip:101@host;user=phone>;tag=a1;x", "", "sip:101@host;user=phone", "a1"),
    ('"Иван Петров" <sip:101@host>;tag=a1', "Иван Петров", "sip:101@host", "a1"),
    ("Иван Петров <sip:101@host>", "Иван Петров", "sip:101@host", None),
    ('"He said \\"hi\\" \\\\ <sip:x@y>, ok" <sip:101@host>', 'He said "hi" \\ <sip:x@y>, ok', "sip:101@host", None),
    ('"" <sip:101@host>', "", "sip:101@host", None),
    ('"x"<sip:101@host> ; TAG = a1', "x", "sip:101@host", "a1"),
    ("A. G. Bell <sip:agb@host>;tag=48", "A. G. Bell", "sip:agb@host", "48"),
    ("  <tel:+7495>", "", "tel:+7495", None),
    ("<sip:101@host>;tag=", "", "sip:101@host", None),
    ('<sip:101@host>;x="a;tag=no,<>\\"";tag=yes', "", "sip:101@host", "yes"),
])
def test_addresses_are_read(text: str, display: str, uri: str, tag: str | None) -> None:
    address = NameAddr.parse(text)
    assert (address.display, str(address.uri), address.tag) == (display, uri, tag)
    assert str(address) == text


@pytest.mark.parametrize("text", [
    "",
    "*",
    '"open <sip:101@host>',
    "<sip:101@host",
    "<>",
    "<sip:101@host>;;",
    "<sip:101@host>;tag=a;tag=b",
    "<sip:101@host>, <sip:102@host>",
    "sip:101@host?Route=x",
    "sip:101@host,sip:102@host",
    '"a" "b" <sip:101@host>',
    "<sip:101@host> x",
    "<sip:101@host>;x=a b",
])
def test_broken_addresses_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        NameAddr.parse(text)


@pytest.mark.parametrize("display", ["Иван", 'a "quoted" one', "back\\slash", "плюс, запятая; <скобки>", "😀"])
def test_a_composed_address_reads_back(display: str) -> None:
    address = NameAddr(Uri.sip("101", "2001:db8::1"), display, {"tag": "t", "lr": ""})
    assert str(address).endswith(" <sip:101@[2001:db8::1]>;tag=t;lr")
    again = NameAddr.parse(str(address))
    assert (again.display, again.uri, again.params) == (display, address.uri, address.params)
    assert again == address


def test_a_display_name_cannot_end_its_line() -> None:
    assert str(NameAddr(Uri.sip("1", "h"), "a\r\nVia: x\x00")) == '"a Via: x " <sip:1@h>'


@pytest.mark.parametrize(("text", "tagged"), [
    ("sip:101@host;user=phone", "<sip:101@host>;user=phone;tag=b"),
    ("Иван <sip:101@host>", "Иван <sip:101@host>;tag=b"),
    ("<sip:101@host>;tag=a", "<sip:101@host>;tag=b"),
    ("<sip:101@host>;x=1", "<sip:101@host>;x=1;tag=b"),
])
def test_a_tag_is_added_or_replaced(text: str, tagged: str) -> None:
    address = NameAddr.parse(text).with_tag("b")
    assert str(address) == tagged
    assert address.tag == "b"


@pytest.mark.parametrize(("text", "q", "expires"), [
    ("<sip:a@b>", 1.0, None),
    ("<sip:a@b>;q=0.5;expires=60", 0.5, 60),
    ('<sip:a@b>;expires="3600"', 1.0, 3600),
    ("<sip:a@b>;q=1.000;expires=99999999999999", 1.0, 2**32 - 1),
])
def test_contact_parameters_are_numbers(text: str, q: float, expires: int | None) -> None:
    contact = NameAddr.parse(text)
    assert (contact.q, contact.expires) == (q, expires)


@pytest.mark.parametrize("text", ["<sip:a@b>;q=2", "<sip:a@b>;q=-1", "<sip:a@b>;q=0.1234", "<sip:a@b>;q=nan"])
def test_a_preference_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        _ = NameAddr.parse(text).q


def test_via_is_read() -> None:
    via = Via.parse("SIP/2.0/udp [2001:db8::1]:5062;branch=z9hG4bKa;received=2001:db8::2;rport=40000;Alias")
    assert (via.transport, via.host, via.port, via.sent_by) == ("UDP", "2001:db8::1", 5062, "[2001:db8::1]:5062")
    assert (via.branch, via.received, via.rport, "alias" in via.params) == ("z9hG4bKa", "2001:db8::2", 40000, True)
    spaced = Via.parse(" SIP / 2.0 / TCP  host : 5060 ; branch = x ")
    assert (spaced.transport, spaced.sent_by, spaced.branch) == ("TCP", "host:5060", "x")


@pytest.mark.parametrize("text", [
    "", "SIP/2.0/UDP", "SIP/2.0 host", "UDP host", "SIP/2.0/UDP host:", "SIP/2.0/UDP host:70000", "SIP/2.0/UDP host;;",
    "SIP/2.0/UDP 2001:db8::1", "SIP/2.0/UDP host;branch=a;branch=b", "SIP/2.0/UDP host x",
])
def test_a_broken_via_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        Via.parse(text)


@pytest.mark.parametrize(("text", "stamped"), [
    ("SIP/2.0/UDP 192.0.2.1:5060;branch=b", "SIP/2.0/UDP 192.0.2.1:5060;branch=b"),
    ("SIP/2.0/UDP 10.0.0.1:5060;branch=b", "SIP/2.0/UDP 10.0.0.1:5060;branch=b;received=192.0.2.1"),
    ("SIP/2.0/UDP 192.0.2.1;rport;branch=b", "SIP/2.0/UDP 192.0.2.1;rport=5062;branch=b;received=192.0.2.1"),
    ("SIP/2.0/UDP h;received=1.1.1.1;rport=9;branch=b", "SIP/2.0/UDP h;received=192.0.2.1;rport=5062;branch=b"),
])
def test_the_receiver_writes_where_a_request_came_from(text: str, stamped: str) -> None:
    assert str(Via.parse(text).stamped("192.0.2.1", 5062)) == stamped


@pytest.mark.parametrize(("branch", "is_key"), [("z9hG4bK", False), ("z9hG4bKx", True), ("1", False), ("", False)])
def test_the_bare_magic_cookie_names_no_transaction(branch: str, is_key: bool) -> None:
    assert Via("UDP", "h", params={"branch": branch}).has_magic_cookie is is_key


@pytest.mark.parametrize(("text", "cseq"), [
    ("1 INVITE", CSeq(1, "INVITE")), ("0009 \t INVITE", CSeq(9, "INVITE")), ("2147483647 BYE", CSeq(2**31 - 1, "BYE")),
])
def test_cseq_is_read(text: str, cseq: CSeq) -> None:
    assert CSeq.parse(text) == cseq


@pytest.mark.parametrize("text", [
    "", "1", "INVITE 1", "-1 INVITE", "2147483648 INVITE", "9" * 9000 + " BYE", "1 IN VITE", "٣ BYE",
])
def test_a_broken_cseq_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        CSeq.parse(text)


def test_the_fields_of_extensions_read_and_write() -> None:
    assert RAck.parse("776656 1 INVITE") == RAck(776656, 1, "INVITE")
    assert str(RAck(1, 2, "INVITE")) == "1 2 INVITE"
    assert SessionExpires.parse("1800;Refresher=UAC") == SessionExpires(1800, "uac")
    assert str(SessionExpires(90)) == "90"
    assert str(SessionExpires(90, "uas")) == "90;refresher=uas"
    assert Reason.parse('Q.850 ;cause=16;text="Normal, \\"so\\" said"') == Reason("Q.850", 16, 'Normal, "so" said')
    assert str(Reason("SIP", 200, "Call completed elsewhere")) == 'SIP;cause=200;text="Call completed elsewhere"'
    assert Replaces.parse("98a@host;to-tag=1;from-tag=2;early-only") == Replaces("98a@host", "1", "2", early_only=True)
    assert str(Replaces("c", "t", "f")) == "c;to-tag=t;from-tag=f"


@pytest.mark.parametrize(("parse", "text"), [
    (RAck.parse, "1 INVITE"), (SessionExpires.parse, "soon"), (SessionExpires.parse, "90;refresher=me"),
    (Reason.parse, "SIP;cause=x"), (Replaces.parse, "call;to-tag=1"), (Replaces.parse, ";to-tag=1;from-tag=2"),
])
def test_broken_fields_of_extensions_are_refused(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(ParseError):
        parse(text)


def test_an_invite_replaces_one_dialog_or_none() -> None:
    uri = Uri.sip("1", "h")
    value = "c;to-tag=t;from-tag=f"
    assert Replaces.of(Request("INVITE", uri)) is None
    assert Replaces.of(Request("INVITE", uri, [("Replaces", value)])) == Replaces("c", "t", "f")
    with pytest.raises(ParseError):
        Replaces.of(Request("INVITE", uri, [("Replaces", value), ("Replaces", value)]))


@pytest.mark.parametrize(("text", "scheme", "params"), [
    ('Digest realm="a, b", nonce="x=\\"y\\"", qop="auth,auth-int", stale=FALSE', "Digest",
     {"realm": "a, b", "nonce": 'x="y"', "qop": "auth,auth-int", "stale": "FALSE"}),
    ('digest  Username="1001",realm=asterisk , qop=auth,nc=00000001', "digest",
     {"username": "1001", "realm": "asterisk", "qop": "auth", "nc": "00000001"}),
    ('Digest ,realm="",opaque="",', "Digest", {"realm": "", "opaque": ""}),
    ("Digest", "Digest", {}),
    ("NoOneKnowsThisScheme opaque-data=here", "NoOneKnowsThisScheme", {"opaque-data": "here"}),
    ("Negotiate YII/JvwYGKwYBBQ==", "Negotiate", {}),
])
def test_credentials_and_challenges_are_read(text: str, scheme: str, params: dict[str, str]) -> None:
    assert AuthParams.parse(text) == AuthParams(scheme, params)


@pytest.mark.parametrize("text", ['Digest realm="open', "Digest realm", 'Digest a="1",A="2"', "Digest a=b c=d"])
def test_broken_credentials_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        AuthParams.parse(text)


@pytest.mark.parametrize("header", sorted({
    line[len("Authorization:"):].strip()
    for path in CORPORA.glob("real-ua/*/*-auth*.sip")
    for line in path.read_text("utf-8").splitlines()
    if line.startswith("Authorization:")
}))
def test_the_credentials_of_real_clients_are_read(header: str) -> None:
    credentials = AuthParams.parse(header)
    assert credentials.is_digest
    assert {"username", "realm", "nonce", "uri", "response"} <= set(credentials.params)
    assert json.dumps(dict(credentials.params)).count('\\"') == 0
