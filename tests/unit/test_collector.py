"""The collector finds the cycles of the moment, and does not look at what lives on."""

from __future__ import annotations

import gc
import weakref

from b2bua import collector


class Knot:
    """Refers to itself, so that only the collector can free it."""

    def __init__(self) -> None:
        self.me = self


def test_young_cycles_are_found_and_what_lives_is_put_out_of_sight() -> None:
    thresholds = gc.get_threshold()
    with collector.short_pauses():
        alive, dead = Knot(), weakref.ref(Knot())
        before = gc.get_freeze_count()
        gc.collect(0)
        assert dead() is None
        assert gc.get_freeze_count() > before
        assert not any(seen is alive for seen in gc.get_objects())
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == thresholds
