"""One call's sockets in the relay: two sides, for each a port for RTP and one for RTCP."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from b2bua.media.raw import CALLEE, CALLER
from b2bua.media.relay import wire
from b2bua.media.relay.latch import ControlLatch, Latch, Source
from b2bua.media.relay.ports import PortPair
from b2bua.media.relay.stats import Reception
from b2bua.media.relay.tapes import Tape
from b2bua.media.relay.tones import Tones, difference
from b2bua.sdp.session import is_voice


class Port:
    """One socket, whom it believes and sends to, and the port of the other side. RTCP has no `reception`."""

    __slots__ = ("dropped", "fd", "kind", "latch", "muted", "payload_type", "peer", "reads_before", "receive",
                 "reception", "send", "tape", "voice")  # fmt: skip

    def __init__(self, sock: socket.socket, latch: Latch | ControlLatch,
                 reception: Reception | None = None, kind: int = 0) -> None:
        self.fd = sock.fileno()
        # Bound once: an attribute less to look up for every packet.
        self.receive: Callable[[bytearray], tuple[int, Any]] = sock.recvfrom_into
        self.send: Callable[[memoryview, Source], int] = sock.sendto
        self.latch = latch
        self.reception = reception
        self.kind = kind                            # of a record in a raw recording
        self.peer: Port | Nobody = self
        self.tape: Tape | None = None
        self.dropped = 0
        self.payload_type = -1                      # of the last voice packet
        self.voice: frozenset[int] = frozenset()
        self.muted = False
        self.reads_before = 0

    @property
    def reads(self) -> int:
        packets = self.reception.packets if self.reception is not None else 0
        return packets + self.latch.foreign + self.dropped

    def sounds(self, payload_type: int) -> None:
        """Another payload type than in the last packet."""
        if payload_type in self.voice:
            self.payload_type = payload_type


class Nobody:
    """The peer of a port whose packets shall go nowhere."""

    __slots__ = ("latch", "send")

    def __init__(self) -> None:
        self.latch = Latch()            # without a destination, for ever
        self.send: Callable[[memoryview, Source], int] = lambda packet, destination: 0


NOBODY = Nobody()


class Session:
    """Two sides joined; index 0 is the caller, 1 the callee."""

    __slots__ = ("_codecs", "_fax", "_on_hold", "_receptions", "number", "pairs", "recorded", "rtcp", "rtp", "tape",
                 "tones", "watched_since")  # fmt: skip

    def __init__(self, number: int, pairs: tuple[PortPair, PortPair]) -> None:
        self.number = number
        self.pairs = pairs
        latches = Latch(), Latch()
        self._receptions = Reception(), Reception()
        self.rtp = (Port(pairs[0].rtp, latches[0], self._receptions[0], CALLER),
                    Port(pairs[1].rtp, latches[1], self._receptions[1], CALLEE))
        self.rtcp = (Port(pairs[0].rtcp, ControlLatch(latches[0])), Port(pairs[1].rtcp, ControlLatch(latches[1])))
        for caller, callee in (self.rtp, self.rtcp):
            caller.peer, callee.peer = callee, caller
        self.watched_since: float | None = None
        self.tape: Tape | None = None
        self.recorded = False           # at least in part
        self._on_hold = [False, False]
        self._codecs: list[dict[int, str]] = [{}, {}]
        self._fax = [False, False]
        self.tones: Tones | None = None             # while one side says digits by events and the other one does not

    @property
    def on_hold(self) -> bool:
        return any(self._on_hold)

    @property
    def codecs(self) -> tuple[dict[int, str], dict[int, str]]:
        """What each side's packets mean: the numbers that the other side asked for, else its own (RFC 3264 §5.1)."""
        caller, callee = self._codecs
        return {**caller, **callee}, {**callee, **caller}

    def describe(self, side: int, description: wire.Remote, now: float) -> None:
        self._on_hold[side] = description.on_hold
        self._fax[side] = description.fax
        if not description.fax:                     # else what was said of the audio stands for when it comes back
            self._codecs[side] = {int(number): codec for number, codec in description.codecs.items()}
        rtp, rtcp = self.rtp[side].latch, self.rtcp[side].latch
        assert isinstance(rtp, Latch)
        assert isinstance(rtcp, ControlLatch)
        rtp.describe(_source(description.host, description.port), now)
        rtcp.describe(_source(description.rtcp_host, description.rtcp_port))
        self._agree(now)

    def heard_at(self) -> float:
        return max(port.latch.heard_at for port in (*self.rtp, *self.rtcp))

    def part(self, apart: bool) -> None:
        """Whether the two do not hear each other, as something is played instead; both are still heard by us."""
        caller, callee = self.rtp
        caller.peer, callee.peer = (NOBODY, NOBODY) if apart else (callee, caller)

    def record(self, tape: Tape | None) -> None:
        self.tape = tape
        for port in self.rtp:
            port.tape = tape

    def report(self) -> wire.Closed:
        caller, callee = (self._direction(side) for side in (0, 1))
        return wire.Closed(self.number, caller, callee, self.recorded)

    def arrival(self) -> wire.Arrival | None:
        """None: nothing has come yet."""
        caller, callee = self._receptions
        if not caller.packets and not callee.packets:
            return None
        jitter = round(caller.jitter_ms, 1), round(callee.jitter_ms, 1)
        return wire.Arrival(self.number, (caller.packets, callee.packets), (caller.lost, callee.lost), jitter)

    def free(self) -> None:
        """The relay collects no garbage, so that nothing may be left in a ring."""
        for port in (*self.rtp, *self.rtcp):
            port.peer = port
            del port.peer
            port.tape = None
            port.reception = None
            del port.receive, port.send

    def _agree(self, now: float) -> None:
        agreed = self.codecs
        fax = all(self._fax)
        for port, reception, codecs in zip(self.rtp, self._receptions, agreed, strict=True):
            assert isinstance(port.latch, Latch)
            port.latch.fax = fax
            if fax != (port.reception is None):
                port.reception = None if fax else reception     # what is no RTP passes uncounted and unrecorded
                port.reads_before = port.reads
            port.latch.payload_types = frozenset(codecs)
            port.voice = frozenset(number for number, codec in codecs.items() if is_voice(codec))
            voice = next((codecs[number] for number in codecs if number in port.voice), "PCMU/8000")
            reception.clocked_at(int(voice.split("/")[1]) or 8000)
        self._translate_digits(fax)
        if self.tape is not None:
            self.tape.codecs(agreed, now)

    def _translate_digits(self, fax: bool) -> None:
        how = None if fax else difference(*self._codecs)
        if (None if self.tones is None else self.tones.how) == how:
            return
        for port, pair in zip(self.rtp, self.pairs, strict=True):
            port.send = pair.rtp.sendto
        self.tones = None
        if how is None:
            return
        knows, lacks = self.rtp[how.side], self.rtp[1 - how.side]
        assert isinstance(knows.latch, Latch)
        self.tones = Tones(how, knows.latch, knows.send, lacks.send)
        knows.send, lacks.send = self.tones.to_knowing, self.tones.to_lacking

    def _direction(self, side: int) -> wire.Direction:
        port, reception = self.rtp[side], self._receptions[side]
        codec = self.codecs[side].get(port.payload_type, "")
        control = self.rtcp[side]
        return wire.Direction(reception.packets, reception.octets, reception.lost, round(reception.jitter_ms, 2),
                              port.latch.foreign + control.latch.foreign, codec, port.dropped + control.dropped)


def _source(host: str, port: int) -> Source | None:
    if not host or not port:
        return None
    return (host, port, 0, 0) if ":" in host else (host, port)
