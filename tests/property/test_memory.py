"""The memory of numbers against a CRM that changes at random, and against a plain model of what goes first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.cdr import ClientId
from b2bua.crm.memory import Memory
from b2bua.crm.people import Holder
from b2bua.crm.port import Contact, EntityKind
from b2bua.numbers import same_number

ACME, OTHER = ClientId("acme"), ClientId("other")
PHONES = ("+74951234567", "+494951234567", "4951234567", "+79161112233", "+375291234567", "84951234", "+12015550123")
_ORDER = list(EntityKind)


@dataclass
class World:
    """A CRM whose every change is told, in time or by the next pass, and a memory that listens."""

    random: Random
    memory: Memory = field(default_factory=Memory)
    cards: dict[tuple[EntityKind, int], Holder] = field(default_factory=dict)
    now: float = 0.0
    owners: dict[str, set[tuple[EntityKind, int]]] = field(default_factory=dict)       # that a number ever had
    untold: set[tuple[EntityKind, int]] = field(default_factory=set)   # changes that nobody told us of

    def step(self) -> None:
        self.now += self.random.choice((0.5, 1.0, 100.0))
        self.random.choice((
            self._change, self._change, self._delete, self._tell, self._pass, self._ask, self._forget, self._slow_ask,
        ))()

    def holders(self, phone: str) -> list[Holder]:
        return [one for one in self.cards.values() if any(same_number(phone, held) for held in one.phones)]

    def right(self, phone: str) -> Contact | None:
        found = sorted(self.holders(phone),
                       key=lambda one: (_ORDER.index(one.contact.kind), -one.updated_at, one.contact.id))
        return found[0].contact if found else None

    def _change(self) -> None:
        kind, card = self.random.choice(list(EntityKind)), self.random.randrange(1, 4)
        contact = Contact(kind, card, f"Имя {self.now}", self.random.choice((None, 77, 78)))
        phones = tuple(self.random.sample(PHONES, self.random.randrange(4)))
        self.cards[kind, card] = Holder(contact, phones, int(self.now))
        self.untold.add((kind, card))
        for phone in PHONES:
            if any(same_number(phone, held) for held in phones):
                self.owners.setdefault(phone, set()).add((kind, card))

    def _delete(self) -> None:
        if self.cards:
            gone = self.random.choice(list(self.cards))
            del self.cards[gone]
            self.untold.add(gone)

    def _tell(self) -> None:
        """The webhooks, or an incremental pass."""
        for card in sorted(self.untold, key=lambda one: (one[0].value, one[1])):
            holder = self.cards.get(card)
            if holder is None:
                self.memory.gone(ACME, *card, self.now)
            else:
                self.settle(self.memory.hold(ACME, holder, self.now))
        self.untold.clear()
        self.memory.caught_up(ACME, self.now)

    def _pass(self) -> None:
        self._tell()
        self.now += 1
        self.memory.begin(ACME, self.now)
        cards = list(self.cards.values())
        self.random.shuffle(cards)
        for holder in cards:
            self.settle(self.memory.hold(ACME, holder, self.now, is_news=False))
        self.memory.caught_up(ACME, self.now)
        self.memory.complete(ACME, self.now)

    def _ask(self) -> None:
        phone = self.random.choice(PHONES)
        self.memory.answer(ACME, phone, self.right(phone), self.now)

    def _slow_ask(self) -> None:
        """The answer is that of a moment before something changed, and comes after we were told of the change."""
        phone = self.random.choice(PHONES)
        answer, asked_at = self.right(phone), self.now
        self.now += 1
        self._change()
        self._tell()
        self.memory.answer(ACME, phone, answer, asked_at)

    def _forget(self) -> None:
        self.memory.forget(ACME, self.random.choice(PHONES), self.now)

    def settle(self, phones: list[str]) -> None:
        if self.random.random() < 0.5:
            for phone in phones:
                self.memory.answer(ACME, phone, self.right(phone), self.now)


@settings(max_examples=600, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_what_is_remembered_is_true_once_all_changes_are_told(seed: int, steps: int) -> None:
    world = World(Random(seed))
    for _ in range(steps):
        world.step()
        if world.untold:
            continue
        for phone in PHONES:
            known = world.memory.get(ACME, phone)
            if known is None:
                continue
            holders = [one.contact for one in world.holders(phone)]
            if known.contact is not None:
                assert known.contact in holders
                assert known.is_sure
            elif known.is_sure:
                assert not holders, phone
            if known.is_sure and len(holders) == 1:
                assert known.contact == holders[0]
            assert known.at <= world.now


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(0, 30))
def test_after_a_complete_pass_calls_wait_only_for_numbers_that_several_cards_lost(seed: int, steps: int) -> None:
    world = World(Random(seed))
    for _ in range(steps):
        world.step()
    world._pass()
    for phone in PHONES:
        lost_by_several = not world.holders(phone) and len(world.owners.get(phone, ())) > 1
        if phone.startswith("+") and not lost_by_several:
            known = world.memory.get(ACME, phone)
            assert known is not None
            assert (known.contact is None) == (world.right(phone) is None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((ACME, OTHER)), st.integers(0, 12), st.booleans()), max_size=80))
def test_the_least_recently_used_go_first(uses: list[tuple[ClientId, int, bool]]) -> None:
    memory = Memory(size=8, size_of_client=5, shards=1)
    model: OrderedDict[tuple[ClientId, int], Contact] = OrderedDict()
    for at, (client, number, puts) in enumerate(uses):
        phone, key = f"+7916111{number:04}", (client, number)
        if puts:
            contact = Contact(EntityKind.CONTACT, at + 1, f"Имя {at}", None)
            memory.answer(client, phone, contact, at)
            model.pop(key, None)
            model[key] = contact
            mine = [one for one in model if one[0] == client]
            if len(mine) > 5:
                del model[mine[0]]
            if len(model) > 8:
                model.popitem(last=False)
        else:
            known = memory.get(client, phone)
            assert (known.contact if known else None) == model.get(key)
            if key in model:
                model.move_to_end(key)
        assert len(memory) == len(model)
        assert memory.numbers_of(client) == sum(one[0] == client for one in model)


def test_who_had_to_go_is_asked_for_again_instead_of_being_nobody() -> None:
    memory = Memory(size=3, shards=1)
    memory.begin(ACME, 0)
    for number in range(4):
        contact = Contact(EntityKind.CONTACT, number + 1, "Имя", None)
        memory.hold(ACME, Holder(contact, (f"+7916111000{number}",), 1), 1, is_news=False)
    memory.caught_up(ACME, 2)
    memory.complete(ACME, 0)
    assert not memory.is_whole(ACME)
    assert memory.get(ACME, "+79161110000") is None


def test_another_account_begins_with_nothing() -> None:
    memory = Memory(size=3, shards=1)
    for number in range(3):
        memory.answer(ACME, f"+7916111000{number}", None, 1)
    memory.drop(ACME)
    assert memory.get(ACME, "+79161110000") is None
    for number in range(3):
        memory.answer(ACME, f"+7916111000{number}", None, 2)
    assert len(memory) == memory.numbers_of(ACME) == 3


def test_a_card_of_an_impossible_size_is_asked_for_again() -> None:
    memory = Memory()
    huge = Contact(EntityKind.CONTACT, 10**30, "Имя", 10**40)
    memory.answer(ACME, PHONES[0], huge, 1)
    memory.hold(ACME, Holder(huge, PHONES, 10**30), 2)
    assert memory.get(ACME, PHONES[0]) is None
    memory.hold(ACME, Holder(Contact(EntityKind.CONTACT, 1, "я" * 100_000 + "\ud800", -5), PHONES, -1), 3)
    known = memory.get(ACME, PHONES[0])
    assert known is None or known.contact is None or len(known.contact.name) <= 100
