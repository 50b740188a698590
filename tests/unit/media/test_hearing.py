"""How the audio of a side has arrived of late: what was long ago counts no more."""

from __future__ import annotations

import pytest

from b2bua.control import Heard
from b2bua.media.relay.hearing import LOOKS, Hearing


def test_what_has_come_before_the_first_look_counts_in_that() -> None:
    hearing = Hearing()
    assert hearing.heard is None
    hearing.told(900, 100, 3.0)
    assert hearing.heard == Heard(10.0, 3.0, "poor")


def test_old_losses_are_forgotten_and_silence_is_none() -> None:
    hearing = Hearing()
    hearing.told(900, 100, 3.0)
    for look in range(1, LOOKS + 1):
        hearing.told(900 + 50 * look, 100, 4.0)
    assert hearing.heard == Heard(0.0, 4.0, "good")
    for _ in range(LOOKS):
        hearing.told(900 + 50 * LOOKS, 100, 4.0)
    assert hearing.heard is None


def test_late_packets_make_no_negative_losses() -> None:
    hearing = Hearing()
    hearing.told(100, 10, 0.0)
    for look in range(LOOKS):
        hearing.told(150 + look, 5, 0.0)
    assert hearing.heard == Heard(0.0, 0.0, "good")


@pytest.mark.parametrize(("lost", "jitter_ms", "verdict"), [
    (0, 0, "good"), (1, 30, "good"), (1.1, 0, "fair"), (0, 30.1, "fair"), (4, 60, "fair"), (4.1, 0, "poor"),
    (0, 61, "poor")])
def test_the_verdict_is_the_worse_of_loss_and_jitter(lost: float, jitter_ms: float, verdict: str) -> None:
    assert Heard.of(lost, jitter_ms).verdict == verdict
