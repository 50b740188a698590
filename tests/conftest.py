"""Runs `async def` tests, under tests/scenario on the virtual loop and on a real one elsewhere, and lets none of
them leave anything behind: no task, no open transport, no child process, no error that nobody saw.

A fixture that returns an async context manager is entered on the test's own loop, around the test.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
import uvloop

from tests.support.virtual_loop import Deadlock, VirtualLoop

PATIENCE = 60.0                       # seconds that a test on a real loop may take, unless @pytest.mark.patience(n)
CLOSING_PASSES = 20                   # turns of the loop in which what was closed may finish closing
OUTLIVES_TESTS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")     # the interpreter's own

# A busy machine is no fault.
hypothesis.settings.register_profile("no deadlines", hypothesis.settings(deadline=None))
hypothesis.settings.load_profile("no deadlines")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "patience(seconds): how long this test may take, on its own loop's clock")
    config.addinivalue_line("markers", "both_loops: run on asyncio's own loop, and on uvloop as the daemon does")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("both_loops") and inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_of_test")
        metafunc.parametrize("loop_of_test", ("asyncio", "uvloop"))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    before = _children()
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        outcome = yield
    else:
        _run(pyfuncitem)
        pyfuncitem.obj, test = _already_run, pyfuncitem.obj
        try:
            outcome = yield
        finally:
            pyfuncitem.obj = test
    if left := _children() - before:
        pytest.fail("child processes left behind: " + ", ".join(sorted(map(_command, left))), pytrace=False)
    return outcome


def _already_run(**_: object) -> None:
    """Stands in for an `async def` test that has been run already."""


def _run(item: pytest.Function) -> None:
    arguments = {name: item.funcargs[name] for name in inspect.signature(item.obj).parameters}
    marker = item.get_closest_marker("patience")
    if "scenario" in item.path.parts:
        loop: asyncio.AbstractEventLoop = VirtualLoop(*(marker.args if marker else ()))
        patience = None               # the loop has its own, and a timer of ours would hide a deadlock
    else:
        loop = uvloop.new_event_loop() if item.funcargs.get("loop_of_test") == "uvloop" else asyncio.SelectorEventLoop()
        patience = marker.args[0] if marker else PATIENCE
    troubles: list[str] = []
    loop.set_exception_handler(lambda _, context: troubles.append(_describe(context)))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            left = runner.run(_supervised(item.obj, arguments, patience))
        except Deadlock:
            _abandon(loop)
            raise
    if left or troubles:
        pytest.fail("\n".join(["left behind:", *left, *troubles]), pytrace=False)


async def _supervised(
    test: Callable[..., Awaitable[None]], arguments: dict[str, Any], patience: float | None
) -> list[str]:
    """Run the test, then say what it has left."""
    async with asyncio.timeout(patience), AsyncExitStack() as fixtures:
        for name, value in arguments.items():
            if isinstance(value, AbstractAsyncContextManager):
                arguments[name] = await fixtures.enter_async_context(value)
        await test(**arguments)
    loop = asyncio.get_running_loop()
    for _ in range(CLOSING_PASSES):
        if not (left := [*_tasks(), *_transports(loop)]):
            return []
        await asyncio.sleep(0)
    return left


def _tasks() -> Iterable[str]:
    return (f"task {task!r}" for task in asyncio.all_tasks() if task is not asyncio.current_task())


def _transports(loop: asyncio.AbstractEventLoop) -> Iterable[str]:
    """What the loop still watches beside its own wake-up socket; uvloop tells by ResourceWarning instead."""
    if not isinstance(loop, asyncio.SelectorEventLoop):
        return []
    watched = loop._selector.get_map().values()     # type: ignore[attr-defined]
    wake_up = loop._ssock.fileno()                  # type: ignore[attr-defined]
    return [f"transport {key.data!r}" for key in watched if key.fd != wake_up]


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Let go of deadlocked tasks one by one, as waiting for them would only deadlock again."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    try:
        loop.run_until_complete(asyncio.sleep(0))
    except Deadlock:
        return


def _describe(context: dict[str, Any]) -> str:
    problem = context.get("exception")
    return f"{context['message']}: {problem!r}" if problem else str(context["message"])


def _children() -> set[int]:
    try:
        tasks = list(Path("/proc/self/task").iterdir())
        pids = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    except OSError:                   # not Linux, or a kernel without that file
        pids = {child.pid for child in psutil.Process().children()}
    return {pid for pid in pids if not any(name in _command(pid) for name in OUTLIVES_TESTS)}


def _command(pid: int) -> str:
    try:
        return f"{pid} " + " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return str(pid)
