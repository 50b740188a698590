"""Digits in RTP: pressed once, told once, in their order, whatever the network does to the packets."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from b2bua.media.relay.events import (
    BACK_IN_TIME,
    DIGITS,
    ENDS,
    GONE,
    MAX_A_SECOND,
    MAX_OPEN,
    MAX_WAITING,
    PAUSE,
    Digit,
    EventReader,
    EventWriter,
)

CLOCK, FRAME, EVENT, VOICE = 8000, 160, 101, 8


def voice(number: int, ssrc: int = 7, timestamp: int = 0) -> memoryview:
    stamp = (timestamp + number * FRAME) & 0xFFFFFFFF
    return memoryview(struct.pack(">BBHII", 0x80, VOICE, number & 0xFFFF, stamp, ssrc) + b"\x55" * FRAME)


def event(number: int, timestamp: int, code: int, units: int, *, end: bool = False, ssrc: int = 7) -> bytes:
    head = struct.pack(">BBHII", 0x80, EVENT, number & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    return head + struct.pack(">BBH", code, 0x80 * end | 10, units)


def pressed(codes: list[int], first: int, frames: int) -> list[list[bytes]]:
    """The packets of each of the digits, pressed for so many frames, and as many without."""
    out = []
    for index, code in enumerate(codes):
        at = first + index * 2 * frames * FRAME
        packets = [event(index * 100 + frame, at, code, frame * FRAME) for frame in range(1, frames)]
        out.append(packets + [event(index * 100 + frames + again, at, code, frames * FRAME, end=True)
                              for again in range(ENDS)])
    return out


def heard(arrivals: list[tuple[float, bytes]]) -> str:
    reader, out = EventReader(CLOCK), ""
    for at, packet in sorted(arrivals, key=lambda arrival: arrival[0]):
        out += "".join(digit.digit for digit in reader.due(at))
        reader.read(memoryview(packet), at)
    return out + "".join(digit.digit for digit in reader.due(1e6))


codes_of_digits = st.lists(st.integers(0, 15), min_size=1, max_size=12)
first_timestamps = st.one_of(st.just(0), st.just(2**32 - 3000), st.integers(0, 2**32 - 1))


@given(codes_of_digits, first_timestamps, st.data())
def test_each_digit_is_told_once_and_in_order_whatever_is_lost_doubled_or_overtaken(
    codes: list[int], first: int, data: st.DataObject
) -> None:
    frames = data.draw(st.integers(5, 12))
    arrivals = []
    for index, packets in enumerate(pressed(codes, first, frames)):
        fates = data.draw(st.lists(st.lists(st.floats(0.0, 0.055), max_size=2), min_size=len(packets),
                                   max_size=len(packets)))
        if not any(fates):
            fates[data.draw(st.integers(0, len(fates) - 1))] = [0.0]     # something of it must arrive
        for frame, (packet, delays) in enumerate(zip(packets, fates, strict=True)):
            sent_at = (index * 2 * frames + frame) * 0.02
            arrivals += [(sent_at + delay, packet) for delay in delays]
    assert heard(arrivals) == "".join(DIGITS[code] for code in codes)


@given(st.lists(st.tuples(st.binary(max_size=40), st.floats(0, 2)), max_size=80))
def test_nothing_that_comes_breaks_the_reader_or_makes_it_grow(packets: list[tuple[bytes, float]]) -> None:
    reader = EventReader(CLOCK)
    now = 0.0
    for packet, pause in packets:
        now += pause
        if len(packet) >= 12:
            reader.read(memoryview(packet), now)
        assert len(reader._open) <= MAX_OPEN


def test_a_flood_of_digits_is_cut() -> None:
    reader = EventReader(CLOCK)
    for number in range(1000):
        reader.read(memoryview(event(number, number * FRAME, 5, FRAME, end=True)), number / 1000)
    assert len(reader.due(1.0)) <= 2 * MAX_A_SECOND
    assert reader.surplus >= 1000 - 2 * MAX_A_SECOND


def test_a_digit_that_is_held_for_longer_than_16_bits_can_say_is_one() -> None:
    reader = EventReader(CLOCK)
    reader.read(memoryview(event(1, 0, 5, 0xFFFF)), 8.0)
    reader.read(memoryview(event(2, 0xFFFF, 5, 160)), 8.2)
    reader.read(memoryview(event(3, 0xFFFF, 5, 320, end=True)), 8.3)
    assert [digit.digit for digit in reader.due(20.0)] == ["5"]


def test_a_clock_that_begins_anew_is_followed() -> None:
    reader = EventReader(CLOCK)
    reader.read(memoryview(event(1, 1_000_000, 5, 800, end=True)), 1.0)
    restarted = 1_000_000 - int(BACK_IN_TIME * CLOCK) - 1
    reader.read(memoryview(event(2, restarted, 6, 800, end=True)), 2.0)
    reader.read(memoryview(event(3, restarted + 2000, 7, 800, end=True)), 3.0)
    assert "".join(digit.digit for digit in reader.due(3.0)) == "567"


@given(st.lists(st.sampled_from(DIGITS), min_size=1, max_size=8), st.floats(0.0, 1.0),
       st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=12), first_timestamps)
def test_what_the_writer_sends_a_reader_reads_with_voice_and_without(
    digits: list[str], seconds: float, spells: list[tuple[bool, int]], first: int
) -> None:
    """`spells`: of voice and of silence, in frames. The sequence has no gap and nothing twice."""
    writer, reader = EventWriter(EVENT, CLOCK, 99, 0), EventReader(CLOCK)
    for digit in digits:
        assert writer.dial(Digit(digit, seconds))
    sent: list[bytes] = []
    frame, number, read = 0, 0, ""
    for talks, frames in [*spells, (True, 1), (False, 500)]:
        for _ in range(frames):
            now, before = frame * 0.02, len(sent)
            if talks:
                packet = bytearray(voice(frame, timestamp=first))
                packet[2:4] = (number & 0xFFFF).to_bytes(2, "big")       # silence costs no numbers
                number += 1
                sent.append(bytes(writer.pass_(memoryview(packet), now)))
            sent += writer.by_clock(now)
            for packet_ in sent[before:]:
                if packet_[1] & 0x7F == EVENT:
                    reader.read(memoryview(packet_), now)
            read += "".join(each.digit for each in reader.due(now))
            frame += 1
    assert not writer.busy
    assert read == "".join(digits)
    by_source: dict[int, list[int]] = {}
    for packet_ in sent:
        by_source.setdefault(int.from_bytes(packet_[8:12], "big"), []).append(int.from_bytes(packet_[2:4], "big"))
    for numbers in by_source.values():
        assert all((later - earlier) & 0xFFFF == 1 for earlier, later in pairwise(numbers))


@given(st.lists(st.tuples(st.sampled_from("vdc"), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.integers(0, 1),
                          st.floats(0, 8)), max_size=60))
def test_whatever_the_voice_does_the_writer_goes_on(steps: list[tuple[str, int, int, int, float]]) -> None:
    """Digits among it come to their end by the clock, when no voice comes any more."""
    writer, now = EventWriter(EVENT, CLOCK, 99, 0), 0.0
    for what, sequence, timestamp, ssrc, pause in steps:
        now += pause
        if what == "v":
            packet = struct.pack(">BBHII", 0x80, VOICE, sequence, timestamp, ssrc) + b"\x55" * FRAME
            sent = writer.pass_(memoryview(packet), now)
            assert sent[0] == 0x80
            assert sent[8:12] == packet[8:12]
        elif what == "d":
            writer.dial(Digit("1", pause))
        else:
            assert len(list(writer.by_clock(now))) <= ENDS
    for _ in range(MAX_WAITING * 300):
        now += 0.02
        list(writer.by_clock(now))
        if not writer.busy:
            break
    assert not writer.busy


def test_a_digit_takes_the_place_of_voice() -> None:
    writer = EventWriter(EVENT, CLOCK, 99, 0)
    assert bytes(writer.pass_(voice(1), 0.02)) == voice(1)
    writer.dial(Digit("7", 0.1))
    packets = [bytes(writer.pass_(voice(number), number * 0.02)) for number in range(2, 20)]
    events = [packet for packet in packets if packet[1] & 0x7F == EVENT]
    assert packets[: len(events)] == events
    assert packets[len(events) :] == [bytes(voice(number)) for number in range(2 + len(events), 20)]
    assert [packet[1] >> 7 for packet in events] == [1, 0, 0, 0, 0, 0, 0]
    assert {packet[4:12] for packet in events} == {bytes(voice(2)[4:12])}
    assert [struct.unpack(">BBH", packet[12:]) for packet in events] == [
        (7, 10, 160), (7, 10, 320), (7, 10, 480), (7, 10, 640), (7, 138, 800), (7, 138, 800), (7, 138, 800)]


def test_between_two_digits_there_is_a_pause() -> None:
    writer = EventWriter(EVENT, CLOCK, 99, 0)
    writer.dial(Digit("1", 0.1))
    writer.dial(Digit("1", 0.1))
    packets = [bytes(writer.pass_(voice(number), number * 0.02)) for number in range(60)]
    begins = [int.from_bytes(packet[4:8], "big") for packet in packets if packet[1] == 0x80 | EVENT]
    assert len(begins) == 2
    assert begins[1] - begins[0] >= (0.1 + PAUSE) * CLOCK


def test_too_many_digits_are_refused() -> None:
    writer = EventWriter(EVENT, CLOCK, 99, 0)
    assert [writer.dial(Digit("1", 0.1)) for _ in range(MAX_WAITING + 1)] == [True] * MAX_WAITING + [False]
    assert not EventWriter(EVENT, CLOCK, 99, 0).dial(Digit("x", 0.1))


def test_an_event_whose_end_was_lost_is_told_after_a_while() -> None:
    reader = EventReader(CLOCK)
    reader.read(memoryview(event(1, 100, 5, 160)), 1.0)
    assert reader.due(1.0 + GONE / 2) == []
    assert [digit.digit for digit in reader.due(1.01 + GONE)] == ["5"]
