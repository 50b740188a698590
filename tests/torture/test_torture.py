"""The torture messages of RFC 4475 and RFC 5118, each with its verdict; none is skipped.

What `parse` itself has to say is in the table. A message that is well-formed but must be refused for its meaning (an
unknown scheme, an unknown extension) parses here, and the table names the property that tells the layer above.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from b2bua.sip.fields import AuthParams
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Message, Request, Response
from b2bua.sip.parser import parse

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Reads:
    """It parses, every typed property can be read, and this holds."""

    check: Callable[[Message], bool]


@dataclass(frozen=True, slots=True)
class Answers:
    """`parse` refuses, and the answer has this status."""

    status: int


@dataclass(frozen=True, slots=True)
class Silence:
    """`parse` refuses, and there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class RefusesToRead:
    """It parses, but this property raises the ParseError that the layer above answers with 400."""

    name: str


Verdict = Reads | Answers | Silence | RefusesToRead


def as_request(message: Message) -> Request:
    assert isinstance(message, Request)
    return message


VERDICTS: dict[str, Verdict] = {
    # RFC 4475 §3.1.1: valid messages
    "rfc4475/wsinv.dat": Reads(lambda m: (
        [via.host for via in m.vias] == ["192.0.2.2", "spindle.example.com", "192.168.255.111"]
        and [via.branch for via in m.vias] == ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]
        and m.to_tag == "1918181833n" and m.from_tag == "98asjd8"
        and m.from_.display == 'J Rosenberg \\"'
        and m.cseq == (9, "INVITE") and m.max_forwards == 68
        and m.contacts[0].display == 'Quoted string ""' and m.contacts[0].q == 0.33
        and m.contacts[0].params["newparam"] == "newvalue" and "secondparam" in m.contacts[0].params
        and len(m.routes) == 1 and m.routes[0].uri.is_loose_router
        and m.headers.get("Subject") == ""
        and m.headers.get("newfangledheader") == "newfangled value continued newfangled value"
        and m.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
        and len(m.body) == 150
    )),
    "rfc4475/intmeth.dat": Reads(lambda m: (
        as_request(m).method == "!interesting-Method0123456789_*+`.%indeed'~"
        and as_request(m).uri.user.startswith("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
        and as_request(m).uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
        and m.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f" and m.from_tag == "_token~1'+`*%!-."
    )),
    "rfc4475/esc01.dat": Reads(lambda m: (
        as_request(m).uri.user == "sips:user@example.com" and as_request(m).uri.host == "example.net"
        and m.to.uri.user == "user" and m.from_.uri.user == "I have spaces"
        and m.contacts[0].uri.params == {"lr": "", "name": "value%41"}
    )),
    "rfc4475/escnull.dat": Reads(lambda m: (
        m.to.uri.user == "null-\x00-null" and [c.uri.user for c in m.contacts] == ["\x00", "\x00\x00"]
        and not m.contacts[0].uri.equals(m.contacts[1].uri)
    )),
    "rfc4475/esc02.dat": Reads(lambda m: (
        as_request(m).method == "RE%47IST%45R" and m.to.display == "%Z%45"
        and [c.uri.user for c in m.contacts] == ["alias1", "alias3"]
    )),
    "rfc4475/lwsdisp.dat": Reads(lambda m: m.from_.display == "caller" and m.from_tag == "323"),
    "rfc4475/longreq.dat": Reads(lambda m: len(m.vias) == 34 and len(m.from_.uri.user) > 100 and len(m.body) == 150),
    "rfc4475/dblreq.dat": Reads(lambda m: as_request(m).method == "REGISTER" and m.body == b""),
    "rfc4475/semiuri.dat": Reads(lambda m: (
        as_request(m).uri.user == "user;par=u@example.net" and not as_request(m).uri.params
        and len(m.headers.get_all("Accept")) == 6
    )),
    "rfc4475/transports.dat": Reads(lambda m: (
        [via.transport for via in m.vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]
    )),
    "rfc4475/mpart01.dat": Reads(lambda m: len(m.body) == 553 and m.content_type == "multipart/mixed"),
    "rfc4475/unreason.dat": Reads(lambda m: (
        isinstance(m, Response) and m.reason.startswith("= 2**3 * 5**2 но сто девяносто девять")
    )),
    "rfc4475/noreason.dat": Reads(lambda m: isinstance(m, Response) and (m.status, m.reason) == (100, "")),
    # RFC 4475 §3.1.2: invalid messages
    "rfc4475/badinv01.dat": Answers(400),
    "rfc4475/clerr.dat": Answers(400),
    "rfc4475/ncl.dat": Answers(400),
    "rfc4475/scalar02.dat": Answers(400),
    "rfc4475/scalarlg.dat": Silence(),
    "rfc4475/quotbal.dat": Answers(400),
    "rfc4475/ltgtruri.dat": Answers(400),
    "rfc4475/lwsruri.dat": Answers(400),
    "rfc4475/lwsstart.dat": Answers(400),
    "rfc4475/trws.dat": Answers(400),
    "rfc4475/escruri.dat": Answers(400),
    "rfc4475/baddate.dat": Reads(lambda m: m.headers.get("Date") == "Fri, 01 Jan 2010 16:00:00 EST"),     # tolerated
    "rfc4475/regbadct.dat": RefusesToRead("contacts"),
    "rfc4475/badaspec.dat": Reads(lambda m: str(m.to.uri) == "sip:t.watson@example.org"),                 # tolerated
    "rfc4475/baddn.dat": Reads(lambda m: m.from_.display == "Bell, Alexander" and m.from_tag == "43"),    # tolerated
    "rfc4475/baddn.as-archived": Silence(),
    "rfc4475/badvers.dat": Answers(505),
    "rfc4475/mismatch01.dat": Answers(400),
    "rfc4475/mismatch02.dat": Answers(400),
    "rfc4475/bigcode.dat": Silence(),
    # RFC 4475 §3.2 and §3.3: what the layers above decide by
    "rfc4475/badbranch.dat": Reads(lambda m: m.via.branch == "z9hG4bK" and not m.via.has_magic_cookie),   # as RFC 2543
    "rfc4475/insuf.dat": Silence(),
    "rfc4475/unkscm.dat": Reads(lambda m: as_request(m).uri.scheme == "nobodyknowsthisscheme"),           # 416
    "rfc4475/novelsc.dat": Reads(lambda m: as_request(m).uri.scheme == "soap.beep"),                      # 416
    "rfc4475/unksm2.dat": Reads(lambda m: (                                                               # no SIP AOR
        [m.to.uri.scheme, m.from_.uri.scheme, m.contacts[0].uri.scheme] == ["isbn", "http", "name"]
    )),
    "rfc4475/bext01.dat": Reads(lambda m: (                                                               # 420
        m.require == {"nothingsupportsthis", "nothingsupportsthiseither"}
        and len(m.headers.get_all("Proxy-Require")) == 2
    )),
    "rfc4475/invut.dat": Reads(lambda m: m.content_type == "application/unknownformat"),                  # 415
    "rfc4475/regaut01.dat": Reads(lambda m: (                                                             # 401
        not AuthParams.parse(m.headers.get("Authorization") or "").is_digest
    )),
    "rfc4475/multi01.dat": Answers(400),
    "rfc4475/mcl01.dat": Answers(400),
    "rfc4475/bcast.dat": Reads(lambda m: (                                   # two Vias: a stray, dropped above
        isinstance(m, Response) and [via.host for via in m.vias] == ["192.0.2.198", "255.255.255.255"]
    )),
    "rfc4475/zeromf.dat": Reads(lambda m: m.max_forwards == 0),                                           # 483
    "rfc4475/cparam01.dat": Reads(lambda m: m.contacts[0].params == {"unknownparam": ""}),
    "rfc4475/cparam02.dat": Reads(lambda m: m.contacts[0].uri.params == {"unknownparam": ""}),
    "rfc4475/regescrt.dat": Reads(lambda m: m.contacts[0].uri.headers == {"Route": "<sip:sip.example.com>"}),
    "rfc4475/sdp01.dat": Reads(lambda m: m.headers.get_all("Accept") == ["text/nobodyKnowsThis"]),        # 406
    "rfc4475/inv2543.dat": Reads(lambda m: m.via.branch is None and m.from_tag is None and m.contact is None),
    # RFC 5118
    "rfc5118/ipv6-good.dat": Reads(lambda m: as_request(m).uri.host == "2001:db8::10"),
    "rfc5118/ipv6-bad.dat": Answers(400),
    "rfc5118/port-ambiguous.dat": Reads(lambda m: (
        (as_request(m).uri.host, as_request(m).uri.port) == ("2001:db8::10:5070", None)
    )),
    "rfc5118/port-unambiguous.dat": Reads(lambda m: (
        (as_request(m).uri.host, as_request(m).uri.port) == ("2001:db8::10", 5070)
    )),
    "rfc5118/via-received-param-with-delim.dat": Reads(lambda m: m.via.received == "2001:db8::9:255"),
    "rfc5118/via-received-param-no-delim.dat": Reads(lambda m: m.via.received == "2001:db8::9:255"),
    "rfc5118/ipv6-in-sdp.dat": Reads(lambda m: len(m.body) == 241),
    "rfc5118/mult-ip-in-header.dat": Reads(lambda m: (
        [via.sent_by for via in m.vias] == ["[2001:db8::9:1]:6050", "192.0.2.1", "[2001:db8::9:255]"]
        and m.vias[2].received == "192.0.2.200"
    )),
    "rfc5118/mult-ip-in-sdp.dat": Reads(lambda m: len(m.body) == 181),
    "rfc5118/ipv4-mapped-ipv6.dat": Reads(lambda m: (m.via.host, m.via.port) == ("::ffff:192.0.2.10", 19823)),
    "rfc5118/ipv6-bug-abnf-3-colons.dat": Reads(lambda m: "db8:::192" in as_request(m).uri.host),      # tolerated
    "rfc5118/ipv6-correct-abnf-2-colons.dat": Reads(lambda m: as_request(m).uri.host == "2001:db8::192.0.2.1"),
}


