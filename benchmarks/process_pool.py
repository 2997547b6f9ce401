"""Measure what more child processes are worth: CPU-bound work with one child, then with more.

Run it alone: ``python benchmarks/process_pool.py``. Each figure is the median of the rounds; the
wanted ratio with two children on two processors is 1.7.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--pool", default="process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskito-benchmark-") as folder:
        os.environ["BENCHMARK_DATABASE"] = str(Path(folder) / "jobs.db")
        sys.path.insert(0, str(HERE))
        import application

        ratios = []
        for _ in range(options.rounds):
            one = measure(application, options.pool, 1, options.jobs)
            more = measure(application, options.pool, options.children, options.jobs)
            ratios.append(one / more)
            print(f"1 child: {one:.2f} s, {options.children} children: {more:.2f} s")
        no_ops = [overhead(application, options.pool) for _ in range(options.rounds)]
        application.queue.close()
    print(f"ratio (median of {options.rounds}): {statistics.median(ratios):.2f}")
    print(f"jobs that do nothing, one child: {statistics.median(no_ops):,.0f} jobs/s")


def measure(application: Any, pool: str, concurrency: int, jobs: int) -> float:
    """Return the seconds that a worker which is ready takes for CPU-bound jobs."""
    return with_worker(pool, concurrency, lambda: run(application.compute, [(1_000_000,)] * jobs))


def overhead(application: Any, pool: str) -> float:
    """Return how many jobs/s that do nothing go through one child."""
    jobs = 2_000
    return jobs / with_worker(pool, 1, lambda: run(application.add, [(1, 2)] * jobs))


def run(task: Any, calls: list[tuple[Any, ...]]) -> float:
    """Return the seconds that these calls of a task take."""
    task.map(calls[:2])[-1].result(timeout=60)  # The children are there, and warm.
    began = time.perf_counter()
    for job in task.map(calls):
        job.result(timeout=300)
    return time.perf_counter() - began


def with_worker(pool: str, concurrency: int, body: Any) -> float:
    """Return what ``body`` returns while a worker process runs."""
    command = [
        str(Path(sys.executable).with_name("taskito")),
        *("worker", "--app", "application:queue", "--app-dir", str(HERE), "--pool", pool),
        *("--concurrency", str(concurrency), "--log-level", "warning"),
    ]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        return float(body())
    finally:
        worker.terminate()
        worker.wait(40)


if __name__ == "__main__":
    main()
