"""The relay's process: one epoll loop that passes RTP and RTCP between two sides (RFC 3550, RFC 4961)."""

from __future__ import annotations

import select
import socket
from collections import deque
from struct import Struct
from time import monotonic
from typing import assert_never

from b2bua.media.raw import record_head
from b2bua.media.relay import wire
from b2bua.media.relay.latch import MIN_RTP
from b2bua.media.relay.player import Players
from b2bua.media.relay.ports import NoPortsLeft, PortPair, PortPool
from b2bua.media.relay.session import Port, Session
from b2bua.media.relay.tapes import TapeDone, TapeFailed, Tapes

TICK = 0.05                             # how often batches of recordings go out
SECOND = 1.0                            # how often silence and floods are looked for
MAX_DATAGRAM = 4096                     # no RTP of ours is longer; one byte more tells that it was cut
MAX_PACKETS_PER_SECOND = 1000           # from all who send to one port; G.711 at 5 ms is 200
MAX_TOLD = 64                           # sessions, of whose audio is told in a tick: a line of 4 kB, some 0.3 ms
MAX_STALE = 1000                        # read and thrown away when a port is heard again after a flood

_rtp_numbers = Struct(">HII").unpack_from           # sequence number, timestamp, SSRC: at offset 2


class Relay:
    """Sessions, their ports, and what the switch says about them."""

    def __init__(self, control: socket.socket, pool: PortPool, recordings: Tapes, players: Players, poll: select.epoll,
                 *, rtp_timeout: float, hold_timeout: float) -> None:
        self._control = control
        self._pool = pool
        self._tapes = recordings
        self._players = players
        self._poll = poll
        self._rtp_timeout = rtp_timeout
        self._hold_timeout = hold_timeout
        self._ports: dict[int, Port] = {}           # by file descriptor: those that are listened to
        self._sessions: dict[int, Session] = {}
        self._translated: dict[int, Session] = {}   # those of which one side says digits as the other one does not
        self._closing: dict[int, Session] = {}      # ports are free; the recording is not complete on the disk yet
        self._looked_for: deque[int] = deque()      # sessions of whose audio the switch wants to hear
        self._unsent: deque[bytes] = deque()        # events that the switch has not made room for
        self._running = True
        poll.register(control.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Until the switch closes its end of the control socket."""
        self._tell(wire.Ready(self._pool.free // 2))
        self._send_events()
        ticked_at = second_at = monotonic()
        while self._running:
            self._pass_packets(self._players.until(ticked_at + TICK, monotonic()))
            now = monotonic()
            for played in self._players.play(now):
                self._tell(played)
            if now - ticked_at >= TICK:
                self._tapes.tick(now, now - ticked_at)
                self._pass_digits(now)
                self._tell_of_audio()
                self._hear_of_failures()
                ticked_at = now
            if now - second_at >= SECOND:
                self._every_second(now)
                second_at = now
            self._send_events()
        self._tapes.close()

    def _pass_packets(self, until: float) -> None:
        """The inner loop: the one place here where speed outranks beauty; about 10 µs a packet, mostly the kernel's.

        Bought: one datagram of a ready socket per round (a second look that ends in EAGAIN costs more than epoll
        telling again, and no flood can hold up the others); no call of ours per packet but `count`; one buffer for
        all. It touches only Port, the latch's source and destination, Reception.count and Tape.buffer, so that a loop
        that takes many datagrams per system call can take its place.
        """
        poll, ports, clock = self._poll.poll, self._ports, monotonic
        buffer = bytearray(MAX_DATAGRAM + 1)
        view = memoryview(buffer)
        now = clock()
        while now < until and self._running:
            for fd, _ in poll(until - now):
                port = ports.get(fd)
                if port is None:
                    self._attend(fd)
                    continue
                try:
                    size, source = port.receive(buffer)
                except OSError:         # taken already, or closed within this round
                    continue
                latch = port.latch
                now = clock()
                if source != latch.source and not latch.admit(source, view[:size], now):
                    continue
                peer = port.peer
                destination = peer.latch.destination
                reception = port.reception
                if reception is not None:
                    if size < MIN_RTP or size > MAX_DATAGRAM or buffer[0] & 0xC0 != 0x80:
                        port.dropped += 1
                        continue
                    sequence, timestamp, ssrc = _rtp_numbers(buffer, 2)
                    reception.count(sequence, timestamp, ssrc, size - MIN_RTP, now)
                    payload_type = buffer[1] & 0x7F
                    if payload_type != port.payload_type:
                        port.sounds(payload_type)
                    tape = port.tape
                    if tape is not None:
                        tape.buffer += record_head(port.kind, size, int((now - tape.started) * 1e6))
                        tape.buffer += view[:size]
                latch.heard_at = now
                if destination is None:
                    port.dropped += 1
                    continue
                try:
                    peer.send(view[:size], destination)
                except OSError:         # no route, a full buffer: like a loss on the way
                    port.dropped += 1
            now = clock()

    def _attend(self, fd: int) -> None:
        """Something else than a packet: a command, or the recordings' writer."""
        if fd == self._control.fileno():
            self._take_commands()
        else:
            for outcome in self._tapes.receive(monotonic()):
                self._recording_ended(outcome)
        self._send_events()

    def _take_commands(self) -> None:
        """One packet of them between two rounds of RTP, so that a burst of calls delays no audio."""
        try:
            packet = self._control.recv(wire.MAX_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._running = False
            return
        for command in wire.commands(packet):
            self._obey(command)

    def _obey(self, command: wire.Command) -> None:
        if isinstance(command, wire.Open):
            self._open(command.session)
            return
        if isinstance(command, wire.Look):
            if not self._looked_for:
                self._looked_for.extend(self._sessions)
            return
        if isinstance(command, wire.Sound):
            self._players.learn(command)
            return
        session = self._sessions.get(command.session)
        if session is None:             # closed by us for want of ports, while the command was on its way
            return
        match command:
            case wire.Remote(_, side):
                session.describe(side, command, monotonic())
                if session.tones is not None:
                    self._translated[session.number] = session
                else:
                    self._translated.pop(session.number, None)
            case wire.SendDigit(_, side, digit, milliseconds):
                if session.tones is not None and session.tones.how.side == side:
                    session.tones.dial(digit, milliseconds)
            case wire.Record(_, recording):
                if session.tape is None:
                    session.record(self._tapes.start(session.number, recording, session.codecs, monotonic()))
                    self._hear_of_failures()
                    session.recorded = session.tape is not None
            case wire.Watch():
                session.watched_since = monotonic()
            case wire.Play():
                self._players.start(session, command)
            case wire.Tune():
                self._players.tune(command)
            case wire.Stop(_, side):
                self._players.stop(session, side)
            case wire.Close():
                self._close(session)
            case _:
                assert_never(command)

    def _open(self, number: int) -> None:
        pairs: list[PortPair] = []
        try:
            pairs = [self._pool.take()]
            pairs.append(self._pool.take())
        except NoPortsLeft as error:
            for pair in pairs:
                self._pool.give_back(pair)
            self._tell(wire.NoPorts(number, str(error)))
            return
        session = self._sessions[number] = Session(number, (pairs[0], pairs[1]))
        for port in (*session.rtp, *session.rtcp):      # what comes before anybody is described is dropped, not kept
            self._listen(port)
        self._tell(wire.Opened(number, pairs[0].port, pairs[1].port))

    def _listen(self, port: Port) -> None:
        self._ports[port.fd] = port
        self._poll.register(port.fd, select.EPOLLIN)

    def _listen_again(self, port: Port) -> None:
        """After a flood, without what it left behind."""
        scrap = bytearray(MAX_DATAGRAM)
        for _ in range(MAX_STALE):
            try:
                port.receive(scrap)
            except OSError:
                break
            port.dropped += 1
        port.reads_before = port.reads
        self._listen(port)

    def _ignore(self, port: Port) -> None:
        if self._ports.pop(port.fd, None) is not None:
            self._poll.unregister(port.fd)

    def _close(self, session: Session) -> None:
        del self._sessions[session.number]
        self._players.leave(session)
        self._translated.pop(session.number, None)
        for port in (*session.rtp, *session.rtcp):
            self._ignore(port)
        for pair in session.pairs:
            self._pool.give_back(pair)
        if session.tape is not None and self._tapes.end(session.tape):
            self._closing[session.number] = session
        else:
            self._tell(session.report())
            session.free()

    def _hear_of_failures(self) -> None:
        for failure in self._tapes.failures():
            self._recording_ended(failure)

    def _recording_ended(self, outcome: TapeDone | TapeFailed) -> None:
        number = outcome.tape.session
        session = self._sessions.get(number)
        if session is not None:
            session.record(None)
        if isinstance(outcome, TapeFailed):
            self._tell(wire.RecordingStopped(number, outcome.tape.recording, outcome.why))
        closing = self._closing.pop(number, None)
        if closing is not None:
            self._tell(closing.report())
            closing.free()

    def _pass_digits(self, now: float) -> None:
        for session in self._translated.values():
            assert session.tones is not None
            for digit in session.tones.tick(now):
                side = session.tones.how.side
                self._tell(wire.Pressed(session.number, side, digit.digit, round(digit.seconds * 1000)))

    def _tell_of_audio(self) -> None:
        rows: list[wire.Arrival] = []
        while self._looked_for and len(rows) < MAX_TOLD:
            session = self._sessions.get(self._looked_for.popleft())
            if session is not None and (arrival := session.arrival()) is not None:
                rows.append(arrival)
        if rows:
            self._tell(wire.Arrivals(rows))

    def _every_second(self, now: float) -> None:
        for session in self._sessions.values():
            if session.watched_since is not None:
                patience = self._hold_timeout if session.on_hold else self._rtp_timeout
                if now - max(session.heard_at(), session.watched_since) > patience:
                    session.watched_since = None
                    self._tell(wire.Silent(session.number))
            for port in (*session.rtp, *session.rtcp):
                self._hold_back_floods(port)

    def _hold_back_floods(self, port: Port) -> None:
        """A port that gets far more than a talk can be is not read for a second: it must not cost the other calls."""
        reads = port.reads
        if port.muted:
            port.muted = False
            self._listen_again(port)
        elif reads - port.reads_before > MAX_PACKETS_PER_SECOND:
            port.muted = True
            self._ignore(port)
        else:
            port.reads_before = reads

    def _tell(self, event: wire.Event) -> None:
        """Goes out with all that this round has to tell."""
        self._unsent.append(wire.encode(event))

    def _send_events(self) -> None:
        while self._unsent:
            try:
                self._control.send(wire.pack(self._unsent))
            except OSError:             # full: the switch is busy, the next tick tries again; gone: recv() will tell
                return
            wire.taken(self._unsent)