def read_everything(message: Message) -> None:
    for name in dir(type(message)):
        if isinstance(getattr(type(message), name), property):
            getattr(message, name)


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_each_torture_message_gets_its_verdict(name: str) -> None:
    data = (HERE / name).read_bytes()
    match VERDICTS[name]:
        case Reads(check):
            message = parse(data)
            read_everything(message)
            assert check(message)
            assert check(parse(bytes(message)))
        case RefusesToRead(prop):
            message = parse(data)
            with pytest.raises(ParseError) as refusal:
                getattr(message, prop)
            assert refusal.value.status == 400
        case Answers(status):
            with pytest.raises(ParseError) as refusal:
                parse(data)
            assert refusal.value.answerable
            assert refusal.value.response().status == status
            assert bytes(refusal.value.response()).startswith(b"SIP/2.0 %d " % status)
        case Silence():
            with pytest.raises(ParseError) as refusal:
                parse(data)
            assert not refusal.value.answerable


def test_no_torture_message_is_without_a_verdict() -> None:
    files = {f"{path.parent.name}/{path.name}" for path in HERE.glob("rfc*/*") if path.name != "index.json"}
    assert files == set(VERDICTS)


@pytest.mark.parametrize("folder", ["rfc4475", "rfc5118"])
def test_the_verdicts_agree_with_the_index(folder: str) -> None:
    for entry in json.loads((HERE / folder / "index.json").read_text("utf-8"))["messages"]:
        verdict = VERDICTS[f"{folder}/{entry['file']}"]
        match entry["verdict"]:
            case "valid":
                assert isinstance(verdict, Reads), entry["file"]
            case "refuse":
                assert isinstance(verdict, Reads) or verdict.status in entry["codes"], entry["file"]   # type: ignore[union-attr]
            case "invalid":
                assert entry["lenient_ok"] or not isinstance(verdict, Reads), entry["file"]
                assert not isinstance(verdict, Answers) or verdict.status in entry["codes"], entry["file"]
            case "drop":
                assert isinstance(verdict, Silence) or entry["kind"].startswith("response"), entry["file"]
