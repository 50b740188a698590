"""Whose packets are believed: each rule of b2bua/media/relay/latch.py, and what a stranger can do about it."""

from __future__ import annotations

import struct

import pytest

from b2bua.media.relay.latch import AFTERMATH, SILENCE, ControlLatch, Latch, Source

PHONE, BEHIND_NAT, STRANGER = ("192.0.2.1", 4000), ("203.0.113.1", 61000), ("198.51.100.66", 5555)
OTHER_BRANCH = ("192.0.2.2", 4000)


def rtp(sequence: int = 1, payload_type: int = 8, ssrc: int = 7, version: int = 2) -> memoryview:
    return memoryview(struct.pack(">BBHII", version << 6, payload_type, sequence & 0xFFFF, 0, ssrc) + bytes(160))


def latch(announced: Source | None = PHONE) -> Latch:
    made = Latch()
    made.payload_types = frozenset({8, 101})
    made.describe(announced, now=0.0)
    return made


def stream(made: Latch, source: Source, count: int, now: float = 1.0, ssrc: int = 7) -> list[bool]:
    return [made.source == source or made.admit(source, rtp(number, ssrc=ssrc), now) for number in range(count)]


def test_nothing_is_believed_before_the_side_described_itself() -> None:
    undescribed = Latch()
    undescribed.payload_types = frozenset({8})
    assert stream(undescribed, PHONE, 3) == [False] * 3
    assert undescribed.destination is None


def test_the_announced_address_gets_packets_before_it_has_sent_any() -> None:
    assert latch().destination == PHONE


def test_the_announced_address_is_believed_with_its_first_packet_of_any_payload_type() -> None:
    made = latch()
    assert made.admit(PHONE, rtp(payload_type=0), now=1.0)
    assert made.source == PHONE


def test_a_phone_behind_nat_is_learned_after_probation() -> None:
    made = latch()
    assert stream(made, BEHIND_NAT, 4) == [False, True, True, True]
    assert made.destination == BEHIND_NAT
    assert made.foreign == 0


@pytest.mark.parametrize("packets", [
    [rtp(1, version=1), rtp(2, version=1)],
    [rtp(1, payload_type=18), rtp(2, payload_type=18)],
    [rtp(1), rtp(3)],
    [rtp(1), rtp(1)],
    [rtp(1, ssrc=1), rtp(2, ssrc=2)],
    [memoryview(b"\x80\x08\x00\x01"), memoryview(b"\x80\x08\x00\x02")],
    [memoryview(b""), memoryview(b"")],
])
def test_what_is_not_plausible_is_not_learned(packets: list[memoryview]) -> None:
    made = latch()
    assert [made.admit(STRANGER, packet, 1.0) for packet in packets] == [False, False]
    assert made.foreign == 2
    assert made.destination == PHONE


def test_a_sequence_number_that_wraps_is_in_sequence() -> None:
    made = latch()
    assert [made.admit(BEHIND_NAT, rtp(number), 1.0) for number in (65535, 65536)] == [False, True]


def test_a_stranger_cannot_take_a_stream_that_flows() -> None:
    made = latch()
    made.admit(PHONE, rtp(), now=1.0)
    made.heard_at = 10.0
    assert stream(made, STRANGER, 500, now=10.0 + SILENCE - 0.1) == [False] * 500
    assert made.foreign == 500
    assert made.destination == PHONE


def test_a_stranger_who_was_first_loses_to_the_announced_address() -> None:
    made = latch()
    stream(made, STRANGER, 5)
    assert made.source == STRANGER
    assert made.admit(PHONE, rtp(), now=1.0)
    assert stream(made, STRANGER, 5) == [False] * 5


def test_two_strangers_in_turn_do_not_pass_probation() -> None:
    made = latch()
    for number in range(10):
        assert not made.admit((STRANGER, BEHIND_NAT)[number % 2], rtp(number), 1.0)


def test_after_silence_another_source_passes_through_probation() -> None:
    made = latch()
    made.admit(PHONE, rtp(), now=1.0)
    assert stream(made, BEHIND_NAT, 3, now=1.0 + SILENCE) == [False, True, True]


def test_a_repeated_description_changes_nothing() -> None:
    made = latch()
    stream(made, BEHIND_NAT, 2)
    made.describe(PHONE, now=2.0)
    assert made.source == BEHIND_NAT


def test_old_style_hold_leaves_the_stream_to_whom_it_belongs() -> None:
    made = latch()
    made.admit(PHONE, rtp(), now=1.0)
    made.describe(None, now=2.0)
    assert (made.source, made.destination) == (PHONE, PHONE)


