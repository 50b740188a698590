"""Who means harm: a bare socket that keeps count, and messages that the RFCs warn of, or forgot to."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

from b2bua.sip.effects import Address


class Stranger:
    """A bare UDP socket that keeps count of what it sent and what it got."""

    def __init__(self, server: Address, host: str, probe: str) -> None:
        """`probe` is another address of ours, to ask from whether the daemon has worked off what was sent."""
        self.server, self._probe = server, probe
        self.sent = self.got = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        self.address = Address(*self._socket.getsockname())

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendto(data, self.server)
        self.sent += len(data)

    async def answer(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self._socket, 65_535)
        self.got += len(data)
        return data

    async def answers(self) -> list[bytes]:
        """All that has come by the time that the daemon has worked off what was sent: it keeps the order."""
        with closing(Stranger(self.server, self._probe, self._probe)) as probe:
            probe.send(message("REGISTER", probe.address, call_id=f"probe{random.random()}"))
            assert codes([await probe.answer()]) == [401]
        return self.drain()

    def drain(self) -> list[bytes]:
        """All that has come."""
        found: list[bytes] = []
        while True:
            try:
                data = self._socket.recv(65_535)
            except BlockingIOError:
                return found
            self.got += len(data)
            found.append(data)


SAID_BY_PHONES = ("User-Agent: Some Phone 1.2.3", "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY",
                  "Supported: replaces, timer")


def message(
    method: str,
    source: Address,
    *extra: str,
    uri: str = "sip:101@smartswitch",
    to: str = "<sip:101@smartswitch>",
    call_id: str = "call",
    branch: str = "",
    cseq: str = "",
    via: Sequence[str] = (),
    body: bytes = b"",
    bare: bool = False,
) -> bytes:
    """A request as hostile as its parts; unless `bare`, with as much in it as phones say."""
    if not bare and "User-Agent" not in "".join(extra):
        extra = (*extra, *SAID_BY_PHONES)
    lines = [
        f"{method} {uri} SIP/2.0",
        *via,
        f"Via: SIP/2.0/UDP {source.host}:{source.port};branch=z9hG4bK{branch or call_id}{method};rport",
        "Max-Forwards: 70" if not any(line.startswith("Max-Forwards") for line in extra) else "Subject: x",
        "From: <sip:100@smartswitch>;tag=1",
        f"To: {to}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq or f'1 {method}'}",
        *([f"Contact: <sip:100@{source.host}:{source.port}>"] if "Contact" not in "".join(extra) else ()),
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def codes(answers: Iterable[bytes]) -> list[int]:
    """Not parsed: some of them copy what was malformed in the request."""
    return [int(one.split(b" ", 2)[1]) for one in answers if one.startswith(b"SIP/2.0 ")]


def hostile(source: Address, server: Address, rng: random.Random) -> list[bytes]:
    """What the RFCs warn of, and what they forgot to; all of it can be read as far as its framing goes."""
    ours = f"sip:101@{server.host}:{server.port}"
    sdp = b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 1.2.3.4\r\nt=0 0\r\n"
    media = b"m=audio 4000 RTP/AVP 8\r\n"
    described = "Content-Type: application/sdp"
    parts = b"".join(b"--b%d\r\nContent-Type: multipart/mixed;boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(500))
    made: list[tuple[str, dict[str, Any]]] = [
        ("INVITE", {"via": ["Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"] * 100}),
        ("INVITE", {"via": ["Via: " + ", ".join(["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"] * 100)]}),
        ("INVITE", {"via": [f"Via: SIP/2.0/UDP {server.host}:{server.port};branch=z9hG4bKloop"]}),
        ("INVITE", {"via": ["Via: SIP/2.0/UDP 192.0.2.1:99999"]}),
        ("INVITE", {"extra": ["Max-Forwards: 0"]}),
        ("INVITE", {"extra": ["Max-Forwards: 99999999999"]}),
        ("INVITE", {"extra": ["Contact: " + "<" * 4000]}),
        ("INVITE", {"extra": ["Contact: " + ",".join(['"' + "\\" * 50 + '"'] * 100)]}),
        ("INVITE", {"extra": ["Contact: <sip:" + "a" * 8000 + "@x>"]}),
        ("INVITE", {"extra": ["Record-Route: " + ",".join(["<sip:192.0.2.9;lr>"] * 300)]}),
        ("INVITE", {"extra": ["Route: <sip:192.0.2.9;lr>", f"Route: <{ours};lr>"]}),
        ("INVITE", {"extra": ["Require: 100rel, no-such-thing, replaces"]}),
        ("INVITE", {"extra": ["Replaces: call;from-tag=1;to-tag=2"]}),
        ("INVITE", {"extra": ["Session-Expires: 99999999999999;refresher=both", "Min-SE: -1"]}),
        ("INVITE", {"extra": ["Session-Expires: 1"]}),
        ("INVITE", {"extra": ["P-Asserted-Identity: <<<>>>,,,;;;"]}),
        ("INVITE", {"extra": ["P-Asserted-Identity: " + '"\\' * 2000]}),
        ("INVITE", {"extra": ["Content-Type: multipart/mixed;boundary=b0"], "body": parts}),
        ("INVITE", {"extra": ["Content-Encoding: gzip", described], "body": b"\x1f\x8b" + bytes(500)}),
        ("INVITE", {"extra": [described], "body": sdp + media * 2000}),
        ("INVITE", {"extra": [described], "body": sdp + b"m=audio 4000 RTP/AVP" + b" 8" * 10_000 + b"\r\n"}),
        ("INVITE", {"extra": [described], "body": sdp + media + b"a=rtpmap:8 " + b"x" * 20_000 + b"\r\n"}),
        ("INVITE", {"extra": [described], "body": b"m=" * 20_000}),
        ("INVITE", {"extra": [described], "body": rng.randbytes(30_000)}),
        ("INVITE", {"extra": [described], "body": sdp.replace(b"1.2.3.4", b"9" * 5000) + media}),
        ("INVITE", {"uri": "sip:" + "%00" * 500 + "@x"}),
        ("INVITE", {"uri": "sip:%ff%fe%0d%0aVia:x@x"}),
        ("INVITE", {"uri": "sip:" + "9" * 7000 + "@x"}),
        ("INVITE", {"uri": "tel:+" + "9" * 7000}),
        ("INVITE", {"uri": "http://127.0.0.1/"}),
        ("INVITE", {"uri": ours}),
        ("INVITE", {"to": "<sip:101@smartswitch>;tag=gone"}),
        ("INVITE", {"cseq": "4294967295 INVITE"}),
        ("INVITE", {"extra": ["Authorization: Digest " + ",".join(f"a{n}=\"\\\"\"" for n in range(500))]}),
        ("INVITE", {"extra": ["Authorization: Digest username=\"101\""] * 100}),
        *((method, {"to": "<sip:101@smartswitch>;tag=gone"})
          for method in ("BYE", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY", "ACK", "CANCEL", "OPTIONS", "XYZZY")),
        *((method, {}) for method in
          ("BYE", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY", "ACK", "CANCEL", "OPTIONS", "XYZZY", "PUBLISH")),
        ("PRACK", {"extra": ["RAck: 99999999999 99999999999 INVITE"]}),
        ("REFER", {"extra": [f"Refer-To: <{ours}?Replaces=call>"]}),
        ("REGISTER", {"extra": ["Contact: " + ",".join(f"<sip:{n}@192.0.2.1>" for n in range(250))]}),
        ("REGISTER", {"extra": ["Contact: *", "Expires: 99999999999"]}),
        ("REGISTER", {"extra": ["Contact: *, <sip:101@192.0.2.1>", "Expires: 0"]}),
    ]
    requests = [
        message(method, source, *what.pop("extra", ()), call_id=f"evil{number}x{source.port}", **what)
        for number, (method, what) in enumerate(made)
    ]
    branch = "z9hG4bK" + "a" * 16
    responses = [
        f"SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP {server.host}:{server.port};branch={branch}\r\n"
        f"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: stolen\r\nCSeq: 1 {method}\r\n"
        f"Contact: <sip:x@192.0.2.9>\r\n\r\n".encode()
        for status in (100, 180, 200, 302, 401, 487, 699) for method in ("INVITE", "BYE", "OPTIONS")
    ]
    return requests + responses
