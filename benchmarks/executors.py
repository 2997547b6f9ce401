"""How close workers come to the ideal with jobs that wait: ``python benchmarks/executors.py``.

5,000 jobs sleep 50 ms each, as functions in 50 threads and as 500 coroutines. All are in the store
before the worker starts; the time is from the first start to the last end, as the store has them.
The issue's bound is 1.3 times the ideal. Each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from taskito import Queue

SECONDS = 0.05
JOBS = 5_000
SETTINGS = {"threads": 50, "coroutines": 500}


def wait() -> None:
    """Wait as a function that talks to a slow service does."""
    time.sleep(SECONDS)


async def wait_async() -> None:
    """Wait as a coroutine that talks to a slow service does."""
    await asyncio.sleep(SECONDS)


def measure(kind: str, concurrency: int, folder: Path) -> float:
    """Return the wall time of all jobs, in units of the ideal."""
    with Queue(db_path=folder / f"{kind}.db") as queue:
        task = queue.task("wait")(wait if kind == "threads" else wait_async)
        jobs = task.map([()] * JOBS)
        with queue.worker(concurrency=concurrency, async_concurrency=concurrency):
            while queue.stats()["completed"] < JOBS:
                time.sleep(SECONDS)
        times = [job.to_dict() for job in jobs]
    took_ms = max(one["completed_at"] for one in times) - min(one["started_at"] for one in times)
    return took_ms / 1_000 / (JOBS * SECONDS / concurrency)


def main() -> None:
    """Print one line per kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    ratios: dict[str, list[float]] = {kind: [] for kind in SETTINGS}
    for _ in range(rounds):
        for kind, concurrency in SETTINGS.items():
            with tempfile.TemporaryDirectory(prefix="taskito-benchmark-") as folder:
                ratios[kind].append(measure(kind, concurrency, Path(folder)))
    for kind, concurrency in SETTINGS.items():
        median = statistics.median(ratios[kind])
        print(f"{concurrency} {kind}: {median:.2f} times the ideal (median of {rounds})")


if __name__ == "__main__":
    main()
