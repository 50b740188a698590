"""How a wrong password gets slower, and then nothing, and who is banned: one pure rule over sources and logins.

An address is banned for what came from it, when that it was there is proved (a challenge was answered from it), or when
it is nobody's: no trunk's, no registered phone's, and nobody has logged in from there lately. A datagram's source may
be forged, and a forged one must not keep anybody away that we know. An account is only ever banned for wrong passwords,
which all came from proved addresses, and not for those from which its owner has logged in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final, TypeVar

FIRST_DELAY: Final = 0.5            # seconds before the answer to the first wrong password; doubles with each
LONGEST_DELAY: Final = 8.0          # well within the 32 s of a phone's timer F (RFC 3261 §17.1.2.2)
PAIR_FAILURES: Final = 20           # of one source with one login, then silence
SOURCE_FAILURES: Final = 60         # of one source with any logins, unless it succeeded lately
LOGIN_FAILURES: Final = 200         # with one login from any sources, except for sources which it succeeded from
SOURCE_CHALLENGES: Final = 500      # challenged and never answered well: a scanner
UNWANTED: Final = 500               # messages within UNWANTED_WITHIN that mean nothing from whom we do not know
UNWANTED_WITHIN: Final = 600.0      # seconds; a lost phone that asks every few seconds whether we are there is no flood
NAMES_TRIED: Final = 20             # different accounts or numbers, asked for by nobody that we know: a scanner
FORGIVEN_AFTER: Final = 900.0       # seconds without a failure
TRUSTED_FOR: Final = 86_400.0       # seconds for which a success counts
MAX_RECORDS: Final = 20_000
MAX_LOGIN: Final = 64               # characters of a login that are told apart
MAX_LISTED: Final = 1_000           # bans shown at once

_Key = TypeVar("_Key", str, tuple[str, str])


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer, but only after so many seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Not a word."""


class Banned(Enum):
    """Who gets silence."""

    ADDRESS = "address"
    ACCOUNT = "account"
    ACCOUNT_FROM_ADDRESS = "account from address"


@dataclass(frozen=True, slots=True)
class Ban:
    who: Banned
    address: str                        # "": from anywhere
    account: str                        # "": whatever it asks for
    why: str
    expires_in: int                     # seconds, counted from the last of what led to it


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last_failure: float = 0.0
    trusted_until: float = 0.0
    names: tuple[str, ...] = ()         # that a stranger asked for
    unwanted: int = 0                   # messages that were ignored
    unwanted_since: float = 0.0
    why: str = ""


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
        self._fresh: list[Ban] = []

    def __len__(self) -> int:
        return len(self._records) + len(self._challenged)

    def silent(self, source: str, login: str, now: float) -> bool:
        """Whether this source is not even to be challenged (with `login` "" when it named none)."""
        pair = self._current(source, login, now) if login else None
        by_source = self._current(source, "", now)
        asked = _current(self._challenged, source, now)
        trusted = self._is_trusted(source, now)
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
        if record.failures == SOURCE_CHALLENGES:
            self._ban_stranger(source, record, f"{SOURCE_CHALLENGES} challenges and no answer", now)

    def tried(self, source: str, name: str, now: float) -> None:
        """A stranger asked for this account or number, without a password."""
        if self._is_trusted(source, now) or self.silent(source, "", now):
            return
        record = _touch(self._challenged, source, now, self._limit)
        name = name[:MAX_LOGIN]
        if name in record.names:
            return
        record.names = (*record.names, name)
        record.last_failure = now
        if len(record.names) == NAMES_TRIED:
            self._ban_stranger(source, record, f"{NAMES_TRIED} different accounts or numbers tried", now)

    def unwanted(self, source: str, now: float) -> None:
        """A stranger sent what is no message, or asked for what strangers do not get: it was ignored."""
        if self._is_trusted(source, now) or self.silent(source, "", now):
            return
        record = _touch(self._challenged, source, now, self._limit)
        if now - record.unwanted_since > UNWANTED_WITHIN:
            record.unwanted, record.unwanted_since = 0, now
        record.unwanted += 1
        if record.unwanted >= UNWANTED:
            self._ban_stranger(source, record, f"{UNWANTED} messages that mean nothing from there", now)

    def scanned(self, source: str, program: str, now: float) -> None:
        """A stranger says itself that it is a scanner."""
        if not self._is_trusted(source, now) and not self.silent(source, "", now):
            record = _touch(self._challenged, source, now, self._limit)
            self._ban_stranger(source, record, f"a scanner: {program[:MAX_LOGIN]}", now)

    def failed(self, source: str, login: str, now: float) -> Answer | Silence:
        """A wrong password, or a login that does not exist."""
        for key in ((source, login), (source, ""), ("", login)):
            record = self._touch(*key, now)
            record.failures += 1
            record.last_failure = now
            if record.failures == _limit(*key) and not self._spared(*key, now):
                record.why = f"{record.failures} wrong passwords"
                self._fresh.append(_ban(*key, record, now))
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

    # -- for people

    def fresh(self) -> list[Ban]:
        """Those that are new since this was asked last."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def bans(self, now: float) -> list[Ban]:
        """All that are in force, MAX_LISTED at most."""
        return list(islice(self._all(now), MAX_LISTED))

    def lift(self, subject: str, now: float) -> int:
        """Forgive this address, or this account, everything. How many bans that lifted."""
        subject = subject[:MAX_LOGIN]
        lifted = sum(subject in (ban.address, ban.account) for ban in self._all(now))
        self._challenged.pop(subject, None)
        for (source, login), record in self._records.items():
            if subject in (source, login):
                record.failures = 0
        return lifted

    def _all(self, now: float) -> Iterator[Ban]:
        for source, record in self._challenged.items():
            if record.failures >= SOURCE_CHALLENGES and _holds(record, now) and not self._is_trusted(source, now):
                yield _ban(source, "", record, now)
        for key, record in self._records.items():
            if record.failures >= _limit(*key) and _holds(record, now) and not self._spared(*key, now):
                yield _ban(*key, record, now)

    def _ban_stranger(self, source: str, record: _Record, why: str, now: float) -> None:
        record.failures, record.last_failure, record.why = SOURCE_CHALLENGES, now, why
        record.names, record.unwanted = (), 0
        if not self._is_trusted(source, now):
            self._fresh.append(_ban(source, "", record, now))

    def _is_trusted(self, source: str, now: float) -> bool:
        """Somebody has logged in from there lately."""
        record = self._records.get((source, ""))
        return record is not None and record.trusted_until > now

    def _spared(self, source: str, login: str, now: float) -> bool:
        """An address where somebody succeeded is silenced for single logins only."""
        return not login and self._is_trusted(source, now)

    def _current(self, source: str, login: str, now: float) -> _Record | None:
        return _current(self._records, (source, login[:MAX_LOGIN]), now)

    def _touch(self, source: str, login: str, now: float) -> _Record:
        return _touch(self._records, (source, login[:MAX_LOGIN]), now, self._limit)


def _limit(source: str, login: str) -> int:
    """Failures that lead to a ban."""
    if not source:
        return LOGIN_FAILURES
    return PAIR_FAILURES if login else SOURCE_FAILURES


def _ban(source: str, login: str, record: _Record, now: float) -> Ban:
    who = Banned.ADDRESS if not login else Banned.ACCOUNT_FROM_ADDRESS if source else Banned.ACCOUNT
    return Ban(who, source, login[:MAX_LOGIN], record.why, max(0, round(record.last_failure + FORGIVEN_AFTER - now)))


def _holds(record: _Record, now: float) -> bool:
    return now - record.last_failure <= FORGIVEN_AFTER


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
