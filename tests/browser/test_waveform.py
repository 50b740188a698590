"""The waveform of a recording in a real browser: drawn above its player, sought in by mouse, finger and keyboard."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import lameenc
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from b2bua.config import WebSettings
from b2bua.metrics import WebCounters
from b2bua.recording.waveform import MOST_SLICES, Waveform
from tests.support.chromium import Tab, open_chromium
from tests.support.looks import LOOKS, good_on_every_screen
from web.guard import Guard
from web.pages import STATIC
from web.server import Website, bind_web, serve_web

SECONDS = 90
PAGE = """<!doctype html><html lang="ru"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A call</title><link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/style.css"><main>
<div class="player" data-waveform="{wave}" data-label="Запись: перемотка" data-caller="Кто звонил"
 data-callee="Кому звонили"><audio controls preload="none" src="/r/call.mp3"></audio></div></main>
<script type="module" src="/static/waveform.js"></script></html>"""
AUDIO, SLIDER = "document.querySelector('audio')", "document.querySelector('.waveform')"


def talk() -> Waveform:
    """They take turns, for 10 s each."""
    slices = range(MOST_SLICES)
    speech = [round(110 + 100 * math.sin(number / 3) * math.cos(number / 17)) for number in slices]
    turn = [number * SECONDS // MOST_SLICES // 10 % 2 for number in slices]
    return Waveform(SECONDS, SECONDS / MOST_SLICES, bytes(s * (1 - t) for s, t in zip(speech, turn, strict=True)),
                    bytes(s * t for s, t in zip(speech, turn, strict=True)))


def silent_mp3() -> bytes:
    encoder = lameenc.Encoder()
    encoder.set_channels(1)
    encoder.set_in_sample_rate(8000)
    encoder.set_bit_rate(16)
    encoder.silence()
    return bytes(encoder.encode(np.zeros(8000 * SECONDS, np.int16).tobytes()) + encoder.flush())


@pytest.fixture
def tab(tmp_path: Path) -> AbstractAsyncContextManager[Tab]:
    return _open(tmp_path, {"/wave": Response(talk().to_json(), media_type="application/json")})


@asynccontextmanager
async def _open(directory: Path, waves: Mapping[str, Response]) -> AsyncIterator[Tab]:
    (directory / "call.mp3").write_bytes(silent_mp3())

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE.format(wave=next(iter(waves))))

    async def wave(request: Request) -> Response:
        return waves[request.url.path]

    async def audio(request: Request) -> Response:
        return FileResponse(directory / "call.mp3", media_type="audio/mpeg")

    app = Starlette(
        routes=[Route("/", page), Route("/r/call.mp3", audio), *(Route(path, wave) for path in waves),
                Mount("/static", StaticFiles(directory=STATIC))],
        middleware=[Middleware(Guard, counters=WebCounters())])
    async with asyncio.TaskGroup() as tasks:
        sock = bind_web(WebSettings(port=0))
        serving = tasks.create_task(serve_web(Website(app), sock))
        async with open_chromium() as opened:
            await opened.look(width=1280)
            await opened.open(f"http://127.0.0.1:{sock.getsockname()[1]}/")
            yield opened
        serving.cancel()


async def place(tab: Tab) -> str:
    text = await tab.value(f"{SLIDER}.getAttribute('aria-valuetext')")
    assert isinstance(text, str)
    return text


async def at(tab: Tab, share: float) -> tuple[float, float]:
    left, top, width, height = await tab.value(
        f"(({{left, top, width, height}}) => [left, top, width, height])({SLIDER}.getBoundingClientRect())")
    return left + share * width, top + height / 2


async def test_both_sides_are_drawn_in_every_light_and_size(tab: Tab) -> None:
    await tab.until(SLIDER)
    assert await tab.value(f"[...{SLIDER}.querySelectorAll('span')].map((row) => row.textContent)") == [
        "Кто звонил", "Кому звонили"]
    assert await tab.value(f"{SLIDER}.nextElementSibling === {AUDIO}")
    await tab.value(f"{SLIDER}.focus()")
    await tab.page.keyboard.press("PageUp")
    await good_on_every_screen(tab, "waveform")
    for width, dark in LOOKS.values():
        await tab.look(width=width, dark=dark)
        assert await tab.value(f"{SLIDER}.getBoundingClientRect().height") >= 80
    played, ahead = [await tab.value(f"getComputedStyle({SLIDER}.querySelector('.{name}')).fill")
                     for name in ("played", "ahead")]
    assert played != ahead
    assert tab.complaints == []


async def test_it_says_what_it_is_and_obeys_the_keyboard(tab: Tab) -> None:
    await tab.until(SLIDER)
    said = await tab.value(f"Object.fromEntries([...{SLIDER}.attributes].map(({{name, value}}) => [name, value]))")
    assert (said["role"], said["tabindex"], said["aria-label"]) == ("slider", "0", "Запись: перемотка")
    assert (said["aria-valuemin"], said["aria-valuemax"], said["aria-valuenow"]) == ("0", "90", "0")
    assert said["aria-valuetext"] == "0:00 / 1:30"
    await tab.value(f"{SLIDER}.focus()")
    for key, there in (("ArrowRight", "0:05"), ("ArrowUp", "0:10"), ("ArrowLeft", "0:05"), ("PageUp", "0:35"),
                       ("PageUp", "1:05"), ("PageDown", "0:35"), ("Home", "0:00"), ("ArrowDown", "0:00")):
        await tab.page.keyboard.press(key)
        assert (await place(tab)).partition(" / ")[0] == there
    await tab.page.keyboard.press("End")
    assert await tab.value(f"{SLIDER}.getAttribute('aria-valuenow')") == "90"
    await tab.page.keyboard.press("Home")
    await tab.page.keyboard.press(" ")
    await tab.until(f"!{AUDIO}.paused && {AUDIO}.currentTime > 0.1")
    await tab.page.keyboard.press(" ")
    await tab.until(f"{AUDIO}.paused")


async def test_mouse_and_finger_seek_and_what_plays_is_followed(tab: Tab) -> None:
    await tab.until(SLIDER)
    mouse = tab.page.mouse
    await mouse.move(*await at(tab, 0.5))
    await mouse.down()
    await mouse.move(*await at(tab, 1 / 3))
    await mouse.up()
    await mouse.move(*await at(tab, 0.9))
    assert await tab.value(f"Math.abs({AUDIO}.currentTime - 30) < 1")
    await tab.value(f"{AUDIO}.play()")                                 # from there, though it had not been loaded
    await tab.until(f"{AUDIO}.currentTime > 31.2")
    await tab.until(f"{SLIDER}.getAttribute('aria-valuetext') >= '0:31'")
    await tab.value(f"{AUDIO}.pause()")
    await tab.page.touchscreen.tap(*await at(tab, 2 / 3))
    await tab.until(f"Math.abs({AUDIO}.currentTime - 60) < 1")
    assert tab.complaints == []


@pytest.mark.parametrize("answer", [
    Response(status_code=404), Response("nonsense", media_type="application/json"),
    Response(Waveform(0.0, 0.05, b"", b"").to_json(), media_type="application/json")])
async def test_without_a_waveform_the_plain_player_stays(tmp_path: Path, answer: Response) -> None:
    async with _open(tmp_path, {"/none": answer}) as tab:
        await tab.until("performance.getEntriesByName(new URL('/none', location).href).length")
        assert await tab.value(f"{AUDIO}.controls")
        assert not await tab.value(f"!!{SLIDER}")
