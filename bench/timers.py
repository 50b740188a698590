"""What one deadline costs beside a hundred, ten thousand and a hundred thousand others: `python -m bench.timers`."""

from __future__ import annotations

import argparse
import gc
import random
from collections.abc import Callable
from time import perf_counter

from b2bua.sip.timers import Deadline, Deadlines, Timer

ROUNDS = 50_000
RATE = 10_000                   # deadlines a second in the running stack
LINGERING = (100, 10_000, 100_000)


def with_lingering(count: int) -> Deadlines:
    """As in a busy stack: others that have up to 32 s left, armed at any moment."""
    deadlines = Deadlines()
    seeded = random.Random(1)
    owner = object()
    for _ in range(count):
        deadlines.arm(seeded.uniform(0.0, 32.0) + ROUNDS / RATE, owner, Timer.J)
    return deadlines


def arm_and_cancel(deadlines: Deadlines) -> float:
    owner = object()
    started = perf_counter()
    for step in range(ROUNDS):
        now = step / RATE
        deadlines.disarm(deadlines.arm(now + 0.5, owner, Timer.A))
    return perf_counter() - started


def arm_and_fire(deadlines: Deadlines) -> float:
    """Each is armed for 0.5 s ahead, and the stack asks for due ones and for the next at every step."""
    owner = object()
    fired: list[Deadline] = []
    started = perf_counter()
    for step in range(ROUNDS):
        now = step / RATE
        deadlines.arm(now + 0.5, owner, Timer.A)
        fired.extend(deadlines.due(now))
        assert deadlines.next is not None
    elapsed = perf_counter() - started
    assert len(fired) > ROUNDS * 0.8
    return elapsed


def nanoseconds(run: Callable[[Deadlines], float], lingering: int) -> float:
    gc.collect()
    return min(run(with_lingering(lingering)) for _ in range(3)) / ROUNDS * 1e9


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"{'lingering':>10} {'arm + cancel':>14} {'arm + fire':>14}")
    for lingering in LINGERING:
        cancel, fire = nanoseconds(arm_and_cancel, lingering), nanoseconds(arm_and_fire, lingering)
        print(f"{lingering:>10} {cancel:>11.0f} ns {fire:>11.0f} ns")


if __name__ == "__main__":
    main()
