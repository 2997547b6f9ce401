"""Whether a worker that runs for long grows: ``python benchmarks/churn.py``.

200,000 jobs, in thirds functions with resources, coroutines and failures, all under middleware, go
through one worker; with ``--pool process`` its children are replaced again and again. After each
batch the resident memory, the threads and the descriptors of the worker and of its children are
read, and zombies counted. What is compared is the time after the first fifth with the end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BATCH = 3_000


@dataclass(frozen=True)
class Sample:
    """What a worker and its children use."""

    memory: int
    threads: int
    descriptors: int
    zombies: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--pool", choices=("thread", "process"), default="thread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskito-benchmark-") as folder:
        os.environ["BENCHMARK_DATABASE"] = str(Path(folder) / "jobs.db")
        sys.path.insert(0, str(HERE))
        import churn_application as application

        worker = start_worker(options.pool)
        try:
            samples = churn(application, worker.pid, options.jobs)
        finally:
            worker.terminate()
            status = worker.wait(60)
            application.queue.close()
    warm = samples[len(samples) // 5 :]
    early, late = warm[: len(warm) // 4], warm[-len(warm) // 4 :]
    for name in ("memory", "threads", "descriptors"):
        before, after = (max(getattr(one, name) for one in part) for part in (early, late))
        print(
            f"{name}: {before:,} after warm-up, {after:,} at the end ({after / before:.3f} times)"
        )
    print(f"zombies: {max(one.zombies for one in samples)} at most; exit status {status}")


def start_worker(pool: str) -> subprocess.Popen[bytes]:
    """Start the worker under test."""
    command = [sys.executable, "-m", "taskito", "worker", "--app", "churn_application:queue"]
    command += ["--app-dir", str(HERE), "--concurrency", "2", "--log-level", "error"]
    if pool == "process":
        command += ["--pool", "process", "--max-tasks-per-child", "5000"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def churn(application: Any, pid: int, jobs: int) -> list[Sample]:
    """Send so many jobs through the worker and return what it used after each batch."""
    samples = []
    for start in range(0, jobs, BATCH):
        for task in application.TASKS:
            calls = [(f"{start + number}",) for number in range(BATCH // len(application.TASKS))]
            task.map(calls)
        while application.queue.stats()["pending"] > 0:
            time.sleep(0.01)
        samples.append(sample(pid))
    return samples


def sample(pid: int) -> Sample:
    """Read what the process and its children use."""
    total = Sample(0, 0, 0, 0)
    for number in (pid, *children(pid)):
        try:
            status = dict(
                line.split(":", 1)
                for line in Path(f"/proc/{number}/status").read_text().splitlines()
            )
            descriptors = sum(1 for _ in Path(f"/proc/{number}/fd").iterdir())
        except OSError:
            continue  # It has just been replaced.
        total = Sample(
            total.memory + int(status.get("VmRSS", "0 kB").split()[0]),
            total.threads + int(status["Threads"]),
            total.descriptors + descriptors,
            total.zombies + status["State"].strip().startswith("Z"),
        )
    return total


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


if __name__ == "__main__":
    main()
