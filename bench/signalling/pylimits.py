#!/usr/bin/env python3
"""What one core of Python can do with SIP datagrams, apart from any SIP logic.

  echo    microseconds of CPU to take in one 700-byte datagram and send one back:
          a bare socket loop, asyncio (protocol; add_reader that drains the
          socket) and the same two on uvloop where that is installed
  parse   microseconds to read a typical INVITE and to write the other leg's, two
          ways, and Sippy's own classes where that package is installed

From both follows a bound on the calls a second of a pure Python B2BUA.  Run with
the interpreter in question; the server side is pinned to one CPU, the rest to
the other, and the lock file is held.
"""
# ruff: noqa: TID251, S108 - a harness waits for other programs, and shares its lock file
import argparse
import asyncio
import fcntl
import json
import os
import re
import secrets
import socket
import sys
import time
import timeit

INVITE = (
    b"INVITE sip:1000@192.0.2.10:5060 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-4d1f8a9c2b;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Load Caller" <sip:+15550100123@192.0.2.20>;tag=c9f2e1a7\r\n'
    b"To: <sip:1000@192.0.2.10>\r\n"
    b"Call-ID: 8f14e45fceea167a@192.0.2.20\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: <sip:caller@192.0.2.20:5060>\r\n"
    b"Record-Route: <sip:192.0.2.5;lr>\r\n"
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO\r\n"
    b"Supported: replaces, timer\r\n"
    b"User-Agent: load-caller\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: 206\r\n\r\n"
    b"v=0\r\no=- 100200300 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\n"
    b"m=audio 30000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)
OK = (
    b"SIP/2.0 200 OK\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-77aa88bb;rport=5060\r\n"
    b'From: "Load Caller" <sip:+15550100123@192.0.2.10>;tag=b1\r\n'
    b"To: <sip:1000@192.0.2.30>;tag=s123\r\n"
    b"Call-ID: 77aa88bb99@192.0.2.10\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: <sip:callee@192.0.2.30:5060>\r\n"
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: 185\r\n\r\n"
    b"v=0\r\no=- 400500600 1 IN IP4 192.0.2.30\r\ns=-\r\nc=IN IP4 192.0.2.30\r\nt=0 0\r\n"
    b"m=audio 31000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)


# ------------------------------------------------------------------ echo

class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.send = transport.sendto

    def datagram_received(self, data, source):
        self.send(data, source)


def bound(port=0):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_000_000)
    sock.bind(("127.0.0.1", port))
    return sock


def serve_bare(sock):
    while True:
        data, source = sock.recvfrom(65535)
        sock.sendto(data, source)


def serve_protocol(sock):
    async def run():
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(Echo, sock=sock)
        await asyncio.sleep(3600)
    asyncio.run(run())


def serve_reader(sock):
    sock.setblocking(False)
    recvfrom, sendto = sock.recvfrom, sock.sendto

    def ready():
        try:
            for _ in range(64):
                sendto(*recvfrom(65535))
        except BlockingIOError:
            pass

    async def run():
        asyncio.get_running_loop().add_reader(sock, ready)
        await asyncio.sleep(3600)
    asyncio.run(run())


def on_uvloop(serve):
    def run(sock):
        import uvloop
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        serve(sock)
    return run


def has_uvloop():
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


def echo(serve, server_cpu, client_cpu, seconds, window):
    """Packets a second and CPU microseconds of the server per packet echoed."""
    sock = bound()
    target = sock.getsockname()
    child = os.fork()
    if child == 0:
        try:
            os.sched_setaffinity(0, {server_cpu})
            serve(sock)
        finally:
            os._exit(0)
    sock.close()
    os.sched_setaffinity(0, {client_cpu})
    client = bound()
    client.connect(target)
    client.settimeout(1)
    send, take = client.send, client.recv
    tick = os.sysconf("SC_CLK_TCK")

    def used():
        with open(f"/proc/{child}/stat") as handle:
            rest = handle.read().rsplit(")", 1)[1].split()
        return (int(rest[11]) + int(rest[12])) / tick

    try:
        time.sleep(0.7)
        for _ in range(200):
            send(INVITE)
            take(65535)
        count, spent, begin = 0, used(), time.perf_counter()
        until = begin + seconds
        while time.perf_counter() < until:
            for _ in range(window):
                send(INVITE)
            for _ in range(window):
                take(65535)
            count += window
        wall, spent = time.perf_counter() - begin, used() - spent
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        client.close()
    return {"packets_a_second": round(count / wall), "server_cpu_pct": round(100 * spent / wall),
            "cpu_us_per_packet": round(1e6 * spent / count, 2)}


# ------------------------------------------------------------------ parse, 1: str.split

def params_of(text):
    out = {}
    for part in text.split(";")[1:]:
        name, _, value = part.partition("=")
        out[name.strip().lower()] = value.strip()
    return out


def name_addr(text):
    """(display name, URI, header parameters)"""
    left = text.find("<")
    if left < 0:
        uri, _, rest = text.partition(";")
        return "", uri.strip(), params_of(";" + rest)
    right = text.index(">", left)
    return text[:left].strip(), text[left + 1:right], params_of(text[right + 1:])


def split_read(data):
    text = data.decode()
    head, _, body = text.partition("\r\n\r\n")
    lines = head.split("\r\n")
    start = lines[0].split(" ", 2)
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    via = [(v.split(None, 1)[1].split(";", 1)[0], params_of(v)) for v in headers["via"]]
    number, method = headers["cseq"][0].split()
    return {"start": start, "headers": headers, "body": body, "via": via,
            "from": name_addr(headers["from"][0]), "to": name_addr(headers["to"][0]),
            "contact": [name_addr(c) for c in headers.get("contact", ())],
            "routes": [name_addr(r) for r in headers.get("record-route", ())],
            "call_id": headers["call-id"][0], "cseq": (int(number), method)}


def split_write(m, branch, tag, call_id):
    display, uri, _ = m["from"]
    h = m["headers"]
    lines = [f"INVITE {m['start'][1]} SIP/2.0",
             f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch={branch};rport",
             f"Max-Forwards: {int(h['max-forwards'][0]) - 1}",
             f"From: {display} <{uri}>;tag={tag}", f"To: <{m['to'][1]}>",
             f"Call-ID: {call_id}", "CSeq: 1 INVITE", "Contact: <sip:192.0.2.10:5060>"]
    for name, values in h.items():
        if name not in OWN_STR:
            lines.extend(f"{name}: {value}" for value in values)
    lines.append(f"Content-Length: {len(m['body'])}")
    return ("\r\n".join(lines) + "\r\n\r\n" + m["body"]).encode()


OWN_STR = {"via", "max-forwards", "from", "to", "call-id", "cseq", "contact", "record-route",
           "content-length"}

# ------------------------------------------------------------------ parse, 2: bytes, lazy

# one pass cuts the head into (name, value); the few headers a B2BUA acts on are
# told apart by a dictionary, and nothing is taken apart before it is asked for
LINE = re.compile(rb"([^\s:]+)[ \t]*:[ \t]*([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n")
TAG = re.compile(rb";\s*tag=([^;\s]+)", re.I)
BRANCH = re.compile(rb";\s*branch=([^;,\s]+)", re.I)
ROLE = {}
for _role, _names in {b"via": (b"Via", b"v"), b"from": (b"From", b"f"), b"to": (b"To", b"t"),
                      b"call-id": (b"Call-ID", b"i"), b"cseq": (b"CSeq",),
                      b"contact": (b"Contact", b"m"), b"record-route": (b"Record-Route",),
                      b"max-forwards": (b"Max-Forwards",),
                      b"content-length": (b"Content-Length", b"l")}.items():
    for _n in _names:
        for _form in (_n, _n.lower(), _n.upper(), _n.title()):
            ROLE[_form] = _role


def lazy_read(data):
    end = data.index(b"\r\n\r\n") + 2
    cut = data.index(b"\r\n") + 2
    own, rest = {}, []
    role_of = ROLE.get
    for name, value in LINE.findall(data, cut, end):
        role = role_of(name)
        if role is None:
            rest.append(name + b": " + value)
        elif role in own:
            own[role] += b", " + value
        else:
            own[role] = value
    # what matching needs: branch, Call-ID, tags, CSeq
    own[b"branch"] = BRANCH.search(own[b"via"])[1]
    own[b"from-tag"] = TAG.search(own[b"from"])[1]
    tag = TAG.search(own[b"to"])
    own[b"to-tag"] = tag[1] if tag else None
    return data[:cut - 2], own, rest, data[end + 2:]


def lazy_write(m, branch, tag, call_id):
    start, own, rest, body = m
    return (b"%b\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=%b;rport\r\nMax-Forwards: %d\r\n"
            b"From: %b;tag=%b\r\nTo: %b\r\nCall-ID: %b\r\nCSeq: 1 INVITE\r\n"
            b"Contact: <sip:192.0.2.10:5060>\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (
                start, branch, int(own[b"max-forwards"]) - 1,
                own[b"from"].partition(b";tag=")[0], tag, own[b"to"], call_id,
                b"\r\n".join(rest), len(body), body))


