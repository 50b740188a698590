#!/usr/bin/env python3
"""The least a pure Python B2BUA can do: a yardstick, not a product.

It carries the standard call over UDP between two fixed ends with two dialogs of
its own, answers and absorbs retransmissions, and repeats its own requests and
its 200 until they are answered.  It has no CANCEL, no re-INVITE, no
authentication, no routing, no log.  Whatever a full B2BUA does comes on top, so
the calls a second this carries bound those of one Python process from above.

  floor.py --listen 127.0.0.1:5060 --next 127.0.0.1:5070 [--uvloop] [--drain]
"""
import argparse
import asyncio
import gc
import os
import re
import socket
import time

LINE = re.compile(rb"([^\s:]+)[ \t]*:[ \t]*([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n")
TAG = re.compile(rb";\s*tag=([^;\s]+)", re.I)
BRANCH = re.compile(rb";\s*branch=([^;,\s]+)", re.I)
URI = re.compile(rb"<([^>]+)>|([^;\s]+)")
ROLE = {}
for _role, _names in ((b"via", (b"Via", b"v")), (b"from", (b"From", b"f")),
                      (b"to", (b"To", b"t")), (b"call-id", (b"Call-ID", b"i")),
                      (b"cseq", (b"CSeq",)), (b"contact", (b"Contact", b"m")),
                      (b"drop", (b"Content-Length", b"l", b"Record-Route", b"Route",
                                 b"Max-Forwards"))):
    for _n in _names:
        for _form in (_n, _n.lower(), _n.upper(), _n.title()):
            ROLE[_form] = _role

T1, T2, GIVE_UP, KEEP = 0.5, 4.0, 32.0, 5.0


def read(data):
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
    return data[:cut - 2], own, rest, data[end + 2:]


class Wheel:
    """Timers in slots of 50 ms: arming is an append, disarming a flag."""

    def __init__(self, loop, step=0.05, slots=1024):
        self.loop, self.step, self.slots = loop, step, [[] for _ in range(slots)]
        self.at, self.mask = 0, slots - 1
        self.begin = time.monotonic()
        loop.call_later(step, self.turn)

    def arm(self, delay, function, *arguments):
        entry = [function, arguments]
        self.slots[(self.at + max(1, int(delay / self.step))) & self.mask].append(entry)
        return entry

    def turn(self):
        due = int((time.monotonic() - self.begin) / self.step)
        while self.at < due:
            self.at += 1
            slot, self.slots[self.at & self.mask] = self.slots[self.at & self.mask], []
            for entry in slot:
                if entry[0] is not None:
                    entry[0](*entry[1])
        self.loop.call_later(self.step, self.turn)


class Leg:
    __slots__ = (
        "answered",
        "branch",
        "call",
        "call_id",
        "cseq",
        "invite",
        "local",
        "other",
        "peer",
        "remote",
        "repeat",
        "target",
        "waiting",
    )

    def __init__(self, call, peer):
        self.call, self.peer = call, peer
        self.waiting = self.repeat = self.answered = self.invite = None
        self.cseq = 1


