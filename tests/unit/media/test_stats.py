"""Counting what arrives: losses across wraps and restarts, jitter (RFC 3550 §A.3, §A.8)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.media.relay.stats import Reception


def receive(sequences: list[int], ssrc: int = 1, into: Reception | None = None) -> Reception:
    reception = into or Reception()
    for number in sequences:
        reception.count(number & 0xFFFF, (number * 160) & 0xFFFFFFFF, ssrc, 160, number * 0.02)
    return reception


def test_nothing_came() -> None:
    reception = Reception()
    assert (reception.packets, reception.octets, reception.lost, reception.jitter_ms) == (0, 0, 0, 0.0)


@pytest.mark.parametrize(("sequences", "lost"), [
    ([1, 2, 3], 0),
    ([1, 2, 5], 2),
    ([1, 3, 2, 4], 0),
    ([1, 4, 2, 3, 5], 0),
    ([1, 1, 1, 2], 0),
    ([65534, 65535, 65536, 65537], 0),
    ([65534, 65537], 2),
    ([65535, 65537, 65536], 0),
    ([*range(200_000)], 0),
    ([*range(0, 200_000, 2)], 99_999),
    ([10, 11, 20_000, 20_001], 0),              # the sender began anew: no loss of 19,988
    ([1, 3, 20_000, 20_002], 2),
])
def test_losses(sequences: list[int], lost: int) -> None:
    reception = receive(sequences)
    assert reception.lost == lost
    assert reception.packets == len(sequences)


def test_another_ssrc_begins_a_new_count_and_keeps_the_losses() -> None:
    reception = receive([1, 4], ssrc=1)
    receive([60_000, 60_002], ssrc=2, into=reception)
    assert reception.lost == 3


def test_octets_are_those_of_the_payload() -> None:
    assert receive([1, 2, 3]).octets == 480


def test_packets_on_time_have_no_jitter() -> None:
    assert receive([*range(500)]).jitter_ms == pytest.approx(0, abs=1e-6)


def test_packets_early_and_late_by_turns_tend_to_their_distance() -> None:
    reception = Reception()
    for number in range(500):
        reception.count(number, number * 160, 1, 160, number * 0.02 + 0.005 * (number % 2))
    assert reception.jitter_ms == pytest.approx(5, rel=0.01)


def test_jitter_is_in_milliseconds_whatever_the_clock() -> None:
    reception = Reception()
    reception.clocked_at(48000)
    for number in range(500):
        reception.count(number, number * 960, 1, 160, number * 0.02 + 0.005 * (number % 2))
    assert reception.jitter_ms == pytest.approx(5, rel=0.01)


def test_digits_that_repeat_a_timestamp_are_no_jitter() -> None:
    reception = Reception()
    for number in range(50):
        reception.count(number, 160 * (number if number < 20 or number > 30 else 20), 1, 160, number * 0.02)
    assert reception.jitter_ms < 15         # one step of 200 ms in all, of which a sixteenth counts


@given(st.permutations(range(60)), st.integers(0, 65535))
@settings(max_examples=100)
def test_order_does_not_make_losses(order: list[int], first: int) -> None:
    sequences = [first, *(first + 1 + number for number in order)]
    assert receive(sequences).lost == 0


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 3)), max_size=60))
@settings(max_examples=100)
def test_nothing_that_comes_makes_losses_negative(packets: list[tuple[int, int, int]]) -> None:
    reception = Reception()
    for number, (sequence, timestamp, ssrc) in enumerate(packets):
        reception.count(sequence, timestamp, ssrc, 160, number * 0.02)
        assert reception.lost >= 0
    assert reception.packets == len(packets)
