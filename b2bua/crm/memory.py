"""Who has which number, as far as it is known, for all clients together; sans-IO, `at` is the loop's clock.

A number costs an integer, a few packed bytes and its place in one of many small dicts, some 200 bytes together. Small,
because a dict of a million is copied when it grows, and calls would stand still for 50 ms; integers and bytes, because
the garbage collector never looks into dicts of them.

What a card does not hold any more is found out when the number is asked for: the card's last news say which numbers it
has, and what a complete pass over the CRM has not met again is gone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from math import inf

from b2bua.cdr import ClientId
from b2bua.crm.people import Holder
from b2bua.crm.port import Contact, EntityKind
from b2bua.numbers import country_code, is_short, last_digits

NUMBERS = 1_000_000                    # of all clients; beyond, those that were asked for longest ago go
NUMBERS_OF_A_CLIENT = 250_000
NUMBERS_OF_A_CARD = 20
MOST_NEWS = 20_000                     # cards whose change is remembered; beyond, what they lost shows at the next pass
LONGEST_NAME = 100                     # characters; phones show fewer
SHARDS = 1_021                         # a prime, so that round numbers do not meet in one

_NUMBER = 2 * 10**10                   # the keys of one country: a one, then ten digits
_SPAN = 1_000 * _NUMBER                # of one client
_NO_COUNTRY = 999                      # is nobody's code
_FIELDS = struct.Struct("<BddqqI")     # what, when it was true, met, card, responsible user, when the card changed
_NOBODY, _UNKNOWN = 0, 4               # unknown: somebody may have it
_KINDS = {1: EntityKind.CONTACT, 2: EntityKind.COMPANY, 3: EntityKind.LEAD}
_CODES = {kind: code for code, kind in _KINDS.items()}
_NO_USER = -1
_LARGEST_ID = 2**63 - 1
_LATEST = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Remembered:
    contact: Contact | None
    at: float                          # when it was true
    read_at: float                     # when the CRM was last asked for it itself; until `at` it told no change
    is_sure: bool                      # as good as an answer: somebody has it, or a complete pass found nobody
    is_settled: bool = True            # False: several cards have it, and the CRM was not asked yet which one counts


@dataclass(slots=True)
class _Known:
    """One number's record, unpacked."""

    code: int
    at: float                          # when this was true
    met_at: float                      # when any card was last met that has the number
    card: int = 0
    user: int = _NO_USER
    updated_at: int = 0
    name: str = ""
    several: bool = False              # other cards have, or had, the number too
    unsettled: bool = False

    @property
    def is_held(self) -> bool:
        return self.code in _KINDS

    def packed(self) -> bytes:
        what = self.code | self.several << 4 | self.unsettled << 5
        fields = _FIELDS.pack(what, self.at, self.met_at, self.card, self.user, self.updated_at)
        return fields + self.name.encode("utf-8", "replace")

    def contact(self) -> Contact:
        return Contact(_KINDS[self.code], self.card, self.name, None if self.user == _NO_USER else self.user)


def _unpacked(record: bytes) -> _Known:
    what, at, met_at, card, user, updated_at = _FIELDS.unpack_from(record)
    name = record[_FIELDS.size:].decode()
    return _Known(what & 0x0F, at, met_at, card, user, updated_at, name, bool(what & 0x10), bool(what & 0x20))


@dataclass(slots=True, eq=False)
class _Client:
    index: int
    numbers: int = 0
    whole_since: float = -inf          # the last complete pass began then: who was not met since has no number
    watched_since: float = inf         # every change since then was seen, up to `current_at`
    current_at: float = -inf
    lost: bool = False                 # something had to go since the pass began


_Card = tuple[int, int, int]           # client's index, kind, id


