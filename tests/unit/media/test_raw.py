"""The raw recording's file format: what is written is read, up to where it was torn."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.media import raw

STARTED = datetime(2026, 5, 1, 10, 0, tzinfo=UTC)
CODECS = ({8: "PCMA/8000", 101: "telephone-event/8000"}, {0: "PCMU/8000"})


def recording(packets: int = 3) -> bytes:
    data = raw.header("abcdefghijklmnop", STARTED) + raw.codecs_record(CODECS, 0)
    for number in range(packets):
        data += raw.record_head(raw.CALLER + number % 2, 5, number * 20_000) + b"pack" + bytes([number])
    return data


def read(data: bytes) -> list[raw.CodecsKnown | raw.Packet]:
    return list(raw.read(io.BytesIO(data)))


def test_what_was_written_is_read() -> None:
    assert read(recording(2)) == [
        raw.CodecsKnown(CODECS), raw.Packet(0, 0.0, b"pack\x00"), raw.Packet(1, 0.02, b"pack\x01")]


def test_the_header_tells_when() -> None:
    assert raw.started_at(recording().split(b"\n")[0]) == STARTED


@given(st.integers(0, 100))
@settings(max_examples=101)
def test_a_torn_tail_is_ignored(cut: int) -> None:
    whole = recording(5)
    records = read(whole)
    kept = read(whole[: max(len(whole) - cut, whole.index(b"\n") + 1)])
    assert kept == records[: len(kept)]


@pytest.mark.parametrize("tail", [bytes(4096), b"\xff" * 50, b"\x01\x00\x01"])
def test_a_tail_of_anything_ends_the_file(tail: bytes) -> None:
    assert read(recording() + tail) == read(recording())


def test_a_damaged_list_of_codecs_ends_the_file() -> None:
    assert read(recording() + raw.record_head(raw.META, 3, 0) + b"{x}") == read(recording())


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"[1]\n", b'{"format": "other"}\n', bytes(100)])
def test_another_file_is_no_recording(data: bytes) -> None:
    with pytest.raises(raw.NotRaw):
        read(data)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_after_the_header_are_read_without_an_error(data: bytes) -> None:
    read(raw.header("abcdefghijklmnop", STARTED) + data)


@pytest.mark.parametrize(("text", "good"), [
    ("abcdefghijklmnop", True), ("A-Z_0123456789ab", True), ("short", False), ("a" * 65, False),
    ("../../etc/passwd", False), ("abcdefghijklmnop\n", False), ("abcdefghijklmno.", False), ("", False),
])
def test_ids_of_recordings(text: str, good: bool) -> None:
    assert raw.is_recording_id(text) is good