class Floor:
    def __init__(self, listen, following, loop):
        self.me = b"%b:%d" % (listen[0].encode(), listen[1])
        self.contact = b"<sip:" + self.me + b">"
        self.following = following
        self.legs = {}              # (Call-ID, our tag or None) -> leg
        self.served = {}            # (branch, method) -> last answer, or None yet
        self.asked = {}             # branch of ours -> leg
        self.wheel = Wheel(loop)
        self.serial = 0
        self.salt = os.urandom(6).hex().encode()
        self.send = None

    def new(self, kind):
        self.serial += 1
        return b"%b%b%x" % (kind, self.salt, self.serial)

    # ---- outbound

    def ask(self, leg, method, rest=(), body=b"", contact=True):
        branch = self.new(b"z9hG4bK")
        leg.cseq += 1
        data = (b"%b %b SIP/2.0\r\nVia: SIP/2.0/UDP %b;branch=%b;rport\r\nMax-Forwards: 70\r\n"
                b"From: %b\r\nTo: %b\r\nCall-ID: %b\r\nCSeq: %d %b\r\nContact: %b\r\n%b"
                b"Content-Length: %d\r\n\r\n%b" % (
                    method, leg.target, self.me, branch, leg.local, leg.remote, leg.call_id,
                    leg.cseq, method, self.contact,
                    b"".join([r + b"\r\n" for r in rest]), len(body), body))
        self.send(data, leg.peer)
        self.asked[branch] = leg
        leg.branch = branch
        leg.waiting = self.wheel.arm(T1, self.again, leg, data, T1, T1)

    def again(self, leg, data, delay, total):
        if total > GIVE_UP:
            return
        self.send(data, leg.peer)
        delay = min(delay * 2, T2)
        leg.waiting = self.wheel.arm(delay, self.again, leg, data, delay, total + delay)

    def repeat_200(self, leg, data, delay, total):
        if total > GIVE_UP:
            return
        self.send(data, leg.peer)
        delay = min(delay * 2, T2)
        leg.repeat = self.wheel.arm(delay, self.repeat_200, leg, data, delay, total + delay)

    def answer(self, key, own, status, tagged, source, rest=(), body=b"", contact=b""):
        data = (b"SIP/2.0 %b\r\nVia: %b\r\nFrom: %b\r\nTo: %b\r\nCall-ID: %b\r\nCSeq: %b\r\n%b%b"
                b"Content-Length: %d\r\n\r\n%b" % (
                    status, own[b"via"], own[b"from"], tagged, own[b"call-id"], own[b"cseq"],
                    contact, b"".join([r + b"\r\n" for r in rest]), len(body), body))
        self.served[key] = data
        self.send(data, source)
        return data

    # ---- inbound

    def take(self, data, source):
        if data.startswith(b"SIP/2.0 "):
            return self.response(read(data), int(data[8:11]))
        start, own, _rest, _body = message = read(data)
        method, ruri, _ = start.split(b" ", 2)
        branch = BRANCH.search(own[b"via"])[1]
        key = (branch, method)
        if method != b"ACK":
            if key in self.served:
                again = self.served[key]
                if again is not None:
                    self.send(again, source)
                return None
            self.served[key] = None
        if method == b"INVITE" and TAG.search(own[b"to"]) is None:
            return self.invite(key, message, ruri, source)
        tag = TAG.search(own[b"to"])
        leg = self.legs.get((own[b"call-id"], tag[1] if tag else None))
        if method == b"ACK":
            if leg is not None and leg.repeat is not None:
                leg.repeat[0] = leg.repeat = None
                self.ack(leg.other)
            return None
        if leg is None or method != b"BYE":
            status = b"481 Call Does Not Exist" if leg is None else b"405 Method Not Allowed"
            self.answer(key, own, status, own[b"to"], source)
            self.wheel.arm(KEEP, self.served.pop, key, None)
            return None
        self.answer(key, own, b"200 OK", own[b"to"], source)
        self.wheel.arm(KEEP, self.served.pop, key, None)
        self.ask(leg.other, b"BYE")
        for one in (leg, leg.other):
            self.wheel.arm(KEEP, self.legs.pop, (one.call_id, TAG.search(one.local)[1]), None)
        return None

    def invite(self, key, message, ruri, source):
        _start, own, rest, body = message
        tag = self.new(b"a")
        a, b = Leg(None, source), Leg(None, self.following)
        a.other, b.other = b, a
        a.call_id, a.local, a.remote = own[b"call-id"], own[b"to"] + b";tag=" + tag, own[b"from"]
        found = URI.search(own[b"contact"])
        a.target = found[1] or found[2]
        a.invite = (key, {n: own[n] for n in (b"via", b"from", b"to", b"call-id", b"cseq")})
        self.legs[a.call_id, tag] = a
        self.answer(key, own, b"100 Trying", own[b"to"], source)
        b.call_id, mine = self.new(b"c"), self.new(b"b")
        b.local = own[b"from"].partition(b";tag=")[0] + b";tag=" + mine
        user = ruri.partition(b"@")[0]
        b.target = b"%b@%b:%d" % (user, self.following[0].encode(), self.following[1])
        b.remote = b"<" + b.target + b">"
        self.legs[b.call_id, mine] = b
        self.ask(b, b"INVITE", rest, body)

    def ack(self, leg):
        self.send(b"ACK %b SIP/2.0\r\nVia: SIP/2.0/UDP %b;branch=%b;rport\r\nMax-Forwards: 70\r\n"
                  b"From: %b\r\nTo: %b\r\nCall-ID: %b\r\nCSeq: %d ACK\r\nContent-Length: 0\r\n\r\n"
                  % (leg.target, self.me, self.new(b"z9hG4bK"), leg.local, leg.remote,
                     leg.call_id, leg.cseq), leg.peer)

    def response(self, message, status):
        start, own, rest, body = message
        leg = self.asked.get(BRANCH.search(own[b"via"])[1])
        if leg is None:
            return
        if leg.waiting is not None:
            leg.waiting[0] = leg.waiting = None
        invite = own[b"cseq"].endswith(b"INVITE")
        if status >= 200 and not leg.answered:
            self.wheel.arm(KEEP, self.asked.pop, leg.branch, None)
        if status == 100 or not invite:
            return
        if leg.answered:
            if 200 <= status < 300 and leg.other.repeat is None:
                self.ack(leg)
            return
        other = leg.other
        key, kept = other.invite
        if status >= 200:
            leg.answered = True
            leg.remote = own[b"to"]
            if b"contact" in own:
                found = URI.search(own[b"contact"])
                leg.target = found[1] or found[2]
        data = self.answer(key, kept, start[8:], other.local, other.peer, rest, body,
                           b"Contact: " + self.contact + b"\r\n")
        if status >= 200:
            other.repeat = self.wheel.arm(T1, self.repeat_200, other, data, T1, T1)
            self.wheel.arm(KEEP, self.served.pop, key, None)
            other.invite = None


class Protocol(asyncio.DatagramProtocol):
    def __init__(self, floor):
        self.datagram_received = floor.take
        self.floor = floor

    def connection_made(self, transport):
        self.floor.send = transport.sendto


async def run(options):
    def address(text):
        host, port = text.rsplit(":", 1)
        return host, int(port)

    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    sock.bind(address(options.listen))
    sock.setblocking(False)
    floor = Floor(address(options.listen), address(options.next), loop)
    if options.drain:
        floor.send = sock.sendto
        take, recvfrom = floor.take, sock.recvfrom

        def ready():
            try:
                for _ in range(64):
                    take(*recvfrom(65535))
            except BlockingIOError:
                pass
        loop.add_reader(sock, ready)
    else:
        await loop.create_datagram_endpoint(lambda: Protocol(floor), sock=sock)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    await asyncio.Event().wait()


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--listen", default="127.0.0.1:5060")
    p.add_argument("--next", default="127.0.0.1:5070")
    p.add_argument("--uvloop", action="store_true")
    p.add_argument("--drain", action="store_true",
                   help="read the socket dry at each wake-up instead of a protocol")
    options = p.parse_args()
    if options.uvloop:
        import uvloop
        uvloop.install()
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
