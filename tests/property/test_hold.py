"""However two sides hold and resume: answers fit their offers, and music is heard by just who waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.media.plane import SdpRefused, Side
from b2bua.media.relay import wire
from b2bua.media.relay.anchored import AnchoredSession, OpenPorts
from b2bua.media.relay.link import RelaySettings
from b2bua.media.sounds import BUILT_IN
from tests.support.phone import direction_of

SETTINGS = RelaySettings("10.0.0.1", "10.0.0.1")
FITS = {
    "sendrecv": {"sendrecv", "sendonly", "recvonly", "inactive"}, "sendonly": {"recvonly", "inactive"},
    "recvonly": {"sendonly", "inactive"}, "inactive": {"inactive"},
}   # RFC 3264 §6.1
RECEIVES = {"sendrecv", "recvonly"}
CODECS = ("8", "0", "8 0", "18 8", "18")
INDEX = {Side.CALLER: 0, Side.CALLEE: 1}


@dataclass(frozen=True)
class Exchange:
    """One side offers, the other answers, refuses, or is not there any more."""

    by: Side
    offer: str
    by_address: bool                       # hold as RFC 2543 spelt it
    outcome: str                           # "answers", "refuses", "has left"
    answer: int                            # which of those that fit
    codecs: str


EXCHANGES = st.builds(
    Exchange, st.sampled_from(Side), st.sampled_from(sorted(FITS)), st.booleans(),
    st.sampled_from(("answers", "answers", "answers", "refuses", "has left")), st.integers(0, 3),
    st.sampled_from(CODECS),
)   # fmt: skip


def sdp(side: Side, direction: str, codecs: str = "8 0 18", *, by_address: bool = False) -> bytes:
    host = "0.0.0.0" if by_address else f"10.0.9.{INDEX[side]}"  # noqa: S104
    return (f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=audio 4000 RTP/AVP {codecs}\r\na={direction}\r\n").encode()


def playing(told: list[wire.Command]) -> dict[int, tuple[wire.Play, bool, int]]:
    """By side: what is played, whether the side listens, and as which payload type."""
    now: dict[int, tuple[wire.Play, bool, int]] = {}
    for one in told:
        match one:
            case wire.Play(side=side):
                now[side] = one, True, one.payload_type
            case wire.Tune(side=side):
                assert side in now
                now[side] = now[side][0], one.listens, one.payload_type
            case wire.Stop(side=side):
                del now[side]
    return now


@given(st.lists(EXCHANGES, max_size=12), st.sampled_from(["music", ""]))
@settings(deadline=None, max_examples=300)
def test_music_is_heard_by_who_waits_and_wants_to_hear(exchanges: list[Exchange], music: str) -> None:
    asyncio.run(_run(exchanges, music))


async def _run(exchanges: list[Exchange], music: str) -> None:
    told: list[wire.Command] = []
    session = AnchoredSession("call", OpenPorts(1, (20000, 20002)), SETTINGS, 7, told.append, BUILT_IN)
    session.offer(sdp(Side.CALLER, "sendrecv"), Side.CALLER)
    session.answer(sdp(Side.CALLEE, "sendrecv"), Side.CALLEE)
    session.music_on_hold(music)
    receives = dict.fromkeys(Side, True)
    codecs = "8 0 18"
    left: set[Side] = set()
    for one in exchanges:
        if one.outcome == "has left":
            session.left(one.by)
            left.add(one.by)
        else:
            other = one.by.other
            seen = direction_of(session.offer(
                sdp(one.by, one.offer, one.codecs, by_address=one.by_address), one.by))
            answers = sorted(FITS[seen])
            answer = answers[one.answer % len(answers)]
            if one.outcome == "answers":
                told_back = session.answer(sdp(other, answer, one.codecs), other)
                # An offer with 0.0.0.0 says one thing and means another: there the answer is as it always was.
                assert one.by_address or direction_of(told_back) in FITS[one.offer]
                receives[one.by] = one.offer in RECEIVES and not one.by_address
                receives[other] = answer in RECEIVES
                codecs = one.codecs
                left.clear()
        expected = set()
        for side in Side:
            holds = not receives[side.other] or side.other in left
            if music and holds and receives[side] and side not in left:
                expected.add(INDEX[side])
        now = playing(told)
        heard = {side for side, (_, listens, _) in now.items() if listens}
        assert heard == (expected if codecs != "18" else set())
        assert len(now) <= 1
        for play, listens, payload_type in now.values():
            assert play.sound == "music"
            assert play.repeat
            assert not listens or str(payload_type) in codecs.split()
    session.relay_is_gone()


async def test_a_session_that_knows_nobody_plays_to_nobody() -> None:
    told: list[wire.Command] = []
    session = AnchoredSession("call", OpenPorts(1, (20000, 20002)), SETTINGS, 7, told.append, BUILT_IN)
    assert await session.play("busy", Side.CALLER) == "nothing is agreed upon yet"
    session.stop(Side.CALLER)
    session.left(Side.CALLEE)
    assert told == []
    with pytest.raises(SdpRefused):
        session.own_answer(Side.CALLER)


async def test_what_cannot_be_played_stops_what_was() -> None:
    """Else the relay would keep the two apart for a sound that nobody here knows of any more."""
    told: list[wire.Command] = []
    session = AnchoredSession("call", OpenPorts(1, (20000, 20002)), SETTINGS, 7, told.append, BUILT_IN)
    session.offer(sdp(Side.CALLER, "sendrecv"), Side.CALLER)
    session.answer(sdp(Side.CALLEE, "sendrecv"), Side.CALLEE)
    session.music_on_hold("music")
    for direction, codecs in (("inactive", "8"), ("sendonly", "18"), ("sendrecv", "8")):
        offered = direction_of(session.offer(sdp(Side.CALLER, direction, codecs), Side.CALLER))
        session.answer(sdp(Side.CALLEE, {"sendonly": "recvonly"}.get(offered, offered), codecs), Side.CALLEE)
    assert playing(told) == {}
    session.relay_is_gone()
