"""Debian's Chromium without a window, driven over the pipe of its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-dev-shm-usage", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required", "--hide-scrollbars", "--lang=en-GB",
)
LARGEST_MESSAGE = 64_000_000           # bytes; screenshots come in one

Json = dict[str, Any]


@dataclass(slots=True)
class Tab:
    """One page. What it logs as an error or a warning (a refused script, a missing file) is kept in `complaints`."""

    _writer: asyncio.StreamWriter
    _session: str
    _answers: dict[int, asyncio.Future[Json]] = field(default_factory=dict)
    _loaded: dict[str, asyncio.Event] = field(default_factory=dict)        # by the protocol's name of the navigation
    complaints: list[str] = field(default_factory=list)

    async def open(self, url: str) -> None:
        loader = (await self.command("Page.navigate", url=url))["loaderId"]
        await self._loaded.setdefault(loader, asyncio.Event()).wait()

    async def value(self, expression: str) -> Any:
        """Of JavaScript; a promise is waited for."""
        answer = await self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Asked again while the page does what we cannot watch; the test's patience ends it."""
        while True:
            try:
                if await self.value(f"!!({condition})"):
                    return
            except AssertionError as error:        # between two pages there is nobody to ask
                if "context" not in str(error):
                    raise
            await asyncio.sleep(0.02)

    async def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        await self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                           mobile=width < 500)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.command("Emulation.setEmulatedMedia", features=scheme)

    async def photograph(self, file: Path) -> None:
        """The whole page, however long, once it is laid out and drawn."""
        await self.until("document.readyState === 'complete' && document.documentElement.scrollWidth > 0")
        await self.value("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(() => drawn())))")
        shot = await self.command("Page.captureScreenshot", captureBeyondViewport=True)
        await asyncio.to_thread(file.write_bytes, base64.b64decode(shot["data"]))

    async def command(self, method: str, **parameters: Any) -> Json:
        number = len(self._answers) + 1
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        send(self._writer, {"id": number, "sessionId": self._session, "method": method, "params": parameters})
        return await answer

    def take(self, message: Json) -> None:
        if "id" in message:
            answer = self._answers[message["id"]]
            if "error" in message:
                answer.set_exception(AssertionError(message["error"]["message"]))
            else:
                answer.set_result(message["result"])
        elif message["method"] == "Page.lifecycleEvent" and message["params"]["name"] == "load":
            self._loaded.setdefault(message["params"]["loaderId"], asyncio.Event()).set()
        elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] in ("error", "warning"):
            entry = message["params"]["entry"]
            self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
        elif message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))


def send(writer: asyncio.StreamWriter, message: Json) -> None:
    writer.write(json.dumps(message).encode() + b"\0")


@asynccontextmanager
async def open_chromium(profile: Path) -> AsyncIterator[Tab]:
    to_browser, from_browser = os.pipe(), os.pipe()
    # The protocol's pipe is to be descriptors 3 and 4, which only a shell says easily.
    browser = await asyncio.create_subprocess_exec(
        "bash", "-c", f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}', "bash", "chromium", *QUIET,
        f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        pass_fds=(to_browser[0], from_browser[1]), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    os.close(to_browser[0])
    os.close(from_browser[1])
    reader, close_reader = await _reading(from_browser[0])
    writer = await _writing(to_browser[1])
    try:
        async with asyncio.TaskGroup() as tasks:
            tab = await _first_tab(reader, writer)
            listening = tasks.create_task(_listen(reader, tab))
            for domain in ("Page", "Runtime", "Log"):
                await tab.command(f"{domain}.enable")
            await tab.command("Page.setLifecycleEventsEnabled", enabled=True)
            try:
                yield tab
            finally:
                send(writer, {"id": 0, "method": "Browser.close"})
                await listening
    finally:
        await browser.wait()
        close_reader()
        writer.close()


async def _first_tab(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Tab:
    send(writer, {"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}})
    target = (await _answer(reader, 1))["targetId"]
    send(writer, {"id": 2, "method": "Target.attachToTarget", "params": {"targetId": target, "flatten": True}})
    return Tab(writer, (await _answer(reader, 2))["sessionId"])


async def _answer(reader: asyncio.StreamReader, number: int) -> Json:
    while True:
        message: Json = json.loads((await reader.readuntil(b"\0"))[:-1])
        if message.get("id") == number:
            result: Json = message["result"]
            return result


async def _listen(reader: asyncio.StreamReader, tab: Tab) -> None:
    """Until the browser has gone."""
    while True:
        try:
            message = json.loads((await reader.readuntil(b"\0"))[:-1])
        except asyncio.IncompleteReadError:
            return
        if message.get("id") != 0 and "sessionId" in message:
            tab.take(message)


async def _reading(descriptor: int) -> tuple[asyncio.StreamReader, Callable[[], None]]:
    reader = asyncio.StreamReader(limit=LARGEST_MESSAGE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb"))
    return reader, transport.close


async def _writing(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(descriptor, "wb"))
    return asyncio.StreamWriter(transport, protocol, None, loop)
