"""How a wrong password gets slower, and then nothing: one pure rule over sources and logins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

FIRST_DELAY: Final = 0.5            # seconds before the answer to the first wrong password; doubles with each
LONGEST_DELAY: Final = 8.0          # well within the 32 s of a phone's timer F (RFC 3261 §17.1.2.2)
PAIR_FAILURES: Final = 20           # of one source with one login, then silence
SOURCE_FAILURES: Final = 60         # of one source with any logins, unless it succeeded lately
LOGIN_FAILURES: Final = 200         # with one login from any sources, except for sources which it succeeded from
SOURCE_CHALLENGES: Final = 500      # challenged and never answered well: a scanner
FORGIVEN_AFTER: Final = 900.0       # seconds without a failure
TRUSTED_FOR: Final = 86_400.0       # seconds for which a success counts
MAX_RECORDS: Final = 20_000
MAX_LOGIN: Final = 64               # characters of a login that are told apart


_Key = TypeVar("_Key", str, tuple[str, str])


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer, but only after so many seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Not a word."""


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last_failure: float = 0.0
    trusted_until: float = 0.0


class AuthThrottle:
    """Counts failures by source and login together, by source, and by login.

    The three are needed apart. Many phones share an office's address, and one with an old password must not silence
    the others: a source that succeeds goes on being heard. And a stranger who fails on purpose must not lock the
    owner of a login out: the source where the owner succeeded goes on being heard for it.
    """

    def __init__(self, limit: int = MAX_RECORDS) -> None:
        self._limit = limit
        self._records: dict[tuple[str, str], _Record] = {}
        # Apart from the others: a source may be forged as long as it was only challenged, and a flood of forged ones
        # must not push out what is known of real ones.
        self._challenged: dict[str, _Record] = {}

    def __len__(self) -> int:
        return len(self._records) + len(self._challenged)

    def silent(self, source: str, login: str, now: float) -> bool:
        """Whether this source is not even to be challenged (with `login` "" when it named none)."""
        pair = self._current(source, login, now) if login else None
        by_source = self._current(source, "", now)
        asked = _current(self._challenged, source, now)
        trusted = by_source is not None and by_source.trusted_until > now
        by_login = self._current("", login, now) if login else None
        if pair and pair.failures >= PAIR_FAILURES:
            return True
        if not trusted and by_source and by_source.failures >= SOURCE_FAILURES:
            return True
        if not trusted and asked and asked.failures >= SOURCE_CHALLENGES:
            return True
        own = pair is not None and pair.trusted_until > now
        return bool(by_login and not own and by_login.failures >= LOGIN_FAILURES)

    def challenged(self, source: str, now: float) -> None:
        """A request without credentials was asked for them."""
        record = _touch(self._challenged, source, now, self._limit)
        record.failures += 1
        record.last_failure = now

    def failed(self, source: str, login: str, now: float) -> Answer | Silence:
        """A wrong password, or a login that does not exist."""
        for key in ((source, login), (source, ""), ("", login)):
            record = self._touch(*key, now)
            record.failures += 1
            record.last_failure = now
        if self.silent(source, login, now):
            return Silence()
        failures = self._records[source, login[:MAX_LOGIN]].failures
        return Answer(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures - 1, 30)))

    def succeeded(self, source: str, login: str, now: float) -> None:
        """Forgives this source with this login, not with others: who has one password may not guess the next."""
        pair = self._touch(source, login, now)
        by_source = self._touch(source, "", now)
        by_source.failures = max(0, by_source.failures - pair.failures)
        self._challenged.pop(source, None)
        by_login = self._records.get(("", login[:MAX_LOGIN]))
        if by_login is not None:
            by_login.failures = max(0, by_login.failures - pair.failures)
        pair.failures = 0
        pair.trusted_until = by_source.trusted_until = now + TRUSTED_FOR

    def _current(self, source: str, login: str, now: float) -> _Record | None:
        return _current(self._records, (source, login[:MAX_LOGIN]), now)

    def _touch(self, source: str, login: str, now: float) -> _Record:
        return _touch(self._records, (source, login[:MAX_LOGIN]), now, self._limit)


def _current(records: dict[_Key, _Record], key: _Key, now: float) -> _Record | None:
    record = records.get(key)
    if record is not None and now - record.last_failure > FORGIVEN_AFTER:
        record.failures = 0
        if record.trusted_until <= now:
            del records[key]
            return None
    return record


def _touch(records: dict[_Key, _Record], key: _Key, now: float, limit: int) -> _Record:
    record = _current(records, key, now) or _Record(last_failure=now)
    # The records stand in the order of their last use; the least used one makes room.
    records.pop(key, None)
    if len(records) >= limit:
        del records[next(iter(records))]
    records[key] = record
    return record