def best(function, seconds=0.4, times=5):
    """Least microseconds per call over some rounds (the rest is other people's noise)."""
    timer = timeit.Timer(function)
    number, took = 1, 0.0
    while took < 0.05:
        number *= 4
        took = timer.timeit(number)
    number = max(1, int(number * seconds / took / times))
    return round(1e6 * min(timer.repeat(times, number)) / number, 2)


def parse():
    branch, tag, call_id = "z9hG4bK-1234567890ab", "b7f3", "0123456789abcdef"
    split, lazy = split_read(INVITE), lazy_read(INVITE)
    bb, bt, bc = branch.encode(), tag.encode(), call_id.encode()
    assert b"Record-Route" not in lazy_write(lazy, bb, bt, bc)
    out = {"bytes": len(INVITE),
           "split": {"read_us": best(lambda: split_read(INVITE)),
                     "write_us": best(lambda: split_write(split, branch, tag, call_id)),
                     "read_200_us": best(lambda: split_read(OK))},
           "lazy": {"read_us": best(lambda: lazy_read(INVITE)),
                    "write_us": best(lambda: lazy_write(lazy, bb, bt, bc)),
                    "read_200_us": best(lambda: lazy_read(OK))},
           "new identifiers_us": best(lambda: (secrets.token_hex(8), secrets.token_hex(4)))}
    try:
        from sippy.SipRequest import SipRequest
        from sippy.SipResponse import SipResponse
    except ImportError:
        return out
    text, ok = INVITE.decode(), OK.decode()

    def read(kind, what):
        m = kind(what)
        m.getTId(True, True)
        for name in ("via", "from", "to", "contact"):
            m.getHFBody(name)
        return m

    whole = read(SipRequest, text)
    out["sippy"] = {"read_us": best(lambda: read(SipRequest, text)),
                    "write_us": best(lambda: whole.localStr((("192.0.2.10", 5060), "udp"))),
                    "read_200_us": best(lambda: read(SipResponse, ok))}
    return out


