"""What can be played: files, what may be wrong with them, and what code has made."""

from __future__ import annotations

import mmap
import wave
from pathlib import Path

import numpy as np
import pytest

from b2bua.media import sounds
from b2bua.media.g711 import A_LAW, MU_LAW, a_law, mu_law
from b2bua.media.relay.sounds import SoundMemory
from b2bua.media.sounds import BUILT_IN, FRAME, Sound, built_in, load, names, stamp
from tests.support.tone import PCMA, PCMU, RATE, Samples, decode, dominant, is_tone, tone, write_wav


def test_every_code_word_is_nearest_to_what_it_means_and_no_sample_has_a_nearer_one() -> None:
    every = np.arange(0x10000, dtype=np.uint16).view(np.int16)
    for encode, table, payload_type in ((a_law, A_LAW, PCMA), (mu_law, MU_LAW, PCMU)):
        assert (decode(encode(table), payload_type) == table).all()
        error = np.abs(table[np.frombuffer(encode(every), np.uint8)].astype(int) - every)
        levels = np.sort(table.astype(int))
        right = np.clip(np.searchsorted(levels, every), 1, len(levels) - 1)
        nearest = np.minimum(np.abs(levels[right] - every), np.abs(levels[right - 1] - every))
        assert (error == nearest).all()


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_code_makes_is_whole_frames_and_the_same_by_both_laws(name: str) -> None:
    sound = built_in()[name]
    assert len(sound.a_law) == len(sound.mu_law)
    assert len(sound.a_law) % FRAME == 0
    one, other = decode(sound.a_law, PCMA).astype(int), decode(sound.mu_law, PCMU).astype(int)
    assert np.abs(one - other).max() < 700
    assert np.abs(one).max() < 20000                    # nobody's ear is hurt


@pytest.mark.parametrize(
    ("name", "on", "off"), [("ringback", 1.0, 4.0), ("busy", 0.35, 0.35), ("congestion", 0.175, 0.175)]
)
def test_the_tones_have_their_cadence(name: str, on: float, off: float) -> None:
    heard = decode(built_in()[name].a_law, PCMA)
    period, sounding = round((on + off) * RATE), round(on * RATE)
    assert len(heard) % period == 0
    for begin in range(0, len(heard), period):
        assert is_tone(heard[begin : begin + sounding], 425)
        assert np.abs(heard[begin + sounding : begin + period]).max() <= 8


def test_unavailable_is_three_rising_tones() -> None:
    heard = decode(built_in()["unavailable"].a_law, PCMA)
    third = round(0.33 * RATE)
    for place, hz in enumerate((950, 1400, 1800)):
        assert is_tone(heard[place * third : (place + 1) * third], hz)


