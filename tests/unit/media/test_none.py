"""Without a media plane descriptions pass untouched, and media is never lost."""

from __future__ import annotations

import pytest

from b2bua.media.none import PassThroughPlane
from b2bua.media.plane import MediaReport, SdpRefused, Side


async def test_descriptions_pass_untouched_and_nothing_is_lost() -> None:
    async with PassThroughPlane().open("call") as media:
        assert media.offer(b"anything", Side.CALLER) == b"anything"
        assert media.answer(b"else", Side.CALLEE) == b"else"
        media.record("abcdefghijklmnop")
        media.music_on_hold("music")
        media.left(Side.CALLEE)
        assert not media.lost.done()
        assert await media.close() == await media.close() == MediaReport()


async def test_nothing_can_be_played_and_it_says_so() -> None:
    async with PassThroughPlane().open("call") as media:
        media.offer(b"anything", Side.CALLER)
        assert media.cannot_play("busy", Side.CALLER) == "media is not anchored here"
        assert await media.play("busy", Side.CALLER) == "media is not anchored here"
        media.stop(Side.CALLER)
        for describe in (media.own_offer, media.own_answer):
            with pytest.raises(SdpRefused):
                describe(Side.CALLER)
