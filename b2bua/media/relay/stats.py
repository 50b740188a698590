"""How one direction's RTP arrives: counts, losses by sequence number, jitter (RFC 3550 §A.1, §A.3, §A.8)."""

from __future__ import annotations

MAX_DROPOUT = 3000                      # RFC 3550 §A.1: a gap up to this is loss
MAX_MISORDER = 100                      # and a step back up to this is a late packet; beyond: the source began anew
_RESTARTED = 0x10000 - MAX_MISORDER


class Reception:
    """Counts one direction. Lives on the packet path: plain attributes, no allocation per packet."""

    __slots__ = ("_base", "_clock", "_highest", "_jitter", "_lost_before", "_received", "_ssrc", "_timestamp",
                 "_transit", "octets", "packets")  # fmt: skip

    def __init__(self) -> None:
        self.packets = 0
        self.octets = 0                 # payload alone, without RTP's header (RFC 3550 §6.4.1)
        self._ssrc = -1
        self._base = 0                  # of the run that is being counted: first and highest extended number
        self._highest = 0
        self._received = 0
        self._lost_before = 0           # in the runs before
        self._clock = 8000
        self._timestamp = -1
        self._transit = 0.0
        self._jitter = 0.0

    def clocked_at(self, clock: int) -> None:
        """Timestamp units per second; a change begins the jitter anew."""
        if clock != self._clock:
            self._clock = clock
            self._timestamp = -1

    def count(self, sequence: int, timestamp: int, ssrc: int, octets: int, now: float) -> None:
        self.packets += 1
        self.octets += octets
        if ssrc != self._ssrc:
            self._begin(sequence, ssrc)
        step = (sequence - self._highest) & 0xFFFF
        if step < MAX_DROPOUT:
            self._highest += step
            self._received += 1
        elif step >= _RESTARTED:        # late: it was counted as lost until now
            self._received += 1
        else:
            self._begin(sequence, ssrc)
            self._received = 1
        # The events of RFC 4733 repeat one timestamp, and say nothing about jitter.
        if timestamp != self._timestamp:
            transit = now * self._clock - timestamp
            delta = abs(transit - self._transit)
            if self._timestamp >= 0 and delta < self._clock:
                self._jitter += (delta - self._jitter) * 0.0625
            self._transit = transit
            self._timestamp = timestamp

    @property
    def lost(self) -> int:
        """Never below zero: duplicates outweigh losses at most (RFC 3550 §A.3)."""
        return self._lost_before + self._lost_of_run()

    @property
    def jitter_ms(self) -> float:
        return self._jitter * 1000 / self._clock

    def _lost_of_run(self) -> int:
        return max(0, self._highest - self._base + 1 - self._received) if self.packets else 0

    def _begin(self, sequence: int, ssrc: int) -> None:
        if self._ssrc >= 0:
            self._lost_before += self._lost_of_run()
        self._ssrc = ssrc
        self._base = self._highest = sequence
        self._received = 0
        self._timestamp = -1
