"""What the relay itself says to one side of a session: a stream of its own, a frame every 20 ms (RFC 3550 §5.1).

All that is played to a side in a call is one stream, however many sounds: phones are known that hear nothing more when
a stream gives way to another one within its first 100 ms (baresip 1.0). Each stream keeps its own deadlines, from its
first packet on, so that none drifts and no two of them fall together by rule. All is done between two rounds of relayed
packets, and no more than MAX_BURST packets at a time.
"""

from __future__ import annotations

import heapq
import random
from itertools import count
from math import inf
from struct import Struct
from typing import Protocol

from b2bua.media.relay import wire
from b2bua.media.relay.session import Session

FRAME = 160                             # samples, and bytes of G.711
RATE = 8000                             # samples a second
INTERVAL = 0.02                         # seconds; whatever ptime they prefer, all must take it (RFC 3551 §4.2)
MAX_BURST = 32                          # packets in one go: a third of a millisecond that relayed packets wait, at most
MIN_ROUND = 0.001                       # seconds for relayed packets between two goes, even when we are late
MAX_LATE = 0.2                          # seconds; a relay that was held up for longer does not send it all at once
QUIET = 1.0                             # seconds without RTP of the other side until what yields to it is heard

_header = Struct(">BBHII").pack


class Words(Protocol):
    """Code words; a slice of them is a payload."""

    def __getitem__(self, part: slice) -> bytes: ...


class Stream:
    """What one side hears of us in a call: where its next packet stands (RFC 3550 §5.1)."""

    __slots__ = ("due", "sequence", "ssrc", "timestamp")

    def __init__(self) -> None:
        self.ssrc = random.getrandbits(32)              # to be told apart, not secret (RFC 3550 §8.1)
        self.sequence = random.getrandbits(16)
        self.timestamp = random.getrandbits(32)         # of the frame that is due
        self.due = -inf                                 # nothing has been said yet

    def resume(self, now: float) -> None:
        """A sound begins: with the frame that is due, or after the silence since then."""
        if self.due == -inf:
            self.due = now
        elif now > self.due:
            self.pass_time(round((now - self.due) * RATE))
            self.due = now

    def pass_time(self, samples: int) -> None:
        self.timestamp = (self.timestamp + samples) & 0xFFFFFFFF


class Player:
    """One sound on its way to one side."""

    __slots__ = ("_at", "_begin", "_mark", "_mu_law", "_payload_type", "_play", "_rtp", "_samples", "_words", "listens",
                 "over", "session", "stream")  # fmt: skip

    def __init__(self, session: Session, play: wire.Play, sound: wire.Sound, words: Words, stream: Stream) -> None:
        self.session = session
        self.stream = stream
        self.over = False
        self.listens = True
        self._rtp = session.rtp[play.side], session.rtp[1 - play.side]
        self._play = play
        self._words = words
        self._begin, self._samples = sound.offset, sound.samples
        self._at = 0
        self._payload_type, self._mu_law = play.payload_type, play.mu_law
        self._mark = True               # the first packet, and the first after a pause (RFC 3551 §4.1)

    @property
    def parts(self) -> bool:
        """Whether the two sides do not hear each other meanwhile."""
        return not self._play.yields

    def tune(self, payload_type: int, mu_law: bool, listens: bool) -> None:
        self._payload_type, self._mu_law, self.listens = payload_type, mu_law, listens

    def step(self, now: float) -> wire.Played | None:
        """The frame that is due. Time goes on while nobody listens."""
        stream = self.stream
        late = now - stream.due
        if late > MAX_LATE:             # the sound stops meanwhile, its clock does not
            missed = int(late / INTERVAL)
            stream.due += missed * INTERVAL
            stream.pass_time(missed * FRAME)
        if self._is_heard(now):
            self._send()
        else:
            self._mark = True
        stream.pass_time(FRAME)
        stream.due += INTERVAL
        self._at += FRAME
        if self._at < self._samples:
            return None
        self._at = 0
        self.over = not self._play.repeat
        return wire.Played(self._play.session, self._play.side, self._play.number) if self.over else None

    def _is_heard(self, now: float) -> bool:
        here, there = self._rtp
        if not self.listens or here.latch.destination is None:
            return False
        return self.parts or now - there.latch.heard_at >= QUIET

    def _send(self) -> None:
        here, _ = self._rtp
        stream = self.stream
        begin = self._begin + self._at + (self._samples if self._mu_law else 0)
        kind = self._payload_type | (0x80 if self._mark else 0)
        header = _header(0x80, kind, stream.sequence, stream.timestamp, stream.ssrc)
        packet = header + self._words[begin : begin + FRAME]
        self._mark = False
        stream.sequence = (stream.sequence + 1) & 0xFFFF
        destination = here.latch.destination
        assert destination is not None
        try:
            here.send(memoryview(packet), destination)
        except OSError:                 # no route, a full buffer: like a loss on the way
            return


class Players:
    """All that is played now, at most one sound to each side."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._sounds: dict[str, wire.Sound] = {}
        self._players: dict[tuple[int, int], Player] = {}           # by session and side
        self._streams: dict[tuple[int, int], Stream] = {}           # likewise, until the session ends
        self._due: list[tuple[float, int, Player]] = []             # a heap; those that were stopped fall out when due
        self._new: list[Player] = []                                # their time begins at the next look
        self._turn = count()

    def learn(self, sound: wire.Sound) -> None:
        self._sounds[sound.name] = sound

    def start(self, session: Session, play: wire.Play) -> None:
        sound = self._sounds.get(play.sound)
        if sound is None:
            return                      # the switch plays only what it has told of before
        self.stop(session, play.side)
        side = play.session, play.side
        stream = self._streams.setdefault(side, Stream())
        player = self._players[side] = Player(session, play, sound, self._words, stream)
        self._new.append(player)
        self._part(session)

    def tune(self, tune: wire.Tune) -> None:
        player = self._players.get((tune.session, tune.side))
        if player is not None:
            player.tune(tune.payload_type, tune.mu_law, tune.listens)

    def stop(self, session: Session, side: int) -> None:
        player = self._players.pop((session.number, side), None)
        if player is not None:
            player.over = True
            self._part(session)

    def leave(self, session: Session) -> None:
        for side in (0, 1):
            self.stop(session, side)
            self._streams.pop((session.number, side), None)

    def until(self, tick: float, now: float) -> float:
        """How long packets may be relayed until something is due here, or it is the tick."""
        due = self._due[0][0] if self._due else inf
        return tick if due >= tick else max(due, now + MIN_ROUND)

    def play(self, now: float) -> list[wire.Played]:
        """Send what is due; what has come to its end."""
        for player in self._new:
            if not player.over:
                player.stream.resume(now)
                self._put(player)
        self._new.clear()
        ended = []
        for _ in range(MAX_BURST):
            if not self._due or self._due[0][0] > now:
                break
            _, _, player = heapq.heappop(self._due)
            if player.over:
                continue
            played = player.step(now)
            if played is None:
                self._put(player)
            else:
                ended.append(played)
                self.stop(player.session, played.side)
        return ended

    def _put(self, player: Player) -> None:
        heapq.heappush(self._due, (player.stream.due, next(self._turn), player))

    def _part(self, session: Session) -> None:
        both = [self._players.get((session.number, side)) for side in (0, 1)]
        session.part(any(player is not None and player.parts for player in both))
