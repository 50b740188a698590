"""Links to recordings: ours open, all others do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.links import LONGEST_TOKEN, OpenedLink, RecordingLinks
from b2bua.recording.archive import new_recording_id

LINKS = RecordingLinks(b"a key of thirty-two bytes, or so.", "https://pbx.example.org/")


def token_of(path: str) -> str:
    return path.removeprefix("/r/").removesuffix(".mp3")


def test_a_link_opens_its_recording() -> None:
    recording = new_recording_id()
    assert LINKS.url(recording) == "https://pbx.example.org" + LINKS.path(recording)
    assert LINKS.path(recording).startswith(f"/r/{recording}.")
    assert LINKS.opened(token_of(LINKS.path(recording))) == OpenedLink(recording, None)


def test_a_link_may_say_until_when() -> None:
    until = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    path = LINKS.path("rec-1", until)
    assert path.startswith(f"/r/rec-1.{int(until.timestamp())}.")
    assert LINKS.url("rec-1", until) == "https://pbx.example.org" + path
    assert LINKS.opened(token_of(path)) == OpenedLink("rec-1", until)


def test_no_other_end_can_be_written_into_a_link() -> None:
    recording, until, seal = token_of(LINKS.path("rec-1", datetime(2026, 3, 2, tzinfo=UTC))).split(".")
    for forged in (f"{recording}.{seal}", f"{recording}..{seal}", f"{recording}.{int(until) + 1}.{seal}",
                   f"{recording}.{until}.{until}.{seal}", f"other.{until}.{seal}"):
        assert LINKS.opened(forged) is None
    _, permanent = token_of(LINKS.path("rec-1")).split(".")
    assert LINKS.opened(f"rec-1.{until}.{permanent}") is None


def test_links_of_notes_last_as_long_as_is_set() -> None:
    now = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    assert LINKS.for_notes(0, lambda: now)("rec-1") == LINKS.url("rec-1")
    assert LINKS.for_notes(30, lambda: now)("rec-1") == LINKS.url("rec-1", now + timedelta(days=30))


def test_links_are_the_same_at_every_start() -> None:
    again = RecordingLinks(b"a key of thirty-two bytes, or so.", "https://pbx.example.org")
    assert again.url("rec-1") == LINKS.url("rec-1")


def test_another_key_opens_nothing() -> None:
    other = RecordingLinks(b"another key", "https://pbx.example.org")
    assert other.opened(token_of(LINKS.path("rec-1"))) is None


@pytest.mark.parametrize("token", ["", ".", "rec-1", "rec-1.", ".x", "rec-1." + "A" * 32, "é.é", "\0." + "A" * 32,
                                   "x" * LONGEST_TOKEN + ".y"])
def test_what_we_did_not_make_opens_nothing(token: str) -> None:
    assert LINKS.opened(token) is None


@settings(max_examples=200)
@given(st.data())
def test_one_other_character_anywhere_opens_nothing(data: st.DataObject) -> None:
    token = token_of(LINKS.path("recording-1"))
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    assert LINKS.opened(token[:place] + other + token[place + 1:]) is None


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_no_text_breaks_it(token: str) -> None:
    assert LINKS.opened(token) is None
