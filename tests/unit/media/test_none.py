"""Without a media plane descriptions pass untouched, and media is never lost."""

from __future__ import annotations

from b2bua.media.none import PassThroughPlane
from b2bua.media.plane import MediaReport, Side


async def test_descriptions_pass_untouched_and_nothing_is_lost() -> None:
    async with PassThroughPlane().open("call") as media:
        assert media.offer(b"anything", Side.CALLER) == b"anything"
        assert media.answer(b"else", Side.CALLEE) == b"else"
        media.record("abcdefghijklmnop")
        assert not media.lost.done()
        assert await media.close() == await media.close() == MediaReport()
