"""Several processes, one connection, refresh tokens that are good for once, and a bad day: processes die anywhere,
answers are lost, the database and the disk fail, clocks jump. No token is sent twice unless an answer was lost, there
is never a moment without stored tokens, and what can be connected without a person is connected in the end.

FUZZ_EXAMPLES=N looks at N days that nobody has seen before.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from random import Random

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from b2bua.cdr import ClientId
from b2bua.crm.amocrm.connection import LONGEST_PROBE, OAuthConnection
from b2bua.crm.amocrm.kept import RefreshCounts
from b2bua.crm.amocrm.oauth import Integration
from b2bua.crm.port import CrmError
from b2bua.store.tokens import Connection, ConnectionState, TokenPair
from tests.support.memory_tokens import Fate, MemoryTokens, SingleUseEndpoint, Spent, TokenDatabase
from tests.support.virtual_loop import VirtualLoop

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
ACME = ClientId("acme")
PROCESSES = 3
INTEGRATION = Integration(ACME, "https://acme.amocrm.ru", "integration", "secret", "https://pbx.example.org/amocrm/oauth")
ANSWERED, ALL = [Fate.ANSWERED], list(Fate)

steps = st.one_of(
    st.tuples(st.just("request"), st.integers(0, PROCESSES - 1)),
    st.tuples(st.just("expire"), st.just(0)),
    st.tuples(st.just("unlucky"), st.sampled_from([0, 1, 30, 400])),
    st.tuples(st.just("die"), st.integers(0, PROCESSES - 1)),
    st.tuples(st.just("database"), st.sampled_from([1, 30, 400])),
    st.tuples(st.just("disk"), st.sampled_from([1, 400])),
    st.tuples(st.just("clock"), st.sampled_from([-3600, 3600])),
    st.tuples(st.just("move"), st.integers(2, 4)),
)
pauses = st.sampled_from([0.0, 0.004, 0.006, 0.05, 0.12, 0.3, 2.0, 20.0, 130.0, 4_000.0, 80_000.0])
days = st.lists(st.tuples(steps, pauses), min_size=3, max_size=25)


@dataclass
class Process:
    name: str
    connection: OAuthConnection
    task: asyncio.Task[None]


@dataclass
class World:
    loop: VirtualLoop
    random: Random
    database: TokenDatabase = field(default_factory=TokenDatabase)
    endpoint: SingleUseEndpoint = field(default_factory=SingleUseEndpoint)
    processes: list[Process] = field(default_factory=list)
    offset: float = 0.0
    deaths: dict[str, float] = field(default_factory=dict)
    had_full_disk: bool = False

    def clock(self) -> datetime:
        return self.loop.wall() + timedelta(seconds=self.offset)

    def start(self, tasks: asyncio.TaskGroup) -> Process:
        name = f"process-{len(self.deaths) + len(self.processes)}"
        connection = OAuthConnection(INTEGRATION, MemoryTokens(self.database), self.endpoint.of(name), self.clock,
                                     Random(self.random.random()), RefreshCounts())
        return Process(name, connection, tasks.create_task(run(connection)))

    async def request(self, process: Process) -> None:
        """As AmoApi does."""
        try:
            access = await process.connection.current()
            for _ in range(2):
                assert self.is_stored(access.token), "used before it was stored"
                await asyncio.sleep(0.05)
                if self.endpoint.accepts(access.token, access.base_url):
                    return
                access = await process.connection.refused(access)
        except CrmError:
            return

    def database_goes(self, seconds: float) -> None:
        self.database.is_away = True
        self.loop.call_later(seconds, setattr, self.database, "is_away", False)

    def is_stored(self, access: str) -> bool:
        """Or it was, or could be nowhere: then it must not be lost either."""
        stored = [one.tokens.access for one in (*self.database.rows.values(), *self.database.files.values())
                  if one.tokens is not None]
        return access in stored or self.database.disk_is_full or self.had_full_disk or number(access) < max(
            map(number, stored))



def number(token: str) -> int:
    return int(token.rpartition("-")[2])


async def run(connection: OAuthConnection) -> None:
    await connection.load()
    await connection.run()


async def bad_day(world: World, day: list[tuple[tuple[str, int], float]], fates: list[Fate]) -> None:
    now = world.clock()
    pair = TokenPair("access-1", "refresh-1", now, now + timedelta(days=1), now + timedelta(days=90))
    world.database.rows[ACME] = Connection(ACME, "integration", INTEGRATION.base_url, INTEGRATION.base_url, 101,
                                           "api-a.amocrm.ru", pair, now)
    world.database.answers_lost = world.random.choice([0.0, 0.0, 0.3])
    world.database.random = world.random
    world.endpoint.fate = lambda: world.random.choice(fates)
    async with asyncio.TaskGroup() as tasks:
        world.processes = [world.start(tasks) for _ in range(PROCESSES)]
        for (what, value), pause in day:
            match what:
                case "request":
                    tasks.create_task(world.request(world.processes[value]))
                case "expire":
                    world.endpoint.access = "access-0"
                    for process in world.processes:
                        for _ in range(2):
                            tasks.create_task(world.request(process))
                case "unlucky":
                    world.endpoint.on_pair = partial(world.database_goes, value)
                    world.endpoint.access = "access-0"
                    tasks.create_task(world.request(world.processes[0]))
                case "die":
                    dead = world.processes[value]
                    dead.task.cancel()
                    world.deaths[dead.name] = world.loop.time()
                    world.processes[value] = world.start(tasks)
                case "database":
                    world.database_goes(value)
                case "disk":
                    world.database.disk_is_full = world.had_full_disk = True
                    world.loop.call_later(value, setattr, world.database, "disk_is_full", False)
                case "clock":
                    world.offset += value
                case "move":
                    world.endpoint.host = f"https://acme{value}.amocrm.ru"
            await asyncio.sleep(pause)
            assert world.database.rows[ACME].tokens is not None
        world.endpoint.fate = lambda: Fate.ANSWERED
        world.database.answers_lost = 0.0
        for _ in range(4):             # it gets well by itself, or a person is asked for
            await asyncio.sleep(LONGEST_PROBE * 1.3)
            await asyncio.gather(*map(world.request, world.processes))
        for process in world.processes:
            process.connection.stop()


def check(world: World) -> None:
    check_spending(world)
    check_end(world)


def check_spending(world: World) -> None:
    by_token: dict[str, list[Spent]] = defaultdict(list)
    for spent in world.endpoint.spent:
        by_token[spent.token].append(spent)
    for token, tries in by_token.items():
        for earlier, later in pairwise(tries):
            assert earlier.is_over, f"{token} is sent by two at once"
            assert not (earlier.granted and was_told(world, earlier)), f"{token} is sent again after it came: {tries}"
            assert later.at > earlier.at


def was_told(world: World, spent: Spent) -> bool:
    """Whether its sender learnt what became of it, and had a moment to write that down somewhere."""
    died = world.deaths.get(spent.by, float("inf"))
    return spent.is_known and died > spent.at + (float("inf") if world.had_full_disk else 12.0)


def check_end(world: World) -> None:
    row = world.database.rows[ACME]
    assert row.tokens is not None
    assert row.lease == "" or world.deaths or world.database.answers_lost
    if row.tokens.refresh == world.endpoint.refresh_token:
        event("connected in the end")
        assert row.state is ConnectionState.CONNECTED
        assert row.base_url == world.endpoint.host
        assert row.tokens.access == world.endpoint.access
    else:
        event("a person is needed")
        assert any(one.granted == world.endpoint.refresh_token and not was_told(world, one)
                   for one in world.endpoint.spent), "the live tokens were lost without a loss"
        assert row.state is ConnectionState.REFUSED
        assert row.problem


@settings(max_examples=EXAMPLES or 50, deadline=None, derandomize=not EXAMPLES, database=None,
          suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
@given(day=days, fates=st.sampled_from([ANSWERED, [*ANSWERED * 2, Fate.LOST_AFTER], [*ANSWERED * 2, Fate.LOST_BEFORE],
                                        [Fate.ANSWERED, Fate.NOT_REACHED, Fate.SLOW], ALL]),
       seed=st.integers(0, 2**32))
def test_tokens_survive_a_bad_day(day: list[tuple[tuple[str, int], float]], fates: list[Fate], seed: int) -> None:
    loop = VirtualLoop(limit=1e8)
    world = World(loop, Random(seed))
    with capture_logs(), asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(bad_day(world, day, fates))
    check(world)