def test_music_is_never_silent_for_long_and_joins_its_beginning() -> None:
    heard = decode(built_in()["music"].a_law, PCMA).astype(int)
    around = np.concatenate((heard[-RATE:], heard[:RATE]))
    seconds = [*heard.reshape(-1, RATE // 2), around]
    assert all(np.sqrt(np.mean(part.astype(float) ** 2)) > 200 for part in seconds)
    assert np.abs(np.diff(around)).max() <= np.abs(np.diff(heard)).max()
    assert len({round(dominant(part.astype(np.int16))[0] / 20) for part in heard.reshape(-1, RATE // 2)}) > 4


def test_a_file_is_a_sound_of_its_name_and_stands_before_what_is_built_in(tmp_path: Path) -> None:
    write_wav(tmp_path / "closed.wav", tone(600, 0.75))
    write_wav(tmp_path / "busy.WAV", tone(700, 0.5))
    (tmp_path / "README").write_text("no sound")
    loaded = load(tmp_path)
    assert loaded.bad == ()
    assert set(loaded.sounds) == {*BUILT_IN, "closed"} == names(tmp_path)
    for sound, hz in (("closed", 600), ("busy", 700)):
        assert is_tone(decode(loaded.sounds[sound].a_law, PCMA), hz)
        assert is_tone(decode(loaded.sounds[sound].mu_law, PCMU), hz)
    assert loaded.sounds["closed"].seconds == pytest.approx(0.76)           # a whole number of 20 ms


def test_without_a_directory_there_is_what_code_has_made() -> None:
    assert load(None).sounds == built_in()
    assert names(None) == set(BUILT_IN)
    assert stamp(None) == ()


def _wav(path: Path, *, rate: int = RATE, channels: int = 1, width: int = 2, data: bytes = bytes(320)) -> None:
    with wave.open(str(path), "wb") as file:
        file.setframerate(rate)
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.writeframes(data)


@pytest.mark.parametrize(
    ("made", "problem"),
    [({"rate": 44100}, "44100 samples a second"), ({"channels": 2}, "2 channels"), ({"width": 1}, "8 bits a sample"),
     ({"data": b""}, "empty")],
)
def test_what_is_wrong_with_a_file_is_told_with_its_remedy(
    tmp_path: Path, made: dict[str, int | bytes], problem: str
) -> None:
    _wav(tmp_path / "bad.wav", **made)  # type: ignore[arg-type]
    loaded = load(tmp_path)
    (bad,) = loaded.bad
    assert bad.path == tmp_path / "bad.wav"
    assert problem in bad.problem
    assert "sox" in bad.remedy
    assert "bad" not in loaded.sounds


@pytest.mark.parametrize("content", [
    b"", b"RIFF", b"ID3\x03mp3", b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00" + bytes(8),
    b"RIFF\x24\x00\x00\x00WAVEdata" + bytes(8),
])
def test_what_is_no_wav_file_is_told_and_breaks_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    (bad,) = load(tmp_path).bad
    assert "no WAV file of PCM" in bad.problem


def test_files_cut_short_play_what_is_there_or_are_none(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    write_wav(path, tone(440, 0.5))
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        loaded = load(tmp_path)
        assert ("cut" in loaded.sounds) is not bool(loaded.bad)


def test_a_file_that_may_not_be_read_a_directory_and_a_bad_name_are_told(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere")
    write_wav(tmp_path / "мы закрыты.wav", tone(440, 0.1))
    problems = {bad.path.name: bad.problem for bad in load(tmp_path).bad}
    assert "cannot be read" in problems["folder.wav"]
    assert "cannot be read" in problems["gone.wav"]
    assert "name" in problems["мы закрыты.wav"]
    assert names(tmp_path) == {*BUILT_IN, "folder", "gone"}


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    (bad,) = load(tmp_path / "nowhere").bad
    assert "no such directory" in bad.problem


def test_length_number_and_total_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "MAX_SECONDS", 2)
    monkeypatch.setattr(sounds, "MAX_SOUNDS", 3)
    monkeypatch.setattr(sounds, "MAX_TOTAL_SECONDS", sum(one.seconds for one in built_in().values()) + 2.5)
    for name, seconds in (("a", 3), ("b", 2), ("c", 2), ("d", 0.1)):
        write_wav(tmp_path / f"{name}.wav", tone(440, seconds))
    loaded = load(tmp_path)
    assert {*loaded.sounds} - {*BUILT_IN} == {"b"}
    assert [bad.problem for bad in loaded.bad] == [
        "it is 3 s long", f"with it, all sounds together are longer than {sounds.MAX_TOTAL_SECONDS} s",
        "there are more than 3 sound files"]


def test_the_stamp_changes_with_the_files(tmp_path: Path) -> None:
    seen_stamps = [stamp(tmp_path)]
    write_wav(tmp_path / "a.wav", tone(440, 0.1))
    seen_stamps.append(stamp(tmp_path))
    write_wav(tmp_path / "a.wav", tone(440, 0.2))
    seen_stamps.append(stamp(tmp_path))
    (tmp_path / "a.wav").unlink()
    assert len(set(seen_stamps)) == 3
    assert stamp(tmp_path) == seen_stamps[0]


def _sound(name: str, samples: Samples) -> Sound:
    return Sound(name, a_law(samples), mu_law(samples))


def test_the_relay_sees_what_the_switch_writes_and_a_change_leaves_what_sounds() -> None:
    memory = SoundMemory()
    view = mmap.mmap(memory.fd, 0, access=mmap.ACCESS_READ)
    try:
        one, two = (_sound(name, tone(hz, 0.1)) for name, hz in (("one", 440), ("two", 880)))
        first, second = memory.write({"one": one, "two": two})
        for place, sound in ((first, one), (second, two)):
            assert view[place.offset : place.offset + place.samples] == sound.a_law
            assert view[place.offset + place.samples : place.offset + 2 * place.samples] == sound.mu_law
        (changed,) = memory.write({"one": two})
        assert view[changed.offset : changed.offset + changed.samples] == two.a_law
        assert view[first.offset : first.offset + first.samples] == one.a_law
        (again,) = memory.write({"one": one})
        assert again.offset == first.offset             # it does not grow
    finally:
        view.close()
        memory.close()
