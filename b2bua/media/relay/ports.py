"""Pairs of UDP ports for RTP and RTCP out of one range (RFC 3550 §11: even, and the odd one above it)."""

from __future__ import annotations

import random
import socket
from collections import deque
from dataclasses import dataclass

TRIES = 50                              # pairs that others hold, before we say that there is none
EXPEDITED = 0xB8                        # DSCP EF for voice (RFC 4594 §4.1)


class NoPortsLeft(Exception):
    """Every pair of the range is in use, by us or by others."""


@dataclass(frozen=True, slots=True)
class PortPair:
    port: int
    rtp: socket.socket
    rtcp: socket.socket

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """The longest unused pair is handed out first, so that a dead call's packets find nobody; where the range starts is
    shuffled, so that a stranger cannot guess which pairs are live."""

    def __init__(self, bind: str, first: int, last: int) -> None:
        self._bind = bind
        self._family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        free = list(range(first + first % 2, last, 2))
        random.SystemRandom().shuffle(free)
        self._free = deque(free)

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self) -> PortPair:
        for _ in range(min(TRIES, len(self._free))):
            port = self._free.popleft()
            try:
                rtp = self._bound(port)
            except OSError:
                self._free.append(port)
                continue
            try:
                return PortPair(port, rtp, self._bound(port + 1))
            except OSError:
                rtp.close()
                self._free.append(port)
        raise NoPortsLeft("others hold the ports of the range" if self._free else "all ports of the range are in use")

    def give_back(self, pair: PortPair) -> None:
        pair.close()
        self._free.append(pair.port)

    def _bound(self, port: int) -> socket.socket:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if self._family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED)
            sock.bind((self._bind, port))
        except OSError:
            sock.close()
            raise
        return sock
