"""How many SIP messages a second one core reads, answers and builds. Run: python -m bench.parse"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

from b2bua.sip.fields import CSeq, NameAddr, Via
from b2bua.sip.message import Request
from b2bua.sip.parser import parse
from b2bua.sip.uri import Uri

SDP = (
    b"v=0\r\no=user1 53655765 2353687637 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
    b"m=audio 6000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n"
)
INVITE = (
    "INVITE sip:74951112233@192.0.2.1:5060 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bKPj{0}\r\n"
    "Max-Forwards: 70\r\n"
    'From: "Trunk caller" <sip:79161234567@192.0.2.10>;tag=a{0}\r\n'
    "To: <sip:74951112233@192.0.2.1>\r\n"
    "Contact: <sip:79161234567@192.0.2.10:5060;transport=udp>\r\n"
    "Call-ID: {0}@192.0.2.10\r\n"
    "CSeq: 1 INVITE\r\n"
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY\r\n"
    "Supported: replaces, 100rel, timer\r\n"
    "User-Agent: bench\r\n"
    "Content-Type: application/sdp\r\n"
    "Content-Length: {1}\r\n\r\n"
)
ROUNDS = 20_000


def measure(what: str, work: Callable[[int], object]) -> None:
    for number in range(500):
        work(number)
    best = min(_timed(work) for _ in range(3))
    sys.stdout.write(f"{what:<44} {best * 1e6:7.2f} us {1 / best:10,.0f} a second\n")


def _timed(work: Callable[[int], object]) -> float:
    rounds = ROUNDS // 3
    begun = perf_counter()
    for number in range(rounds):
        work(number)
    return (perf_counter() - begun) / rounds


def transaction_fields(message: Request) -> tuple[object, ...]:
    return message.call_id, message.cseq, message.from_tag, message.to_tag, message.via.branch


def all_fields(message: Request) -> tuple[object, ...]:
    return (
        transaction_fields(message), message.from_, message.to, message.contact, message.routes, message.record_routes,
        message.max_forwards, message.supported, message.require, message.allow, message.session_expires,
        message.content_type,
    )


def build(number: int) -> bytes:
    fields = [
        ("Via", str(Via("UDP", "192.0.2.1", 5060, {"rport": "", "branch": f"z9hG4bK{number}"}))),
        ("Max-Forwards", "70"),
        ("From", str(NameAddr(CALLER, "Иван Петров", {"tag": f"t{number}"}))),
        ("To", "<sip:101@192.0.2.20>"),
        ("Contact", "<sip:smartswitch@192.0.2.1:5060>"),
        ("Call-ID", f"{number}@192.0.2.1"),
        ("CSeq", str(CSeq(1, "INVITE"))),
        ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY"),
        ("Supported", "100rel, timer, replaces"),
        ("Content-Type", "application/sdp"),
    ]
    return bytes(Request("INVITE", CALLEE, fields, SDP))


CALLER = Uri.sip("79161234567", "192.0.2.1")
CALLEE = Uri.sip("101", "192.0.2.20", 5060)


def main() -> None:
    messages = [INVITE.format(number, len(SDP)).encode() + SDP for number in range(ROUNDS)]
    requests = [parse(message) for message in messages]
    assert all(isinstance(request, Request) for request in requests)
    invites = [request for request in requests if isinstance(request, Request)]
    sys.stdout.write(f"INVITE of {len(messages[0])} octets\n")
    measure("parse", lambda number: parse(messages[number]))
    measure("parse + transaction fields", lambda number: transaction_fields(parse(messages[number])))  # type: ignore[arg-type]
    measure("parse + all typed fields", lambda number: all_fields(parse(messages[number])))            # type: ignore[arg-type]
    measure("parse + stamp Via", lambda number: stamp(messages[number]))
    measure("response(180) + bytes", lambda number: bytes(invites[number].response(180, to_tag="b1")))
    measure("response(200) with SDP + bytes", lambda number: bytes(
        invites[number].response(200, to_tag="b1", contact="<sip:101@192.0.2.1>", body=SDP)
    ))
    measure("build INVITE of 10 fields + bytes", build)


def stamp(message: bytes) -> None:
    request = parse(message)
    request.set_via(request.via.stamped("192.0.2.77", 5066))


if __name__ == "__main__":
    main()
