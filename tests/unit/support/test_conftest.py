"""What an `async def` test leaves behind makes it fail."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = '''
import asyncio, contextlib, subprocess
import pytest

@contextlib.asynccontextmanager
async def opened():
    yield asyncio.get_running_loop()

@pytest.fixture
def loop():
    return opened()

async def test_passes_with_an_async_fixture(loop):
    assert loop is asyncio.get_running_loop()

async def test_leaves_a_task():
    asyncio.get_running_loop().create_task(asyncio.sleep(100))

async def test_leaves_a_transport():
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))

async def test_leaves_an_unseen_error():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)

def test_leaves_a_child_process():
    global child
    child = subprocess.Popen(["sleep", "60"])

def test_passes_after_it():
    child.kill()
    child.wait()

@pytest.mark.patience(0.01)
async def test_waits_for_ever():
    await asyncio.Event().wait()
'''


def test_whatever_a_test_leaves_behind_makes_it_fail(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-p", "no:anyio", "-p",
         "tests.conftest", "--rootdir", tmp_path, tmp_path],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=60, check=False,
    )
    verdicts = {line.split("::")[1].split()[0]: line.split()[0] for line in done.stdout.splitlines() if "::" in line}
    assert verdicts == {
        "test_passes_with_an_async_fixture": "PASSED",
        "test_leaves_a_task": "FAILED",
        "test_leaves_a_transport": "FAILED",
        "test_leaves_an_unseen_error": "FAILED",
        "test_leaves_a_child_process": "FAILED",
        "test_passes_after_it": "PASSED",
        "test_waits_for_ever": "FAILED",
    }, done.stdout
