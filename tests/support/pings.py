"""A trunk's front door for SIPp: answers the daemon's OPTIONS itself and passes everything else on.

SIPp takes an OPTIONS that comes while it waits for a call for the call itself.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

LARGEST = 65535


@contextmanager
def answered_pings(host: str, behind: int, port: int = 5060) -> Iterator[None]:
    """At `host`:`port`, for a SIPp at `host`:`behind`, while the block lasts."""
    with _bound(host, port) as outside, _bound(host, 0) as inside, _bound(host, 0) as stop:
        thread = Thread(target=_pass_on, args=(outside, inside, stop, (host, behind)), name=f"pings at {host}")
        thread.start()
        try:
            yield
        finally:
            stop.sendto(b"", stop.getsockname())
            thread.join()


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((host, port))
    return bound


def _pass_on(outside: socket.socket, inside: socket.socket, stop: socket.socket, behind: tuple[str, int]) -> None:
    caller = ("", 0)
    with selectors.DefaultSelector() as ready:
        for one in (outside, inside, stop):
            ready.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is stop:
                    return
                if key.fileobj is inside:
                    outside.sendto(inside.recv(LARGEST), caller)
                    continue
                data, source = outside.recvfrom(LARGEST)
                if data.startswith(b"OPTIONS "):
                    outside.sendto(pong(data), source)
                else:
                    caller = source
                    inside.sendto(data, behind)


def pong(options: bytes) -> bytes:
    """200 with the fields that RFC 3261 §8.2.6.2 wants copied."""
    lines = options.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]
    copied = [line for line in lines if line.split(b":", 1)[0].lower() in (b"via", b"from", b"call-id", b"cseq")]
    to = next(line for line in lines if line.lower().startswith(b"to:"))
    return b"\r\n".join([b"SIP/2.0 200 OK", *copied, to + b";tag=pong", b"Content-Length: 0", b"", b""])
