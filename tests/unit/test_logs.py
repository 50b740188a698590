"""Log lines: whole, in order, without secrets, and never in the way."""

from __future__ import annotations

import io
import json
import logging
import threading
from typing import Any

import pytest
import structlog

from b2bua import logs
from b2bua.config import LogSettings
from b2bua.logs import masked_text, open_logs


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_fields_call_id_and_level_are_in_every_line() -> None:
    stream = io.StringIO()
    with open_logs(LogSettings(), stream), structlog.contextvars.bound_contextvars(call="c-1"):
        structlog.get_logger().info("answered", extension="101")
        structlog.get_logger().debug("not written at this level")
    (line,) = lines(stream)
    assert (line["event"], line["extension"], line["call"], line["level"]) == ("answered", "101", "c-1", "info")
    assert line["timestamp"].endswith("Z")


def test_lines_of_libraries_go_the_same_way() -> None:
    stream = io.StringIO()
    with open_logs(LogSettings(), stream):
        logging.getLogger("some.library").warning("odd: %s", 5, extra={"client": "acme"})
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["client"], line["level"]) == (
        "odd: 5", "some.library", "acme", "warning")


@pytest.mark.parametrize("field", ["password", "token", "Authorization", "ha1", "link_key_secret", "Cookie"])
def test_secrets_are_masked_by_their_field(field: str) -> None:
    stream = io.StringIO()
    with open_logs(LogSettings(), stream):
        structlog.get_logger().info("x", **{field: "hidden-word"}, below={field: ["hidden-word"]})
    assert "hidden-word" not in stream.getvalue()


@pytest.mark.parametrize("text", [
    'INVITE sip:a SIP/2.0\r\nAuthorization: Digest username="a", response="hidden-word"\r\n\r\n',
    'REGISTER sip:a SIP/2.0\r\nproxy-authorization : Digest response="hidden-word"',
    "GET /x?token=hidden-word&b=1", "Bearer hidden-word", "Cookie: session=hidden-word",
])
def test_secrets_are_masked_inside_messages(text: str) -> None:
    assert "hidden-word" not in masked_text(text)
    assert "hidden-word" not in masked_text(text.upper()).lower()


def test_a_traceback_is_kept_and_shows_no_local_variables() -> None:
    for form in ("json", "console"):
        stream = io.StringIO()
        with open_logs(LogSettings.model_validate({"format": form}), stream):
            _fail("hidden-word")
        assert "ZeroDivisionError" in stream.getvalue()
        assert "hidden-word" not in stream.getvalue()


def _fail(local: str) -> None:
    try:
        _ = len(local) / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("fault")


def test_odd_bytes_and_odd_objects_do_not_end_the_log() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

        __str__ = __repr__

    stream = io.StringIO()
    with open_logs(LogSettings(), stream):
        structlog.get_logger().info("bytes", caller="\udcff", data=b"\xff\x00")
        structlog.get_logger().info("object", thing=Hostile())
        structlog.get_logger().info("after")
    assert [line["event"] for line in lines(stream)] == ["bytes", "unloggable line", "after"]


def test_a_stuck_terminal_costs_lines_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_LIMIT", 10)
    gate = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(10)
            return super().write(text)

    stream = Stuck()
    with open_logs(LogSettings(), stream) as writer:
        for number in range(1000):
            structlog.get_logger().info("line", number=number)
        assert writer.dropped >= 1000 - 2 * 10 - logs.AT_ONCE
        gate.set()
    written = lines(stream)
    assert any(line["event"] == "log lines dropped" for line in written)
    numbers = [line["number"] for line in written if line["event"] == "line"]
    assert numbers == sorted(numbers)


def test_what_is_logged_after_the_end_is_written_too() -> None:
    stream = io.StringIO()
    with open_logs(LogSettings(), stream):
        log = structlog.get_logger().bind()
        log.info("before")
    log.info("after")
    assert [line["event"] for line in lines(stream)] == ["before", "after"]
