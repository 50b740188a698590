"""What is played to the sides of one session, as the switch sees it: told to the relay, and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass

from b2bua.media.relay import wire


@dataclass(frozen=True, slots=True)
class Tuning:
    """Of a side that can hear G.711: as which payload type, by which law."""

    payload_type: int
    mu_law: bool


@dataclass(slots=True)
class _Played:
    number: int
    ended: asyncio.Future[str | None]
    tuning: Tuning
    listens: bool


class Plays:
    """At most one sound to each side; sides are 0 and 1."""

    def __init__(self, session: int, send: Callable[[wire.Command], None], sounds: Container[str]) -> None:
        self._session = session
        self._send = send
        self._sounds = sounds
        self._now: dict[int, _Played] = {}
        self._number = 0

    def lack(self, sound: str) -> bool:
        return sound not in self._sounds

    def busy(self, side: int) -> bool:
        return side in self._now

    def play(self, side: int, sound: str, tuning: Tuning | str | None, *, repeat: bool, yields: bool,
             listens: bool) -> asyncio.Future[str | None]:
        """`tuning` may be a sentence that says why it cannot be."""
        dropped = self._drop(side, "something else was played")
        ended: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        if not isinstance(tuning, Tuning):
            if dropped:
                self._send(wire.Stop(self._session, side))
            ended.set_result(tuning or "nothing is agreed upon yet")
            return ended
        self._number += 1
        self._now[side] = _Played(self._number, ended, tuning, listens=True)
        self._send(wire.Play(self._session, side, self._number, sound, repeat, yields, tuning.payload_type,
                             tuning.mu_law))
        self.tune(side, tuning, listens)
        return ended

    def tune(self, side: int, tuning: Tuning | None, listens: bool) -> None:
        """What was agreed upon since. Without a codec of ours nothing is sent, until there is one again."""
        now = self._now.get(side)
        if now is None:
            return
        listens = listens and tuning is not None
        tuning = tuning or now.tuning
        if (tuning, listens) != (now.tuning, now.listens):
            now.tuning, now.listens = tuning, listens
            self._send(wire.Tune(self._session, side, tuning.payload_type, tuning.mu_law, listens))

    def stop(self, side: int) -> None:
        if self._drop(side, "it was stopped"):
            self._send(wire.Stop(self._session, side))

    def played(self, side: int, number: int) -> None:
        """The relay says so; it may be of what something else has taken the place of."""
        now = self._now.get(side)
        if now is not None and now.number == number:
            self._drop(side, None)

    def end(self, why: str) -> None:
        for side in tuple(self._now):
            self._drop(side, why)

    def _drop(self, side: int, why: str | None) -> bool:
        now = self._now.pop(side, None)
        if now is not None and not now.ended.done():
            now.ended.set_result(why)
        return now is not None
