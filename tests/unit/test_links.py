"""Links to recordings: ours open, all others do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.links import LONGEST_TOKEN, RecordingLinks
from b2bua.recording.archive import new_recording_id

LINKS = RecordingLinks(b"a key of thirty-two bytes, or so.", "https://pbx.example.org/")


def token_of(path: str) -> str:
    return path.removeprefix("/r/").removesuffix(".mp3")


def test_a_link_opens_its_recording() -> None:
    recording = new_recording_id()
    assert LINKS.url(recording) == "https://pbx.example.org" + LINKS.path(recording)
    assert LINKS.path(recording).startswith(f"/r/{recording}.")
    assert LINKS.recording(token_of(LINKS.path(recording))) == recording


def test_links_are_the_same_at_every_start() -> None:
    again = RecordingLinks(b"a key of thirty-two bytes, or so.", "https://pbx.example.org")
    assert again.url("rec-1") == LINKS.url("rec-1")


def test_another_key_opens_nothing() -> None:
    other = RecordingLinks(b"another key", "https://pbx.example.org")
    assert other.recording(token_of(LINKS.path("rec-1"))) is None


@pytest.mark.parametrize("token", ["", ".", "rec-1", "rec-1.", ".x", "rec-1." + "A" * 32, "é.é", "\0." + "A" * 32,
                                   "x" * LONGEST_TOKEN + ".y"])
def test_what_we_did_not_make_opens_nothing(token: str) -> None:
    assert LINKS.recording(token) is None


@settings(max_examples=200)
@given(st.data())
def test_one_other_character_anywhere_opens_nothing(data: st.DataObject) -> None:
    token = token_of(LINKS.path("recording-1"))
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    assert LINKS.recording(token[:place] + other + token[place + 1:]) is None


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_no_text_breaks_it(token: str) -> None:
    assert LINKS.recording(token) is None
