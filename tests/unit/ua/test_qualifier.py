"""Who is asked how often, and what an answer, a late one and none say of a phone; on virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from random import Random

import pytest

from b2bua.cdr import ClientId
from b2bua.sip.bindings import Binding, Reachability
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.headers import Headers
from b2bua.sip.message import Response
from b2bua.sip.uri import Uri
from b2bua.ua.qualifier import MOST_A_SECOND, PATIENCE, SECOND_TRY, Qualifier
from b2bua.ua.registrar import ExtensionKey
from tests.support.virtual_loop import VirtualLoop

HERE = Address("192.0.2.1", 5060)
KEY = (ClientId("firm"), "101")

Answer = Callable[[Uri, int], tuple[int, float]]        # to the n-th OPTIONS: status, and after how long


def phone(user: str, path: tuple[str, ...] = ()) -> Binding:
    flow = Flow(Transport.UDP, HERE, Address("192.0.2.7", 5060))
    return Binding(Uri.sip(user, "192.0.2.7"), flow, False, 1e9, 0.0, "call", 1, path=path)


class Bound:
    """The registrar's part in it."""

    def __init__(self, *phones: Binding) -> None:
        self.phones = list(phones)
        self.found: list[tuple[str, Reachability]] = []

    def bound(self, now: float) -> list[tuple[ExtensionKey, Binding]]:
        return [(KEY, phone) for phone in self.phones]

    def mark(self, key: ExtensionKey, binding: Binding, reachability: Reachability) -> None:
        assert key == KEY
        self.found.append((binding.uri.user, reachability))


class Wire:
    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[float, str]] = []
        self.routes: list[list[str]] = []
        self.open = self.most_open = 0
        self._answer = answer

    async def ask(
        self, flow: Flow, method: str, uri: Uri, *, from_: NameAddr, to: NameAddr,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Response:   # fmt: skip
        assert method == "OPTIONS"
        self.asked.append((self.now(), uri.user))
        self.routes.append([value for name, value in headers if name == "Route"])
        status, after = self._answer(uri, Counter(user for _, user in self.asked)[uri.user])
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(after)
        finally:
            self.open -= 1
        return Response(status, None, Headers([]))

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def on_virtual_time(test: Callable[[], Coroutine[object, object, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())


def watched(bound: Bound, answer: Answer, seconds: float, every: float = 60.0) -> Wire:
    wires: list[Wire] = []

    async def story() -> None:
        wires.append(Wire(answer))
        qualifier = Qualifier(bound, wires[0], Random(1), every=every)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(seconds):
                await qualifier.run()
        except TimeoutError:
            return

    on_virtual_time(story)
    return wires[0]


@pytest.mark.parametrize(
    ("status", "after", "found"),
    [
        (200, 0.05, Reachability.REACHABLE),
        (404, 0.05, Reachability.REACHABLE),                # a refusal comes from somebody alive
        (200, 1.5, Reachability.LAGGED),
        (200, PATIENCE + 1, Reachability.UNREACHABLE),
        (408, 32.0, Reachability.UNREACHABLE),
        (503, 0.0, Reachability.UNREACHABLE),               # its connection is gone, or the datagram bounced
    ],
)
def test_what_an_answer_says_of_the_phone(status: int, after: float, found: Reachability) -> None:
    bound = Bound(phone("a"))
    watched(bound, lambda uri, nth: (status, after), seconds=110)
    assert bound.found[0] == ("a", found)


def test_one_unanswered_question_is_asked_again_before_it_counts() -> None:
    bound = Bound(phone("a"))
    wire = watched(bound, lambda uri, nth: (200, 0.05) if nth == 2 else (408, 32.0), seconds=90)
    assert bound.found == [("a", Reachability.REACHABLE)]
    (first, _), (second, _) = wire.asked
    assert second - first == pytest.approx(PATIENCE + SECOND_TRY)


def test_every_phone_is_asked_once_a_period_evenly_spread_and_never_quite_in_step() -> None:
    bound = Bound(*[phone(str(number)) for number in range(30)])
    wire = watched(bound, lambda uri, nth: (200, 0.05), seconds=600)
    times = Counter(user for _, user in wire.asked)
    assert len(times) == 30
    assert all(9 <= count <= 11 for count in times.values())
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(wire.asked)]
    assert 1.5 < min(gaps) < max(gaps) < 2.5
    assert len(set(gaps)) > 100


def test_thousands_of_dead_phones_are_asked_at_a_bounded_rate() -> None:
    bound = Bound(*[phone(str(number)) for number in range(6000)])
    wire = watched(bound, lambda uri, nth: (408, 32.0), seconds=100)
    a_second = Counter(int(at) for at, _ in wire.asked)
    assert max(a_second.values()) <= 2.5 * MOST_A_SECOND    # what is asked again among them
    assert wire.most_open <= 500


def test_the_question_goes_the_way_that_calls_go() -> None:
    hops = ("<sip:edge.test;lr>",)
    wire = watched(Bound(phone("a", hops)), lambda uri, nth: (200, 0.0), seconds=80)
    assert wire.routes == [list(hops)]


def test_without_a_period_nobody_is_asked() -> None:
    assert watched(Bound(phone("a")), lambda uri, nth: (200, 0.0), seconds=600, every=0.0).asked == []


def test_phones_that_come_later_are_asked_too() -> None:
    bound = Bound()

    async def story() -> None:
        wire = Wire(lambda uri, nth: (200, 0.0))
        qualifier = Qualifier(bound, wire, Random(1), every=60.0)  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(qualifier.run())
            await asyncio.sleep(100)
            bound.phones.append(phone("late"))
            await asyncio.sleep(80)
            running.cancel()
        assert bound.found == [("late", Reachability.REACHABLE)]

    on_virtual_time(story)


def test_a_fault_of_ours_with_one_phone_is_that_phones_alone(caplog: pytest.LogCaptureFixture) -> None:
    def answer(uri: Uri, nth: int) -> tuple[int, float]:
        if uri.user == "bad":
            raise ValueError("a bug")
        return 200, 0.0

    bound = Bound(phone("bad"), phone("good"))
    watched(bound, answer, seconds=100)
    assert bound.found
    assert {user for user, _ in bound.found} == {"good"}
    assert "phone not asked" in caplog.text
