"""Log lines, JSON or for human eyes; written by a thread of their own, so that a slow terminal never delays a call."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from b2bua.config import LogSettings

QUEUE_LIMIT = 10_000                   # lines that wait for the writer; more are dropped, and counted
LONGEST_FIELD = 8_000
AT_ONCE = 500                          # lines in one write

_SECRET_FIELD = re.compile(r"password|passwd|secret|token|authorization|cookie|ha1|api_?key|credential", re.IGNORECASE)
_SECRET_HEADER = re.compile(
    r"(?im)^((?:(?:proxy-)?authorization|(?:set-)?cookie)[ \t]*:)[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*")
_SECRET_WORD = re.compile(r"(?i)(\bbearer\s+|[?&](?:token|key|code|password)=)[^\s&\"']+")
MASKED = "***"

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_QUIET = ("aiosqlite", "asyncio", "httpx", "httpcore", "uvicorn", "alembic", "hpack")     # theirs from WARNING on


class LogWriter:
    """Takes events from any thread, and writes them in the order in which they came."""

    def __init__(self, stream: TextIO, processors: list[Processor]) -> None:
        self._stream = stream
        self._processors = processors
        self._queue: SimpleQueue[EventDict | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._closed = False
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Everything that was logged is written when this returns."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def put(self, event: EventDict) -> None:
        if self._closed:               # structlog's loggers remember their writer: the last words come late, not never
            self._write(self._line(event))
        elif self._queue.qsize() < QUEUE_LIMIT:
            self._queue.put(event)
        else:
            self.dropped += 1

    def _run(self) -> None:
        told = 0
        while (event := self._queue.get()) is not None:
            lines = [self._line(event)]
            ended = False
            while len(lines) < AT_ONCE and not ended:
                try:
                    following = self._queue.get_nowait()
                except Empty:
                    break
                ended = following is None
                if following is not None:
                    lines.append(self._line(following))
            if self.dropped > told:
                told = self.dropped
                lines.append(self._line({"event": "log lines dropped", "level": "warning", "dropped": told}))
            self._write("".join(lines))
            if ended:
                return

    def _line(self, event: EventDict) -> str:
        """A line that cannot be made is told about, and does not end the log."""
        name = str(event.get("event", ""))
        try:
            for processor in self._processors:
                event = cast(EventDict, processor(None, name, event))
        except Exception as error:  # noqa: BLE001 - somebody's __repr__; the boundary of one line
            return json.dumps({"event": "unloggable line", "of": name[:100], "error": type(error).__name__}) + "\n"
        return f"{event}\n"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone; there is nobody left to tell
            self.dropped += text.count("\n")


class _QueueLogger:
    """What structlog's bound loggers end in: the event as it is; the thread makes the text."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def msg(self, **event: Any) -> None:
        self._writer.put(event)

    debug = info = warning = warn = error = critical = exception = fatal = log = failure = msg


class _FromStandardLogging(logging.Handler):
    """Lines of libraries go the same way as ours."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer
        self._plain = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def emit(self, record: logging.LogRecord) -> None:
        event: EventDict = {name: value for name, value in vars(record).items() if name not in self._plain}
        event.update(event=record.getMessage(), logger=record.name, level=record.levelname.lower(),
                     timestamp=record.created)
        if record.exc_info and record.exc_info[0] is not None:
            event["exc_info"] = record.exc_info
        structlog.contextvars.merge_contextvars(None, "", event)
        self._writer.put(event)


@contextmanager
def open_logs(settings: LogSettings, stream: TextIO | None = None) -> Iterator[LogWriter]:
    """structlog and the standard library's logging both write here until the block is left."""
    stream = stream or sys.stderr
    writer = LogWriter(stream, _rendering(settings, stream))
    level = _LEVELS[settings.level]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _now, _hand_over],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _QueueLogger(writer),
        cache_logger_on_first_use=True,
    )
    handler = _FromStandardLogging(writer)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    writer.start()
    try:
        yield writer
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        structlog.reset_defaults()
        writer.close()


def _now(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """What the writer's thread could not know later: the time, and which exception `exc_info=True` means."""
    event["timestamp"] = time.time()
    if event.get("exc_info") is True:
        event["exc_info"] = sys.exc_info()
    return event


def _hand_over(_logger: WrappedLogger, _name: str, event: EventDict) -> tuple[tuple[()], EventDict]:
    return (), event


def _rendering(settings: LogSettings, stream: TextIO) -> list[Processor]:
    if settings.format == "console":
        # Plain tracebacks: the pretty ones show local variables, and with them secrets.
        console = structlog.dev.ConsoleRenderer(colors=stream.isatty(),
                                                exception_formatter=structlog.dev.plain_traceback)
        return [_written_time, mask, console]
    return [_written_time, structlog.processors.format_exc_info, mask, _json]


def _written_time(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    at = event.pop("timestamp", None)
    if isinstance(at, float):
        event["timestamp"] = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


_json = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)


def mask(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Secrets by their field's name, and by what stands before them in text."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if _SECRET_FIELD.search(name) and value is not None and not isinstance(value, bool | int | float):
        return MASKED
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        value = masked_text(value)
        # Lone surrogates are how odd bytes of the network travel in str; no stream could write them.
        value = value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
        return value[:LONGEST_FIELD]
    if isinstance(value, Mapping | MutableMapping):
        return {str(key): _masked(str(key), below) for key, below in value.items()}
    if isinstance(value, list | tuple) and name != "exc_info":
        return [_masked(name, below) for below in value]
    return value


def masked_text(text: str) -> str:
    """SIP and HTTP messages and URLs without the credentials in them."""
    return _SECRET_WORD.sub(rf"\g<1>{MASKED}", _SECRET_HEADER.sub(rf"\g<1> {MASKED}", text))