def test_a_new_address_forgets_what_was_learned() -> None:
    made = latch()
    made.admit(PHONE, rtp(), now=1.0)
    made.describe(OTHER_BRANCH, now=2.0)
    assert (made.source, made.destination) == (None, OTHER_BRANCH)


def test_the_branch_that_lost_the_call_cannot_keep_the_stream() -> None:
    made = latch()
    made.admit(PHONE, rtp(), now=1.0)
    made.describe(OTHER_BRANCH, now=2.0)
    assert stream(made, PHONE, 10, now=2.0 + AFTERMATH - 0.1) == [False] * 10
    assert stream(made, BEHIND_NAT, 2, now=2.1) == [False, True]


def test_nor_is_it_barred_for_ever() -> None:
    made = latch()
    stream(made, BEHIND_NAT, 2)
    made.describe(OTHER_BRANCH, now=2.0)        # the same phone behind the same NAT, with a new port of its own
    assert stream(made, BEHIND_NAT, 2, now=2.0 + AFTERMATH) == [False, True]


def test_an_address_that_cannot_be_sent_to_waits_for_the_first_packets() -> None:
    made = latch(None)
    assert made.destination is None
    stream(made, BEHIND_NAT, 2)
    assert made.destination == BEHIND_NAT


def rtcp(kind: int = 200) -> memoryview:
    return memoryview(struct.pack(">BBHI", 0x80, kind, 1, 7))


def control() -> tuple[Latch, ControlLatch]:
    rtp_latch = latch()
    made = ControlLatch(rtp_latch)
    made.describe(("192.0.2.1", 4001))
    return rtp_latch, made


def test_rtcp_is_believed_from_the_announced_address() -> None:
    _, made = control()
    assert made.destination == ("192.0.2.1", 4001)
    assert made.admit(("192.0.2.1", 4001), rtcp(), 1.0)


def test_rtcp_is_believed_from_where_rtp_was_learned() -> None:
    rtp_latch, made = control()
    assert not made.admit(("203.0.113.1", 61001), rtcp(), 1.0)
    stream(rtp_latch, BEHIND_NAT, 2)
    assert made.admit(("203.0.113.1", 61001), rtcp(), 1.0)
    assert made.destination == ("203.0.113.1", 61001)


@pytest.mark.parametrize("packet", [rtcp(199), rtcp(214), memoryview(b"\x80\xc8\x00"), memoryview(bytes(8))])
def test_what_is_no_rtcp_is_foreign(packet: memoryview) -> None:
    _, made = control()
    assert not made.admit(("192.0.2.1", 4001), packet, 1.0)
    assert made.foreign == 1


def test_rtcp_of_a_stranger_is_foreign() -> None:
    _, made = control()
    assert not made.admit(STRANGER, rtcp(), 1.0)
    assert made.foreign == 1


# -- a fax

UDPTL = memoryview(bytes.fromhex("0000010000"))
BEHIND_NAT_TOO = (BEHIND_NAT[0], 61002)


def faxing(*, heard: Source | None = BEHIND_NAT, announced: Source = PHONE) -> Latch:
    """A side that was heard talking, and now faxes from where it says, or from the same host behind a NAT."""
    made = latch()
    if heard is not None:
        assert any(stream(made, heard, 3))
    made.describe(announced, now=2.0)
    made.fax = True
    return made


@pytest.mark.parametrize(("source", "believed"), [
    (PHONE, True), (BEHIND_NAT_TOO, True), (STRANGER, False),
])
def test_a_fax_is_believed_from_the_announced_address_and_the_host_that_talked(source: Source, believed: bool) -> None:
    made = faxing()
    assert made.admit(source, UDPTL, 3.0) is believed
    assert (made.destination == source) is believed
    assert made.foreign == (not believed)


def test_the_last_of_the_audio_does_not_take_the_fax_along() -> None:
    made = faxing(announced=("192.0.2.1", 4002))
    assert not made.admit(BEHIND_NAT_TOO, rtp(), 3.0)
    assert made.admit(("192.0.2.1", 4002), UDPTL, 3.1)
    assert made.destination == ("192.0.2.1", 4002)


@pytest.mark.parametrize("source", [BEHIND_NAT_TOO, STRANGER])
def test_a_fax_of_a_side_that_was_never_heard_comes_from_the_announced_address_only(source: Source) -> None:
    made = faxing(heard=None)
    assert not made.admit(source, UDPTL, 3.0)
    assert made.admit(PHONE, UDPTL, 3.0)