@dataclass(slots=True)
class Memory:
    size: int = NUMBERS
    size_of_client: int = NUMBERS_OF_A_CLIENT
    shards: int = SHARDS
    _shards: list[dict[int, bytes]] = field(init=False, repr=False)
    _clients: dict[ClientId, _Client] = field(default_factory=dict)
    _by_index: dict[int, _Client] = field(default_factory=dict)
    _news: dict[_Card, tuple[float, tuple[int, ...]]] = field(default_factory=dict, repr=False)
    _indexes: int = 0

    def __post_init__(self) -> None:
        self._shards = [{} for _ in range(self.shards)]

    def __len__(self) -> int:
        return sum(client.numbers for client in self._by_index.values())

    # -- a call asks

    def get(self, client: ClientId, phone: str) -> Remembered | None:
        """None: it has to be asked for."""
        of = self._clients.get(client)
        if of is None:
            return None
        nobody_at, unknown = -inf, False
        for key in _keys(of, phone):
            known = self._known(of, key)
            if known is None:
                continue
            self._use(key)
            if known.is_held:
                is_settled = not (unknown or known.unsettled)
                return Remembered(known.contact(), _true_at(of, known), known.at, True, is_settled)
            if known.code == _UNKNOWN:
                unknown = True
            else:
                nobody_at = known.at
        if unknown:
            return None
        is_sure = of.whole_since > -inf and country_code(phone) is not None
        if is_sure:
            nobody_at = max(nobody_at, of.current_at)
        return None if nobody_at == -inf else Remembered(None, nobody_at, nobody_at, is_sure)

    # -- what becomes known of a number

    def answer(self, client: ClientId, phone: str, contact: Contact | None, asked_at: float) -> None:
        """The CRM's answer to the question who has it; nothing where something newer is known."""
        of = self._client(client)
        key = _asked_key(of, phone)
        known = self._known(of, key)
        if known is not None and known.met_at > asked_at:
            return
        new = _record(contact, asked_at, 0)
        if known is not None and new.is_held:
            is_same = (known.code, known.card) == (new.code, new.card)
            new.several = known.several or not (is_same or known.code == _NOBODY)
            new.updated_at = known.updated_at if is_same else 0
        self._put(of, key, new)

    def forget(self, client: ClientId, phone: str, at: float) -> None:
        """Somebody may have it now, or nobody: the next call asks."""
        of = self._client(client)
        self._put(of, _asked_key(of, phone), _Known(_UNKNOWN, at, at))

    # -- what becomes known of a card

    def hold(self, client: ClientId, holder: Holder, at: float, *, is_news: bool = True) -> list[str]:
        """The card has these numbers and, if that is news, no others. Returns the numbers for which the CRM has to be
        asked who counts, as several cards have them."""
        of = self._client(client)
        card = (of.index, _CODES[holder.contact.kind], holder.contact.id)
        if self._news.get(card, (-inf, ()))[0] > at:
            return []
        keys = {_held_key(of, phone): phone for phone in holder.phones[:NUMBERS_OF_A_CARD] if not is_short(phone)}
        if is_news:
            self._tell(card, at, tuple(keys))
        return [phone for key, phone in keys.items() if self._hold(of, key, holder, at)]

    def gone(self, client: ClientId, kind: EntityKind, card: int, at: float) -> None:
        """There is no such card any more."""
        self._tell((self._client(client).index, _CODES[kind], card), at, ())

    # -- what becomes known of a whole client

    def begin(self, client: ClientId, at: float) -> None:
        """A pass over all its cards begins."""
        of = self._client(client)
        of.lost = False
        of.watched_since = min(of.watched_since, at)

    def caught_up(self, client: ClientId, at: float) -> None:
        """Everything that changed before `at` was told."""
        self._client(client).current_at = at

    def complete(self, client: ClientId, since: float) -> None:
        """The pass that began at `since` has met everybody."""
        of = self._client(client)
        if not of.lost:
            of.whole_since = since

    def fell_behind(self, client: ClientId) -> None:
        """Too much has changed to be told."""
        of = self._client(client)
        of.whole_since, of.watched_since = -inf, inf

    def drop(self, client: ClientId) -> None:
        """It is another account now, or none. Its numbers are met by nobody, and go as the oldest."""
        of = self._clients.pop(client, None)
        if of is not None and not of.numbers:
            del self._by_index[of.index]

    def numbers_of(self, client: ClientId) -> int:
        of = self._clients.get(client)
        return 0 if of is None else of.numbers

    def is_whole(self, client: ClientId) -> bool:
        """Whether a number that is not known is nobody's."""
        of = self._clients.get(client)
        return of is not None and of.whole_since > -inf

    # -- inside

    def _hold(self, of: _Client, key: int, holder: Holder, at: float) -> bool:
        """Returns whether the CRM has to be asked who counts."""
        new = _record(holder.contact, at, holder.updated_at)
        known = self._known(of, key)
        if known is None:
            self._put(of, key, new)
            return False
        new.met_at = max(known.met_at, at)
        if not known.is_held:
            if known.at <= at:
                new.several = known.code == _UNKNOWN
                self._put(of, key, new)
            return False
        if (known.code, known.card) == (new.code, new.card):
            if known.at <= at:
                new.several = known.several
                new.unsettled = known.several and (known.unsettled or known.updated_at != new.updated_at)
                self._put(of, key, new)
            return new.unsettled
        winner = _winner(known, new)
        winner.met_at, winner.several = new.met_at, True
        winner.unsettled = known.code == new.code or (winner is known and known.unsettled)
        self._put(of, key, winner)
        return winner.unsettled

    def _known(self, of: _Client, key: int) -> _Known | None:
        """The record, unless it was overtaken."""
        shard = self._shards[key % self.shards]
        record = shard.get(key)
        if record is None:
            return None
        known = _unpacked(record)
        outdated = known.at < of.whole_since
        if known.is_held and not outdated:
            told_at, keys = self._news.get((of.index, known.code, known.card), (-inf, ()))
            outdated = told_at > known.at and key not in keys
        if not outdated:
            return known
        somebody_else = known.several and known.met_at >= of.whole_since
        return _Known(_UNKNOWN, known.met_at, known.met_at) if somebody_else else None

    def _use(self, key: int) -> None:
        """It is the last that will go."""
        shard = self._shards[key % self.shards]
        shard[key] = shard.pop(key)

    def _put(self, of: _Client, key: int, known: _Known) -> None:
        shard = self._shards[key % self.shards]
        if shard.pop(key, None) is None:
            of.numbers += 1
        shard[key] = known.packed()
        if of.numbers > self.size_of_client:
            self._evict(shard, next(other for other in shard if other // _SPAN == of.index))
        if len(shard) > -(-self.size // self.shards):
            self._evict(shard, next(iter(shard)))

    def _evict(self, shard: dict[int, bytes], key: int) -> None:
        record = shard.pop(key)
        of = self._by_index[key // _SPAN]
        of.numbers -= 1
        if record[0] != _NOBODY:
            of.whole_since, of.lost = -inf, True
        if not of.numbers and of not in self._clients.values():
            del self._by_index[of.index]

    def _client(self, client: ClientId) -> _Client:
        of = self._clients.get(client)
        if of is None:
            self._indexes += 1
            of = self._clients[client] = self._by_index[self._indexes] = _Client(self._indexes)
        return of

    def _tell(self, card: _Card, at: float, keys: tuple[int, ...]) -> None:
        self._news.pop(card, None)
        self._news[card] = (at, keys)
        if len(self._news) > MOST_NEWS:
            del self._news[next(iter(self._news))]


def _held_key(of: _Client, phone: str) -> int:
    return _key(of, country_code(phone) or 0, phone)


def _asked_key(of: _Client, phone: str) -> int:
    """Apart for a number without its country: it may be that of a card in any country, which other numbers are not."""
    return _key(of, country_code(phone) or _NO_COUNTRY, phone)


def _key(of: _Client, country: int, phone: str) -> int:
    return of.index * _SPAN + country * _NUMBER + int("1" + last_digits(phone))


def _keys(of: _Client, phone: str) -> tuple[int, int]:
    """Where who has it may be found: under its own key, or under that of a card's number without a country."""
    asked = _asked_key(of, phone)
    return asked, of.index * _SPAN + asked % _NUMBER


def _record(contact: Contact | None, at: float, updated_at: int) -> _Known:
    if contact is None:
        return _Known(_NOBODY, at, at)
    user = contact.responsible if contact.responsible is not None else _NO_USER
    if max(contact.id, user) > _LARGEST_ID or min(contact.id, user) < _NO_USER:
        return _Known(_UNKNOWN, at, at)    # no CRM that we know has such ids
    updated_at = min(max(updated_at, 0), _LATEST)
    return _Known(_CODES[contact.kind], at, at, contact.id, user, updated_at, contact.name[:LONGEST_NAME])


def _winner(known: _Known, new: _Known) -> _Known:
    """Contacts, then companies, then deals. A choice that the CRM has made stays until it is asked anew; else who
    changed last."""
    if known.code != new.code:
        return min(known, new, key=lambda one: one.code)
    if known.several and not known.unsettled:
        return known
    return min(known, new, key=lambda one: (-one.updated_at, one.card))


def _true_at(of: _Client, known: _Known) -> float:
    """Who alone has a number has it until something is told of them. Between several, their deals may decide anew."""
    is_watched = not known.several and known.at >= of.watched_since
    return max(known.at, of.current_at) if is_watched else known.at