def timers():
    """Microseconds to arm and disarm one timer: the loop's own, and a heap entry."""
    loop = asyncio.new_event_loop()

    def nothing():
        pass

    def one():
        loop.call_later(32, nothing).cancel()
    took = best(one)
    loop.close()
    return {"call_later+cancel_us": took}


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("measures", nargs="*", default=["echo", "parse"])
    p.add_argument("--server-cpu", type=int, default=0)
    p.add_argument("--client-cpu", type=int, default=1)
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--window", type=int, default=32, help="datagrams in flight")
    p.add_argument("--lock", default="/tmp/bench.lock")
    a = p.parse_args()
    result = {"python": sys.version.split()[0], "executable": sys.executable}
    with open(a.lock, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if "parse" in a.measures:
            os.sched_setaffinity(0, {a.server_cpu})
            result["parse"] = parse()
            result["timers"] = timers()
        if "echo" in a.measures:
            servers = {"bare socket": serve_bare, "asyncio protocol": serve_protocol,
                       "asyncio reader": serve_reader}
            if has_uvloop():
                servers["uvloop protocol"] = on_uvloop(serve_protocol)
                servers["uvloop reader"] = on_uvloop(serve_reader)
            result["echo"] = {}
            for name, serve in servers.items():
                result["echo"][name] = echo(serve, a.server_cpu, a.client_cpu,
                                            a.seconds, a.window)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
