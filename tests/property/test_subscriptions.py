"""Subscriptions at random: changes, refreshes, losses, ends in any order, and the watcher knows the truth at last."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sip.subscription import (
    RATE,
    Notify,
    Subscribed,
    Subscription,
    SubscriptionPolicy,
    Subscriptions,
    Watcher,
)
from tests.unit.sip.test_subscription import FLOW, OURS, left, subscribe_request

PHONES = 3
WATCHED = ("102", "103")
ACCEPTED, FORGOTTEN, LOST = 200, 481, 408

changes = st.tuples(st.just("change"), st.integers(0, 1))
subscribes = st.tuples(st.just("subscribe"), st.integers(0, PHONES - 1), st.integers(0, 1),
                       st.sampled_from([0, 60, 90, 600]))
refreshes = st.tuples(st.just("refresh"), st.integers(0, 30), st.sampled_from([0, 60, 600]), st.booleans())
answers = st.tuples(st.just("answer"), st.integers(0, 30), st.sampled_from([ACCEPTED] * 6 + [FORGOTTEN, LOST]))
passes = st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 1.0, 5.0, 70.0]))
ends = st.tuples(st.just("end"), st.integers(0, 30))
histories = st.lists(st.one_of(changes, changes, subscribes, refreshes, answers, answers, passes, ends), max_size=60)


@dataclass
class World:
    """The machine, its phones, and the NOTIFYs that are not answered yet."""

    now: float = 0.0
    truth: Counter[str] = field(default_factory=Counter)
    known: dict[Subscription, int] = field(default_factory=dict)       # what its watcher knows
    versions: dict[Subscription, int] = field(default_factory=dict)
    over: set[Subscription] = field(default_factory=set)               # the watcher has been told, or has said so
    open: list[Notify] = field(default_factory=list)
    sent_at: dict[Subscription, float] = field(default_factory=dict)
    asked: set[Subscription] = field(default_factory=set)              # their next NOTIFY may come before its time
    all: list[Subscription] = field(default_factory=list)
    tags: int = 0

    def __post_init__(self) -> None:
        self.machine = Subscriptions("dialog", "text/plain", self.document, SubscriptionPolicy())

    def document(self, subscription: Subscription) -> bytes:
        return f"{subscription.version} {self.truth[str(subscription.watched)]}".encode()

    def run(self) -> None:
        for notify in self.machine.due(self.now):
            one = notify.subscription
            assert all(other.subscription is not one for other in self.open), "two under way"
            assert one not in self.over, "told after its end"
            version, _ = map(int, notify.body.split())
            assert version > self.versions.get(one, -1)
            self.versions[one] = version
            assert one in self.asked or one.ending or self.now >= self.sent_at.get(one, -RATE) + RATE
            self.sent_at[one] = self.now
            self.asked.discard(one)
            self.open.append(notify)
            if "terminated" in dict(notify.headers)["Subscription-State"]:
                self.over.add(one)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.machine.next_timeout) is not None and due <= end:
            self.now = max(self.now, due)
            self.run()
        self.now = end
        self.run()

    def answer(self, which: int, status: int) -> None:
        if self.open:
            notify = self.open.pop(which % len(self.open))
            if status == ACCEPTED:
                self.known[notify.subscription] = int(notify.body.split()[1])
            else:
                self.over.add(notify.subscription)
            self.machine.answered(notify.subscription, subscribe_request().response(status), self.now)

    def subscribe(self, phone: int, which: int, expires: int) -> None:
        self.tags += 1
        request = subscribe_request(call_id=f"c{self.tags}", expires=expires, contact=f"<sip:p@192.0.2.{phone}>")
        outcome = self.machine.subscribe(
            request, FLOW, Watcher("acme", f"p{phone}"), WATCHED[which], f"s{self.tags}", OURS, self.now)
        assert isinstance(outcome, Subscribed)
        for one in self.machine:
            if one.watcher.number == f"p{phone}" and one.watched == WATCHED[which]:
                self.asked.add(one)        # its rivals are asked whether they are still there
        self.all.append(outcome.subscription)

    def refresh(self, which: int, expires: int, again: bool) -> None:
        if not self.all:
            return
        one = self.all[which % len(self.all)]
        number = (one.dialog.remote_seq or 0) + (not again)
        request = subscribe_request(call_id=one.dialog.call_id, to_tag=one.dialog.local_tag, cseq=number,
                                    expires=expires)
        found = self.machine.find(request)
        assert (found is None) == (one not in set(self.machine))
        if found is not None:
            outcome = self.machine.resubscribe(found, request, FLOW, self.now)
            if isinstance(outcome, Subscribed):
                assert not again
                self.asked.add(one)


@settings(max_examples=300, deadline=None)
@given(histories)
def test_whatever_happens_each_watcher_knows_the_truth_in_the_end(history: list[tuple[object, ...]]) -> None:
    world = World()
    for step in history:
        match step:
            case ("change", int(which)):
                world.truth[WATCHED[which]] += 1
                world.machine.changed(WATCHED[which], world.now)
            case ("subscribe", int(phone), int(which), int(expires)):
                world.subscribe(phone, which, expires)
            case ("refresh", int(which), int(expires), bool(again)):
                world.refresh(which, expires, again)
            case ("answer", int(which), int(status)):
                world.answer(which, status)
            case ("wait", float(seconds)):
                world.wait(seconds)
            case ("end", int(which)) if world.all:
                world.machine.end([world.all[which % len(world.all)]], "noresource", world.now)
        world.run()
        assert len(world.machine) <= len(world.all)
    for _ in range(20):                    # nothing is lost any more
        while world.open:
            world.answer(0, ACCEPTED)
        world.wait(RATE)
    for one in world.machine:
        assert world.known[one] == world.truth[str(one.watched)]
    world.wait(4000)
    for _ in range(5):
        while world.open:
            world.answer(0, ACCEPTED)
        world.wait(RATE)
    assert left(world.machine) == [0, 0, 0, 0, 0]
    assert world.machine.waiting == 0
    for one in world.all:
        assert one in world.over
