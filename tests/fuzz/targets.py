"""What is fuzzed: each takes any bytes, and raises only where we have a bug."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from b2bua.cdr import ClientId
from b2bua.directory import Directory, Extension
from b2bua.sdp.negotiation import Face, NotAcceptable, relay_answer, relay_offer
from b2bua.sdp.session import SdpError
from b2bua.sdp.session import parse as parse_sdp
from b2bua.sip.auth import DigestClient, DigestPolicy, DigestServer, ha1
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.grammar import ParseError
from b2bua.sip.headers import Headers
from b2bua.sip.message import Message, Request
from b2bua.sip.parser import parse
from b2bua.sip.throttle import Silence
from b2bua.ua.registrar import Challenge, Registrar, Reply

FACE = Face("198.51.100.1", 20000, 1)
TESTS = Path(__file__).parents[1]
PHONES = tuple((TESTS / "corpora" / "real-ua").iterdir())
SEEDS = {
    "parser": (TESTS / "torture" / "rfc4475", TESTS / "torture" / "rfc5118", *PHONES),
    "sdp": (TESTS / "corpora" / "sdp",),
    "registrar": (TESTS / "fuzz" / "seeds" / "registrar",),
}
# Properties that read a field when they are asked for it.
FIELDS = (
    "call_id", "cseq", "from_", "to", "via", "vias", "contacts", "routes", "record_routes", "asserted_identities",
    "privacy", "refer_to", "max_forwards", "expires", "min_expires", "retry_after", "rseq", "rack", "session_expires",
    "min_se", "content_type", "supported", "require", "allow",
)
CLIENT, LOGIN, REALM, PASSWORD = ClientId("firm"), "101", "smartswitch", "password"
PHONE = Flow(Transport.UDP, Address("192.0.2.1", 5060), Address("192.0.2.7", 5060))
OFFICE = Directory(extensions=(Extension(CLIENT, "101", LOGIN, {"MD5": ha1("MD5", LOGIN, REALM, PASSWORD)}),))


def parser(data: bytes) -> None:
    """A datagram: read, each of its fields, written, and read again as the same."""
    try:
        message = parse(data)
    except ParseError as error:
        if error.answerable and error.request is not None:
            parse_or_refuse(bytes(error.response()))
        return
    read_fields(message)
    again = parse(bytes(message))
    assert list(again.headers) == [field for field in message.headers if field[0] != "Content-Length"] + [
        ("Content-Length", str(len(message.body)))
    ]
    assert again.body == message.body
    if isinstance(message, Request) and message.answerable:
        parse(bytes(message.response(200, to_tag="t")))


def read_fields(message: Message) -> None:
    for name in FIELDS:
        with suppress(ParseError):
            getattr(message, name)


def parse_or_refuse(data: bytes) -> None:
    with suppress(ParseError):
        parse(data)


def sdp(data: bytes) -> None:
    """Offer and answer, with 0x00 between them; read, relayed and written."""
    offer_body, _, answer_body = data.partition(b"\0")
    try:
        offer = parse_sdp(offer_body)
    except SdpError:
        return
    assert parse_sdp(bytes(offer)) == offer
    with suppress(SdpError, NotAcceptable):
        carried = relay_offer(offer, FACE)
        assert len(parse_sdp(carried.body).media) == len(offer.media)
        answer = parse_sdp(answer_body or offer_body)
        assert len(parse_sdp(relay_answer(answer, offer, FACE).body).media) == len(offer.media)


def registrar(data: bytes) -> None:
    """Lines of header fields, of a phone that knows its password; 0x00 between one REGISTER and the next."""
    office = Registrar(OFFICE, DigestServer(DigestPolicy(REALM), b"key"))
    digest = DigestClient(LOGIN, PASSWORD, Random(1))
    bare = b"REGISTER sip:pbx.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK1;rport\r\n"
    for number, fields in enumerate(data.split(b"\0")[:4], 1):
        head = bare + b"From: <sip:101@pbx.test>;tag=1\r\nTo: <sip:101@pbx.test>\r\nCall-ID: c\r\n"
        lines = b"".join(line + b"\r\n" for line in fields.splitlines() if line)
        try:
            request = parse(head + b"CSeq: %d REGISTER\r\n" % number + lines + b"\r\n")
        except ParseError:
            continue
        assert isinstance(request, Request)
        now = float(number)
        challenge = office.screen(request, PHONE, now)
        if isinstance(challenge, Silence):
            return
        if isinstance(challenge, Challenge):
            credentials = digest.authorize(request, request.response(401, headers=challenge.headers))
            assert credentials is not None
            request = Request(request.method, request.uri, Headers([*request.headers, *credentials]))
            if office.screen(request, PHONE, now) is not None:     # its own credentials come before these
                continue
        match office.register(request, PHONE, now, "tag"):
            case Reply(response=response):
                parse(bytes(response))
    assert len(office.lookup((CLIENT, "101"), 5.0)) <= OFFICE.extensions[0].max_contacts


TARGETS: dict[str, Callable[[bytes], None]] = {"parser": parser, "sdp": sdp, "registrar": registrar}
