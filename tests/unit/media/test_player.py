"""What the relay plays by itself: its packets, their times, and who hears what meanwhile; no clock and no socket."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.media.relay import wire
from b2bua.media.relay.player import FRAME, INTERVAL, MAX_BURST, MIN_ROUND, QUIET, Players
from b2bua.media.relay.ports import PortPair
from b2bua.media.relay.session import NOBODY, Session

REMOTES = ("192.0.2.1", 4000), ("192.0.2.2", 5000)
BEEP = wire.Sound("beep", FRAME, 3 * FRAME)            # three frames, behind one that is none of it
WORDS = bytes(FRAME) + b"".join(bytes([number]) * FRAME for number in (1, 2, 3, 11, 12, 13))


@dataclass
class Wire:
    """A socket that keeps what is sent."""

    number: int
    sent: list[tuple[bytes, tuple[str, int]]] = field(default_factory=list)
    broken: bool = False

    def fileno(self) -> int:
        return self.number

    def recvfrom_into(self, buffer: bytearray) -> tuple[int, Any]:
        raise BlockingIOError

    def sendto(self, packet: memoryview, destination: tuple[str, int]) -> int:
        if self.broken:
            raise OSError
        self.sent.append((bytes(packet), destination))
        return len(packet)

    @property
    def heard(self) -> list[tuple[int, int, int, int, int, int]]:
        """Of each packet: marker, payload type, sequence number, time stamp, SSRC, first code word."""
        packets = []
        for packet, _ in self.sent:
            first, kind, sequence, timestamp, ssrc = struct.unpack_from(">BBHII", packet)
            assert first == 0x80
            assert len(packet) == 12 + FRAME
            assert packet[12:] == packet[12:13] * FRAME
            packets.append((kind >> 7, kind & 0x7F, sequence, timestamp, ssrc, packet[12]))
        return packets


class Call:
    """A session of which both sides are known, and a player beside it."""

    def __init__(self, number: int = 1, players: Players | None = None) -> None:
        self.wires = Wire(10), Wire(11)
        pairs = [PortPair(0, cast(Any, wire_), cast(Any, Wire(20))) for wire_ in self.wires]
        self.session = Session(number, (pairs[0], pairs[1]))
        for side, (host, port) in enumerate(REMOTES):
            self.session.describe(side, wire.Remote(number, side, host, port, "", 0, {"8": "PCMA/8000"}, False), 0.0)
        self.players = players or Players(WORDS)
        self.players.learn(BEEP)

    def play(self, side: int = 0, *, number: int = 1, repeat: bool = False, yields: bool = False, mu_law: bool = False,
             payload_type: int = 8) -> None:
        self.players.start(self.session, wire.Play(
            self.session.number, side, number, "beep", repeat, yields, payload_type, mu_law))

    def run(self, begin: float, seconds: float) -> list[wire.Played]:
        """Look as the relay's loop does: when something is due, or at its tick."""
        now, played = begin, []
        while now < begin + seconds:
            played += self.players.play(now)
            now = self.players.until(now + 0.05, now)
        return played


def steps(numbers: list[int], bits: int) -> set[int]:
    return {(after - before) % (1 << bits) for before, after in pairwise(numbers)}


def test_a_sound_is_one_stream_of_its_own_and_its_end_is_told() -> None:
    call = Call()
    call.play(number=7)
    assert call.run(100.0, 1.0) == [wire.Played(1, 0, 7)]
    heard = call.wires[0].heard
    assert [packet[:2] + packet[5:] for packet in heard] == [(1, 8, 1), (0, 8, 2), (0, 8, 3)]
    assert steps([packet[2] for packet in heard], 16) == {1}
    assert steps([packet[3] for packet in heard], 32) == {FRAME}
    assert len({packet[4] for packet in heard}) == 1
    assert {destination for _, destination in call.wires[0].sent} == {REMOTES[0]}
    assert call.wires[1].sent == []


def test_the_other_law_is_taken_from_behind_and_begins_where_the_sound_does() -> None:
    call = Call()
    call.play(side=1, mu_law=True, payload_type=0)
    call.run(0.0, 1.0)
    assert [packet[1:2] + packet[5:] for packet in call.wires[1].heard] == [(0, 11), (0, 12), (0, 13)]


def test_numbers_and_sources_begin_by_chance() -> None:
    begun = set()
    for _ in range(20):
        call = Call()
        call.play()
        call.run(0.0, 0.01)
        begun.add(call.wires[0].heard[0][2:5])
    assert len(begun) == 20


