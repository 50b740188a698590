"""Whose packets are believed (RFC 4961, symmetric RTP; RFC 7362 on latching and its dangers).

The rules, in this order:

1. Until a side's session description is known, nothing that comes to its port is believed.
2. A packet from the address that the description announces is believed, always: it takes the stream from any other.
3. As long as nothing is learned, any source is believed after PROBATION packets in sequence from one SSRC, each RTP of
   version 2 and of a payload type that was negotiated (phones behind NAT announce an address that nobody sees, and some
   send from another interface). It is learned, and gets the packets of the other side.
4. Once learned, a source keeps the stream. Another one passes rule 3 only when the learned one is silent for SILENCE.
5. A new offer or answer of that side that announces another address forgets what was learned. The source that was
   learned before is then not believed for AFTERMATH unless announced: it is the branch that has just lost the call.

A fax (UDPTL) is believed from the announced address, and from the host that audio was learned from: phones and gateways
behind NAT send it from there.

What is not believed is counted as foreign and dropped. RTCP follows RTP: it is believed from the announced RTCP
address, and from the host that RTP was learned from.
"""

from __future__ import annotations

PROBATION = 2                           # RFC 3550 §A.1, MIN_SEQUENTIAL
SILENCE = 5.0
AFTERMATH = 2.0
MIN_RTP = 12
EVENTS = 200, 213                       # RTCP packet types (IANA)

# As the socket gives it: (host, port), and two numbers more for IPv6.
Source = tuple[str, int] | tuple[str, int, int, int]


class Latch:
    """One side's RTP source. `source` is whom to believe without asking, `destination` where to send."""

    __slots__ = ("_announced", "_barred", "_barred_until", "_candidate", "_described", "_host", "destination", "fax",
                 "foreign", "heard_at", "payload_types", "source")  # fmt: skip

    def __init__(self) -> None:
        self.source: Source | None = None
        self.destination: Source | None = None
        self.foreign = 0
        self.heard_at = 0.0             # kept by the packet loop: last packet from `source`
        self.payload_types: frozenset[int] = frozenset()                    # negotiated, whoever listed them
        self.fax = False                # UDPTL is awaited, which has no numbers to judge by
        self._host = ""                 # that was learned last
        self._described = False
        self._announced: Source | None = None
        self._candidate: tuple[Source, int, int, int] | None = None         # source, SSRC, sequence, packets so far
        self._barred: Source | None = None
        self._barred_until = 0.0

    def describe(self, announced: Source | None, now: float) -> None:
        """An offer or answer of this side. `announced` is None when its address is none that we can send to."""
        self._described = True
        if self.source is not None and announced == self._announced:
            return
        if announced is None and self.source is not None:       # hold by 0.0.0.0: the stream stays whose it is
            return
        if self.source is not None and self.source != announced:
            self._barred, self._barred_until = self.source, now + AFTERMATH
        self._announced = announced
        self._candidate = None
        self.source = None
        self.destination = announced

    def admit(self, source: Source, packet: memoryview, now: float) -> bool:
        """Whether a packet from another than the learned source is believed."""
        if self.fax:
            # The last of the audio, on its way still, must not take the fax along to its port.
            if source == self._announced or (source[0] == self._host and packet[:1] and packet[0] >> 6 != 2):
                return self._learn(source, now)
            self.foreign += 1
            return False
        if not self._described or len(packet) < MIN_RTP or packet[0] >> 6 != 2:
            self.foreign += 1
            return False
        if source == self._announced:
            return self._learn(source, now)
        if self.source is not None and now - self.heard_at < SILENCE:
            self.foreign += 1
            return False
        if source == self._barred and now < self._barred_until:
            self.foreign += 1
            return False
        if self._passed_probation(source, packet):
            return self._learn(source, now)
        self.foreign += 1
        return False

    def _learn(self, source: Source, now: float) -> bool:
        self.source = self.destination = source
        self._host = source[0]
        self.heard_at = now
        self._candidate = None
        return True

    def _passed_probation(self, source: Source, packet: memoryview) -> bool:
        if packet[1] & 0x7F not in self.payload_types:
            return False
        sequence, ssrc = int.from_bytes(packet[2:4], "big"), int.from_bytes(packet[8:12], "big")
        seen = 1
        if self._candidate is not None and self._candidate[:2] == (source, ssrc) \
                and sequence == (self._candidate[2] + 1) & 0xFFFF:
            seen = self._candidate[3] + 1
        self._candidate = (source, ssrc, sequence, seen)
        if seen < PROBATION:
            return False
        self.foreign -= PROBATION - 1           # those on probation were counted, and were not foreign after all
        return True


class ControlLatch:
    """One side's RTCP source, which follows the RTP's."""

    __slots__ = ("_announced", "_rtp", "destination", "foreign", "heard_at", "source")

    def __init__(self, rtp: Latch) -> None:
        self.source: Source | None = None
        self.destination: Source | None = None
        self.foreign = 0
        self.heard_at = 0.0
        self._announced: Source | None = None
        self._rtp = rtp

    def describe(self, announced: Source | None) -> None:
        if announced != self._announced:
            self._announced = self.destination = announced
            self.source = None

    def admit(self, source: Source, packet: memoryview, now: float) -> bool:
        learned = self._rtp.source
        believed = source == self._announced or (learned is not None and source[0] == learned[0])
        if not believed or len(packet) < 8 or packet[0] >> 6 != 2 or not EVENTS[0] <= packet[1] <= EVENTS[1]:
            self.foreign += 1
            return False
        self.source = self.destination = source
        return True
