"""The real relay between a side with telephone-event and one without, and between two fax machines."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from b2bua.media.plane import MediaSession, Side
from b2bua.media.relay.link import RelaySettings
from b2bua.media.relay.plane import EmbeddedPlane, embedded_plane
from tests.support.rtp import Address, RtpEnd, audio_address

RELAY = "127.0.0.45"
SETTINGS = RelaySettings(RELAY, RELAY, first_port=30200, last_port=30399, spare=2)
EVENT = 101
WITH_EVENTS, WITHOUT = "8 101", "8"


def described(end: RtpEnd, codecs: str) -> bytes:
    events = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n" if "101" in codecs else ""
    return (f"v=0\r\no=- 1 1 IN IP4 {end.host}\r\ns=-\r\nc=IN IP4 {end.host}\r\nt=0 0\r\n"
            f"m=audio {end.port} RTP/AVP {codecs}\r\n{events}").encode()


def fax(end: RtpEnd) -> bytes:
    return (f"v=0\r\no=- 1 2 IN IP4 {end.host}\r\ns=-\r\nc=IN IP4 {end.host}\r\nt=0 0\r\n"
            f"m=image {end.port} udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxRateManagement:transferredTCF\r\n").encode()


def fax_address(sdp: bytes) -> Address:
    return audio_address(sdp.replace(b"m=image", b"m=audio"))


async def caught_up(plane: EmbeddedPlane) -> None:
    for _ in range(3):
        async with plane.open("another call"):
            pass


@asynccontextmanager
async def talking(
    caller: RtpEnd, callee: RtpEnd, callers: str, callees: str
) -> AsyncIterator[tuple[EmbeddedPlane, MediaSession, Address, Address]]:
    """A session, and where caller and callee send to."""
    async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:
        to_callee = media.offer(described(caller, callers), Side.CALLER)
        to_caller = media.answer(described(callee, callees), Side.CALLEE)
        await caught_up(plane)
        yield plane, media, audio_address(to_caller), audio_address(to_callee)


async def until_events_end(receiver: RtpEnd, count: int, sender: RtpEnd | None, to: Address) -> list[bytes]:
    """What the receiver gets until so many events have ended, while the sender, if any, talks."""
    packets: list[bytes] = []
    ends = 0
    while ends < 3 * count:
        if sender is not None:
            sender.send(to)
        packets.append(await receiver.receive())
        ends += packets[-1][1] & 0x7F == EVENT and packets[-1][13] >> 7
    return packets


def digits(packets: Sequence[bytes]) -> list[int]:
    """The events in order, each timestamp once."""
    seen = {packet[4:8]: packet[12] for packet in packets if packet[1] & 0x7F == EVENT}
    return list(seen.values())


def has_no_gap(packets: Sequence[bytes]) -> bool:
    numbers = [int.from_bytes(packet[2:4], "big") for packet in packets]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_digits_said_by_signalling_take_the_place_of_voice() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee:
        async with talking(caller, callee, WITHOUT, WITH_EVENTS) as (plane, media, for_caller, _):
            caller.send(for_caller)
            before = await callee.receive()
            assert media.dial("4", 0.1, Side.CALLER)
            assert media.dial("#", 0.1, Side.CALLER)
            await caught_up(plane)
            packets = await until_events_end(callee, 2, caller, for_caller)
            after = caller.send(for_caller)
            assert await callee.receive() == after
    assert digits(packets) == [4, 11]
    assert has_no_gap([before, *packets, after])


async def test_digits_said_by_signalling_are_sent_without_voice_too() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee:
        async with talking(caller, callee, WITHOUT, WITH_EVENTS) as (plane, media, for_caller, _):
            caller.send(for_caller)
            packets = [await callee.receive()]
            for digit in "19":
                assert media.dial(digit, 0.1, Side.CALLER)
            await caught_up(plane)
            packets += await until_events_end(callee, 2, None, for_caller)
            caller.send(for_caller)             # its numbers go on where they were: ours have shifted them
            packets.append(await callee.receive())
    assert digits(packets) == [1, 9]
    assert has_no_gap(packets)


async def test_digits_in_the_audio_are_told_once_and_not_passed() -> None:
    pressed: list[tuple[Side, str, float]] = []
    told = asyncio.Event()

    def on_digit(side: Side, digit: str, seconds: float) -> None:
        pressed.append((side, digit, seconds))
        if len(pressed) == 3:
            told.set()

    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee:
        async with talking(caller, callee, WITH_EVENTS, WITHOUT) as (_, media, for_caller, _for_callee):
            media.listen(on_digit)
            for number, event in enumerate((5, 5, 10)):
                for units, flags in ((160, 0), (320, 0), (800, 0x80), (800, 0x80), (800, 0x80)):
                    packet = struct.pack(">BBHIIBBH", 0x80, EVENT, number, number * 2000, 7, event, flags | 10, units)
                    caller.send(for_caller, packet)
            async with asyncio.timeout(5):
                await told.wait()
            voice = caller.send(for_caller)
            assert await callee.receive() == voice
            assert callee.waiting() == 0
    assert pressed == [(Side.CALLER, "5", 0.1), (Side.CALLER, "5", 0.1), (Side.CALLER, "*", 0.1)]


async def test_where_both_have_events_they_pass_as_they_are() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee:
        async with talking(caller, callee, WITH_EVENTS, WITH_EVENTS) as (_, media, for_caller, _for_callee):
            packet = struct.pack(">BBHIIBBH", 0x80, EVENT, 1, 2000, 7, 5, 10, 160)
            caller.send(for_caller, packet)
            assert await callee.receive() == packet
            assert not media.dial("1", 0.1, Side.CALLER)
            assert not media.dial("1", 0.1, Side.CALLEE)


async def test_a_re_invite_ends_the_translation() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee:
        async with talking(caller, callee, WITH_EVENTS, WITHOUT) as (plane, media, for_caller, _):
            media.offer(described(callee, WITH_EVENTS), Side.CALLEE)
            media.answer(described(caller, WITH_EVENTS), Side.CALLER)
            await caught_up(plane)
            packet = struct.pack(">BBHIIBBH", 0x80, EVENT, 1, 2000, 7, 5, 10, 160)
            caller.send(for_caller, packet)
            assert await callee.receive() == packet


IFP = bytes.fromhex("0000010000")               # UDPTL: sequence 0, one IFP packet, no recovery: no RTP by any reading


async def test_a_fax_passes_both_ways_and_the_audio_comes_back() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee:
        async with talking(caller, callee, WITH_EVENTS, WITH_EVENTS) as (plane, media, for_caller, for_callee):
            caller.send(for_caller)
            await callee.receive()
            assert fax_address(media.offer(fax(callee), Side.CALLEE)) == for_caller
            assert fax_address(media.answer(fax(caller), Side.CALLER)) == for_callee
            await caught_up(plane)
            for number in range(5):
                packet = number.to_bytes(2, "big") + IFP[2:]
                caller.send(for_caller, packet)
                assert await callee.receive() == packet
                callee.send(for_callee, packet)
                assert await caller.receive() == packet
            media.offer(described(callee, WITH_EVENTS), Side.CALLEE)
            media.answer(described(caller, WITH_EVENTS), Side.CALLER)
            await caught_up(plane)
            voice = caller.send(for_caller)
            assert await callee.receive() == voice
            caller.send(for_caller, IFP)        # no fax any more: dropped
            voice = caller.send(for_caller)
            assert await callee.receive() == voice
            report = await media.close()
    assert report.caller.packets == 3           # voice alone is counted
    assert report.caller.codec == "PCMA/8000"


@pytest.mark.parametrize("stranger", [True, False])
async def test_a_fax_from_another_port_of_the_known_host_is_believed_and_a_strangers_is_not(stranger: bool) -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee, \
            RtpEnd("127.0.0.48" if stranger else "127.0.0.46") as other:
        async with talking(caller, callee, WITH_EVENTS, WITH_EVENTS) as (plane, media, for_caller, _):
            caller.send(for_caller)
            await callee.receive()
            media.offer(fax(callee), Side.CALLEE)
            media.answer(fax(caller), Side.CALLER)
            await caught_up(plane)
            other.send(for_caller, IFP)
            if not stranger:
                assert await callee.receive() == IFP
            else:
                caller.send(for_caller, IFP + b"x")
                assert await callee.receive() == IFP + b"x"


async def test_a_refused_fax_leaves_the_audio_as_it_was() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee, RtpEnd("127.0.0.47") as machine:
        async with talking(caller, callee, WITH_EVENTS, WITH_EVENTS) as (plane, media, for_caller, for_callee):
            callee.send(for_callee)
            await caller.receive()
            media.offer(fax(machine), Side.CALLEE)              # from another port; and refused with 488
            await caught_up(plane)
            voice = caller.send(for_caller)
            assert await callee.receive() == voice
            voice = callee.send(for_callee)
            assert await caller.receive() == voice
            assert machine.waiting() == 0