@given(st.lists(st.floats(0.0005, 0.15), min_size=5, max_size=60))
def test_however_irregularly_the_loop_looks_no_frame_is_lost_doubled_or_early(looks: list[float]) -> None:
    call = Call()
    call.play(repeat=True)
    begin = now = 50.0
    call.players.play(now)
    for pause in looks:
        now += pause
        call.players.play(now)
        heard = call.wires[0].heard
        due = int((now - begin) / INTERVAL + 1e-9) + 1
        assert due - 1 <= len(heard) <= due + 1         # rounding of the deadlines' sum
    assert [packet[5] for packet in heard] == [1 + index % 3 for index in range(len(heard))]
    assert steps([packet[3] for packet in heard], 32) <= {FRAME}
    assert sum(packet[0] for packet in heard) == 1


def test_a_relay_that_was_held_up_does_not_send_all_that_it_missed() -> None:
    call = Call()
    call.play(repeat=True)
    call.players.play(0.0)
    call.players.play(10.0)
    heard = call.wires[0].heard
    assert len(heard) <= 3
    assert (heard[1][3] - heard[0][3]) % (1 << 32) == pytest.approx(10 * 8000, abs=2 * FRAME)
    assert steps([packet[2] for packet in heard], 16) == {1}


def test_what_yields_is_heard_only_while_the_other_side_is_silent() -> None:
    call = Call()
    call.play(repeat=True, yields=True)
    holder = call.session.rtp[1]
    assert holder.peer is call.session.rtp[0]           # its own packets pass
    holder.latch.heard_at = 10.0
    call.run(10.0, QUIET - 0.01)
    assert call.wires[0].sent == []
    call.run(10.0 + QUIET - 0.01, 0.21)
    before = len(call.wires[0].heard)
    assert before == pytest.approx(10, abs=1)
    holder.latch.heard_at = 11.2
    call.run(11.2, QUIET - 0.01)
    assert len(call.wires[0].heard) <= before + 1
    call.run(11.2 + QUIET - 0.01, 0.21)
    heard = call.wires[0].heard
    assert [packet[0] for packet in heard].count(1) == 2                    # and it begins anew
    assert steps([packet[2] for packet in heard], 16) == {1}
    assert len({packet[4] for packet in heard}) == 1


def test_what_does_not_yield_parts_the_two_until_it_ends() -> None:
    call = Call()
    caller, callee = call.session.rtp
    call.play()
    assert caller.peer is NOBODY
    assert callee.peer is NOBODY
    assert NOBODY.latch.destination is None
    call.run(0.0, 1.0)
    assert caller.peer is callee
    assert callee.peer is caller


@pytest.mark.parametrize("first", [0, 1])
def test_two_sounds_to_two_sides_part_them_until_both_have_ended(first: int) -> None:
    call = Call()
    call.play(0, repeat=True)
    call.play(1, repeat=True)
    call.players.stop(call.session, first)
    assert call.session.rtp[0].peer is NOBODY
    call.players.stop(call.session, 1 - first)
    assert call.session.rtp[0].peer is call.session.rtp[1]


def test_another_sound_takes_the_place_of_what_is_played() -> None:
    call = Call()
    call.play(number=1, repeat=True)
    call.players.play(0.0)
    call.play(number=2)
    assert call.run(0.01, 1.0) == [wire.Played(1, 0, 2)]
    heard = call.wires[0].heard
    assert [packet[5] for packet in heard] == [1, 1, 2, 3]
    assert [packet[0] for packet in heard] == [1, 1, 0, 0]
    assert_one_stream(heard)


def assert_one_stream(heard: list[tuple[int, int, int, int, int, int]]) -> None:
    assert len({packet[4] for packet in heard}) == 1
    assert steps([packet[2] for packet in heard], 16) <= {1}
    assert all(step >= FRAME for step in steps([packet[3] for packet in heard], 32))


@given(st.lists(st.tuples(st.floats(0.0005, 3.0), st.booleans()), min_size=1, max_size=8))
def test_all_that_one_side_hears_in_a_call_is_one_stream_whose_clock_is_the_world_s(
    sounds: list[tuple[float, bool]]
) -> None:
    call = Call()
    now = 7.0
    said_at: list[float] = []
    for seconds, stopped in sounds:
        call.play()
        end = now + seconds
        while now < end:
            before = len(call.wires[0].sent)
            call.players.play(now)
            said_at += [now] * (len(call.wires[0].sent) - before)
            now = min(call.players.until(now + 0.05, now), end)
        if stopped:
            call.players.stop(call.session, 0)
    heard = call.wires[0].heard
    assert_one_stream(heard)
    for (at, packet), (later, following) in pairwise(zip(said_at, heard, strict=True)):
        samples = (following[3] - packet[3]) % (1 << 32)
        assert samples == pytest.approx((later - at) * 8000, abs=0.002 * 8000)


