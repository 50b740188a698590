#!/usr/bin/env python3
"""Place calls one after another, slowly, and time them to the microsecond.

SIPp counts response times in whole milliseconds, too coarse for what a fast
element adds.  This calling side stamps each request just before sendto() and
takes the arrival time of each answer from the kernel (SO_TIMESTAMPNS), so that
its own scheduling does not enter the figure.  It prints one JSON object.

With --answer it is the called side too, at the address the element under test
routes to, and then "added" is what the element itself took: the time to the
200 as the caller saw it, less the time the called side spent on answering; and
"invite" is the time from the INVITE that went out to the INVITE that arrived.

It is also the harness's readiness check: `--calls 1` succeeds once the element
under test carries a whole call.
"""
import argparse
import json
import os
import re
import selectors
import socket
import struct
import sys
import time

SO_TIMESTAMPNS = 35
SDP = ("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
       "m=audio 30000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\n"
       "a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
       "a=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n")


def header_values(message, name):
    return [v.strip() for v in re.findall(rf"(?im)^{name}\s*:\s*(.+?)\r?$", message)]


def bound(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind(address)
    return sock


def arrival(sock):
    """One datagram, its source, and when the kernel took it in."""
    data, ancillary, _, source = sock.recvmsg(65535, 64)
    at = time.time_ns()
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            sec, nsec = struct.unpack("ll", raw[:16])
            at = sec * 1_000_000_000 + nsec
    return data.decode("utf-8", "replace"), source, at


class Answerer:
    """A called side that answers every INVITE at once and every BYE with 200."""

    def __init__(self, address):
        self.sock = bound(address)
        self.contact = "<sip:answer@{}:{}>".format(*address)
        self.spent = None            # ns from the INVITE's arrival to the 200's departure
        self.invited = None          # ns, when the INVITE arrived

    def serve(self):
        text, source, at = arrival(self.sock)
        method = text.split(" ", 1)[0]
        if method not in ("INVITE", "BYE", "OPTIONS", "CANCEL"):
            return
        names = ["Via", "From", "To", "Call-ID", "CSeq"]
        if method == "INVITE":
            names.append("Record-Route")
        kept = [f"{n}: {v}" for n in names for v in header_values(text, n)]
        tagged = [k + ";tag=answer" if k.startswith("To: ") and ";tag=" not in k else k
                  for k in kept]

        def answer(status, lines, body=""):
            extra = [f"Contact: {self.contact}"]
            if body:
                extra.append("Content-Type: application/sdp")
            extra.append(f"Content-Length: {len(body)}")
            self.sock.sendto("\r\n".join([f"SIP/2.0 {status}", *lines, *extra, "", body])
                             .encode(), source)

        if method == "INVITE":
            answer("100 Trying", kept)
            answer("180 Ringing", tagged)
            self.spent, self.invited = time.time_ns() - at, at
            answer("200 OK", tagged, SDP)
        else:
            answer("200 OK", tagged)


class Probe:
    def __init__(self, target, local, answerer=None, caller=None):
        self.target, self.answerer, self.caller = target, answerer, caller
        self.sock = bound(local)
        self.local = self.sock.getsockname()
        self.serial = 0
        self.poll = selectors.DefaultSelector()
        self.poll.register(self.sock, selectors.EVENT_READ)
        if answerer:
            self.poll.register(answerer.sock, selectors.EVENT_READ)

    def turn(self, left):
        """Wait at most `left` seconds; what reached the calling side, if anything."""
        ready = [key.fileobj for key, _ in self.poll.select(max(0.0, left))]
        if self.answerer and self.answerer.sock in ready:
            self.answerer.serve()
        if self.sock in ready:
            try:
                return arrival(self.sock)
            except ConnectionRefusedError:
                return None
        return None

    def rest(self, seconds):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.turn(left)

    def receive(self, call_id, cseq, deadline):
        """Next answer to this call's request: (status, text, arrival in ns)."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            got = self.turn(left)
            if got is None:
                continue
            text, _, at = got
            if not text.startswith("SIP/2.0 "):
                continue
            if header_values(text, "Call-ID") != [call_id]:
                continue
            if header_values(text, "CSeq")[:1] != [cseq]:
                continue
            return int(text.split(" ", 2)[1]), text, at

    def call(self, timeout):
        """One call; its delays in microseconds, or None if it failed."""
        self.serial += 1
        n = f"{os.getpid()}x{self.serial}"
        host, port = self.local
        call_id, tag = f"probe{n}@{host}", f"p{n}"
        uri = f"sip:1000@{self.target[0]}:{self.target[1]}"
        caller = self.caller or f"+15550200{self.serial}"

        def request(method, ruri, cseq, to, branch, routes=(), body=""):
            lines = [f"{method} {ruri} SIP/2.0",
                     f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{n}{branch};rport",
                     "Max-Forwards: 70",
                     *(f"Route: {r}" for r in routes),
                     f'From: "Probe" <sip:{caller}@{host}:{port}>;tag={tag}',
                     f"To: {to}", f"Call-ID: {call_id}", f"CSeq: {cseq} {method}",
                     f"Contact: <sip:probe@{host}:{port}>"]
            if body:
                lines.append("Content-Type: application/sdp")
            lines += [f"Content-Length: {len(body)}", "", body]
            return "\r\n".join(lines).encode()

        deadline = time.monotonic() + timeout
        invite = request("INVITE", uri, 1, f"<{uri}>", "i", body=SDP)
        sent = time.time_ns()
        self.sock.sendto(invite, self.target)
        ringing = None
        while True:
            got = self.receive(call_id, "1 INVITE", deadline)
            if got is None:
                return None
            status, text, at = got
            if status == 180 and ringing is None:
                ringing = at
            if status >= 200:
                break
        setup = at - sent
        to = header_values(text, "To")[0]
        routes = []
        for value in header_values(text, "Record-Route"):
            routes += [r.strip() for r in value.split(",")]
        routes.reverse()
        contact = header_values(text, "Contact")
        remote = uri
        if contact:
            found = re.search(r"<([^>]+)>", contact[0])
            remote = found.group(1) if found else contact[0]
        if status >= 300:
            self.sock.sendto(request("ACK", uri, 1, to, "i"), self.target)
            return None
        self.sock.sendto(request("ACK", remote, 1, to, "a", routes), self.target)
        self.rest(0.02)
        bye = request("BYE", remote, 2, to, "b", routes)
        bye_sent = time.time_ns()
        self.sock.sendto(bye, self.target)
        got = self.receive(call_id, "2 BYE", time.monotonic() + timeout)
        if got is None or got[0] != 200:
            return None
        added = through = None
        if self.answerer and self.answerer.spent is not None:
            added = (setup - self.answerer.spent) / 1000
            through = (self.answerer.invited - sent) / 1000
        return {"setup_us": setup / 1000, "added_us": added, "invite_us": through,
                "ringing_us": (ringing - sent) / 1000 if ringing else None,
                "bye_us": (got[2] - bye_sent) / 1000}


def percentile(ordered, share):
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("target", help="host:port of the element under test")
    p.add_argument("--local", default="127.0.0.1:0")
    p.add_argument("--answer", help="host:port to answer at, instead of another called side")
    p.add_argument("--caller", help="the number that calls, always the same; else a new one each time")
    p.add_argument("--calls", type=int, default=100)
    p.add_argument("--rate", type=float, default=20.0, help="calls started a second")
    p.add_argument("--timeout", type=float, default=4.0, help="seconds per answer")
    a = p.parse_args()

    def address(text):
        host, port = text.rsplit(":", 1)
        return host, int(port)

    probe = Probe(address(a.target), address(a.local),
                  Answerer(address(a.answer)) if a.answer else None, a.caller)
    delays = {"setup_us": [], "added_us": [], "invite_us": [], "ringing_us": [], "bye_us": []}
    failed = 0
    begin = time.monotonic()
    for i in range(a.calls):
        probe.rest(begin + i / a.rate - time.monotonic())
        got = probe.call(a.timeout)
        if got is None:
            failed += 1
            continue
        for name, value in got.items():
            if value is not None:
                delays[name].append(value)
    out = {"calls": a.calls, "failed": failed}
    for name, values in delays.items():
        if values:
            values.sort()
            out[name] = {k: percentile(values, share) for k, share in
                         (("min", 0.0), ("p50", .50), ("p95", .95), ("p99", .99), ("max", 1.0))}
    print(json.dumps(out))
    sys.exit(1 if failed == a.calls else 0)


if __name__ == "__main__":
    main()
