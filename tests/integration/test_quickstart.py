"""The five-minute quickstart, as a reader would type it, in fresh processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

AT_A_TIME = 4
ROUNDS = 10

QUICKSTART = """\
from taskito import Queue
queue = Queue(db_path="tasks.db")

@queue.task()
def add(a: int, b: int) -> int:
    return a + b

job = add.delay(2, 3)
import threading
threading.Thread(target=queue.run_worker, daemon=True).start()
print(job.result(timeout=10))  # 5
"""

ASYNCHRONOUS = """\
import asyncio
import threading

from taskito import Queue

queue = Queue(db_path="tasks.db")

@queue.task()
def add(a: int, b: int) -> int:
    return a + b

async def main() -> None:
    job = await add.adelay(2, 3)
    threading.Thread(target=queue.run_worker, daemon=True).start()
    print(await job)

asyncio.run(main())
"""

ONLY_ASYNCHRONOUS = """\
import asyncio

from taskito import Queue

queue = Queue(db_path="tasks.db")

@queue.task()
async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b

async def main() -> None:
    worker = asyncio.create_task(queue.arun_worker())
    print(await add.delay(2, 3))
    queue.shutdown()
    await worker

asyncio.run(main())
"""


def run_once(folder: Path, program: str) -> tuple[int, str, str]:
    """Run the program as a user does: in a new folder, by its file."""
    folder.mkdir()
    (folder / "quickstart.py").write_text(program)
    # PYTHONSAFEPATH would be the tests', not the reader's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "quickstart.py"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        # The abort makes it tell where each thread is.
        process.send_signal(signal.SIGABRT)
        out, err = process.communicate()
    return process.returncode, out, err


def run_rounds(folder: Path, program: str, rounds: int) -> None:
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        ended = list(
            threads.map(lambda number: run_once(folder / str(number), program), range(rounds))
        )
    wrong = [one for one in ended if one != (0, "5\n", "")]
    assert not wrong, f"{len(wrong)} of {rounds} rounds; the first: {wrong[0]}"


@pytest.mark.parametrize("part", range(100 // ROUNDS))
def test_the_quickstart_prints_5_and_ends_without_a_word(tmp_path, part):
    run_rounds(tmp_path, QUICKSTART, ROUNDS)


@pytest.mark.parametrize("program", [ASYNCHRONOUS, ONLY_ASYNCHRONOUS])
def test_the_quickstart_in_a_coroutine_prints_5_and_ends_without_a_word(tmp_path, program):
    run_rounds(tmp_path, program, 12)


def test_the_quickstart_leaves_a_database_that_it_can_use_again(tmp_path):
    again = QUICKSTART.replace("tasks.db", str(tmp_path / "tasks.db"))
    for number in range(3):
        assert run_once(tmp_path / str(number), again) == (0, "5\n", "")