def test_who_does_not_listen_gets_nothing_and_time_goes_on() -> None:
    call = Call()
    call.play(repeat=True)
    call.players.play(0.0)
    call.players.tune(wire.Tune(1, 0, 8, False, False))
    call.run(0.01, 0.07)                                # two or three frames that are not sent
    call.players.tune(wire.Tune(1, 0, 0, True, True))
    call.run(0.08, 0.05)
    heard = call.wires[0].heard
    assert len(heard) > 1
    assert (heard[1][0], heard[1][1]) == (1, 0)
    assert heard[1][5] > 10
    assert (heard[1][2] - heard[0][2]) % (1 << 16) == 1
    gap = (heard[1][3] - heard[0][3]) % (1 << 32)
    assert gap in (4 * FRAME, 5 * FRAME)
    assert heard[1][5] - 11 == gap // FRAME % 3


def test_a_network_that_takes_nothing_ends_no_sound_early_and_breaks_nothing() -> None:
    call = Call()
    call.wires[0].broken = True
    call.play()
    assert call.run(0.0, 1.0) == [wire.Played(1, 0, 1)]


def test_to_a_side_of_no_known_address_nothing_is_sent() -> None:
    call = Call()
    call.session.describe(0, wire.Remote(1, 0, "", 0, "", 0, {"8": "PCMA/8000"}, False), 0.0)
    call.play()
    assert call.run(0.0, 1.0) == [wire.Played(1, 0, 1)]
    assert call.wires[0].sent == []


def test_an_unknown_sound_is_not_played_and_unknown_sessions_are_not_tuned() -> None:
    call = Call()
    call.players.start(call.session, wire.Play(1, 0, 1, "nothing", False, False, 8, False))
    call.players.tune(wire.Tune(5, 0, 8, False, True))
    call.players.stop(call.session, 1)
    assert call.run(0.0, 0.5) == []
    assert call.session.rtp[0].peer is call.session.rtp[1]


def test_relayed_packets_get_their_turn_however_much_is_due() -> None:
    players = Players(WORDS)
    calls = [Call(number, players) for number in range(3 * MAX_BURST)]
    for call in calls:
        call.play(repeat=True)
    players.play(0.0)
    assert sum(len(call.wires[0].sent) for call in calls) == MAX_BURST
    assert players.until(0.05, 0.001) == 0.001 + MIN_ROUND
    for look in range(1, 3):
        players.play(0.001 * look)
    assert {len(call.wires[0].sent) for call in calls} == {1}
    assert players.until(0.05, 0.003) == pytest.approx(INTERVAL)
    for call in calls:
        players.leave(call.session)
    assert players.play(1.0) == []


def test_without_anything_to_play_the_loop_is_as_it_was() -> None:
    assert Players(WORDS).until(12.5, 12.4999) == 12.5


@given(st.lists(st.tuples(st.sampled_from(["play", "stop", "leave", "look"]), st.integers(0, 1), st.booleans(),
                          st.booleans()), max_size=40))  # fmt: skip
def test_whatever_is_asked_the_two_are_parted_just_while_something_parts_them(
    asked: list[tuple[str, int, bool, bool]]
) -> None:
    call = Call()
    playing: dict[int, bool] = {}                       # by side: whether it yields
    now = 0.0
    for what, side, repeat, yields in asked:
        match what:
            case "play":
                call.play(side, number=side, repeat=repeat, yields=yields)
                playing[side] = yields
            case "stop":
                call.players.stop(call.session, side)
                playing.pop(side, None)
            case "leave":
                call.players.leave(call.session)
                playing.clear()
            case _:
                now += 0.03
                for played in call.players.play(now):
                    del playing[played.side]
        apart = any(not yields for yields in playing.values())
        caller, callee = call.session.rtp
        assert (caller.peer, callee.peer) == ((NOBODY, NOBODY) if apart else (callee, caller))
    call.players.leave(call.session)
    call.players.play(now + 1)
    assert call.players.until(now + 2, now) == now + 2  # nothing is left behind
