"""Measure taskito on this machine: ``make bench``.

Real processes: this one enqueues, ``taskito worker`` processes run the jobs. Figures of a shared
machine differ from run to run; compare those of one run, and repeat it before you quote any.
Each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
DURABILITIES = ("full", "normal")
IDLE_SECONDS = 5.0
SETTLE_SECONDS = 1.0
PARKED = 10_000


@dataclass(frozen=True)
class Setting:
    """One store with one durability, and how much to do with it."""

    durability: str
    jobs: int
    calls: int

    @contextmanager
    def fresh(self) -> Iterator[tuple[Any, dict[str, str]]]:
        """Yield the application on an empty database, and the environment of its workers."""
        with tempfile.TemporaryDirectory(prefix="taskito-benchmark-") as folder:
            environment = {
                **os.environ,
                "BENCHMARK_DATABASE": str(Path(folder) / "jobs.db"),
                "BENCHMARK_DURABILITY": self.durability,
            }
            application = load_application(environment)
            try:
                yield application, environment
            finally:
                application.queue.close()


def load_application(environment: dict[str, str]) -> Any:
    """Import ``application`` anew, so that each measure has a database of its own."""
    os.environ.update(environment)
    sys.path.insert(0, str(HERE))
    try:
        sys.modules.pop("application", None)
        import application

        return application
    finally:
        sys.path.remove(str(HERE))


@contextmanager
def workers(count: int, environment: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run worker processes and stop them gracefully."""
    command = [
        str(Path(sys.executable).with_name("taskito")),
        *("worker", "--app", "application:queue", "--app-dir", str(HERE), "--concurrency", "4"),
    ]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(timeout=40) for process in processes]
        if any(codes):
            raise SystemExit(f"a worker ended with exit codes {codes}")


def enqueue_one_by_one(setting: Setting) -> float:
    """Return jobs/s of ``delay`` in a loop, one thread."""
    with setting.fresh() as (application, _):
        application.add.delay(1, 2)
        began = time.perf_counter()
        for number in range(setting.calls):
            application.add.delay(number, 2)
        return setting.calls / (time.perf_counter() - began)


def enqueue_in_bulk(setting: Setting) -> float:
    """Return jobs/s of ``map`` with lists of 10,000."""
    with setting.fresh() as (application, _):
        calls = [(number, 2) for number in range(10_000)]
        lists = max(1, setting.jobs // 10_000)
        began = time.perf_counter()
        for _ in range(lists):
            application.add.map(calls)
        return lists * 10_000 / (time.perf_counter() - began)


def drain(setting: Setting, processes: int, parked: int = 0) -> float:
    """Return jobs/s of workers that find a backlog, each job checked to have completed.

    Before it stand ``parked`` jobs of a task whose rate limit lets one of them start.
    """
    with setting.fresh() as (application, environment):
        for first in range(0, parked, 10_000):
            application.hourly.map([()] * min(10_000, parked - first))
        application.add.map([(number, 2) for number in range(setting.jobs)])
        application.queue.pause("default")
        with workers(processes, environment):
            while len(application.queue.workers()) < processes:
                time.sleep(0.01)
            began = time.perf_counter()
            application.queue.resume("default")
            while application.queue.stats_by_queue("default")["completed"] < setting.jobs:
                time.sleep(0.005)
            return setting.jobs / (time.perf_counter() - began)


def beside_parked(setting: Setting, rounds: int) -> dict[str, float]:
    """Return how much slower a drain is beside parked jobs, as a ratio within each round."""
    ratios = [drain(setting, 1) / drain(setting, 1, parked=PARKED) for _ in range(rounds)]
    return {f"drain beside {PARKED:,} parked jobs (times slower)": statistics.median(ratios)}


def latencies(setting: Setting, calls: int) -> dict[str, float]:
    """Return milliseconds from enqueue to start and to result, workers and caller idle."""
    with setting.fresh() as (application, environment), workers(1, environment):
        application.now.delay().result(timeout=60)
        starts, results = [], []
        for _ in range(calls):
            time.sleep(0.02)
            began = time.clock_gettime(time.CLOCK_MONOTONIC)
            started = application.now.delay().result(timeout=60)
            results.append((time.clock_gettime(time.CLOCK_MONOTONIC) - began) * 1_000)
            starts.append((started - began) * 1_000)
        return {
            "enqueue to start, p50 (ms)": statistics.median(starts),
            "enqueue to start, p99 (ms)": statistics.quantiles(starts, n=100)[98],
            "enqueue to result, p50 (ms)": statistics.median(results),
            "enqueue to result, p99 (ms)": statistics.quantiles(results, n=100)[98],
        }


def idle_cost(setting: Setting) -> dict[str, float]:
    """Return what a worker uses while it has nothing to do."""
    with setting.fresh() as (application, environment), workers(1, environment) as processes:
        application.now.delay().result(timeout=60)
        # The log is moved into the database once, some seconds after the last job.
        time.sleep(6 + SETTLE_SECONDS)
        pid = processes[0].pid
        before = (cpu_seconds(pid), written_bytes(pid))
        time.sleep(IDLE_SECONDS)
        after = (cpu_seconds(pid), written_bytes(pid))
        return {
            "idle worker (% of a core)": (after[0] - before[0]) / IDLE_SECONDS * 100,
            "idle worker (bytes written)": float(after[1] - before[1]),
            "idle worker (MB resident)": resident_megabytes(pid),
        }


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process (proc(5), fields 14 and 15 of ``stat``)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written_bytes(pid: int) -> int:
    """Return what a process has had written to storage."""
    for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise SystemExit("this kernel does not count written bytes")


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(setting: Setting, rounds: int) -> dict[str, float]:
    """Return the median of every figure for one setting."""
    rates: dict[str, Callable[[], float]] = {
        "enqueue one by one (jobs/s)": lambda: enqueue_one_by_one(setting),
        "enqueue in bulk (jobs/s)": lambda: enqueue_in_bulk(setting),
        "drain, 1 worker process (jobs/s)": lambda: drain(setting, 1),
        "drain, 2 worker processes (jobs/s)": lambda: drain(setting, 2),
    }
    samples: dict[str, list[float]] = {name: [] for name in rates}
    for _ in range(rounds):
        for name, rate in rates.items():
            samples[name].append(rate())
    figures = {name: statistics.median(values) for name, values in samples.items()}
    return (
        figures
        | beside_parked(setting, rounds)
        | latencies(setting, setting.calls // 10)
        | idle_cost(setting)
    )


def main() -> None:
    """Measure every setting and print one table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures = {
        durability: measure(Setting(durability, arguments.jobs, arguments.calls), arguments.rounds)
        for durability in DURABILITIES
    }
    table = Table("measure", *DURABILITIES, title="taskito, SQLite, no-op task, 4 threads a worker")
    for name in figures[DURABILITIES[0]]:
        table.add_row(name, *(f"{figures[durability][name]:,.2f}" for durability in DURABILITIES))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
