"""The producer: enqueues a job per module, watches the work, fetches what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from measure import ModuleFigures
from report import LOOKS_PER_SECOND, progress_bar
from rich.console import Console
from tasks import index_module, queue
from verify import DeadLetter, QueuedIndex
from workers import WorkerProcesses

from taskito import JobResult

__all__ = ["StalledError", "enqueue", "fetch", "wait_for_end", "wait_for_workers"]

_LONGEST_STALL = 60.0


class StalledError(Exception):
    """Nothing happens any more, although no worker has ended."""


def wait_for_workers(count: int, workers: WorkerProcesses) -> None:
    """Wait until all worker processes have registered with the queue.

    Raises:
        WorkerProcessesError: One ended instead.
        StalledError: They have not within a minute.
    """
    deadline = time.monotonic() + _LONGEST_STALL
    while len(queue.workers()) < count:
        workers.check()
        if time.monotonic() > deadline:
            raise StalledError(
                f"{len(queue.workers())} of {count} workers have started in {_LONGEST_STALL:.0f} s"
            )
        time.sleep(1 / LOOKS_PER_SECOND)


def enqueue(names: Sequence[str]) -> list[JobResult[ModuleFigures]]:
    """Enqueue one job per module, all in one atom; returns when they are stored."""
    return index_module.map([(name,) for name in names])


def wait_for_end(count: int, workers: WorkerProcesses, console: Console) -> None:
    """Show a progress bar until all `count` jobs have ended.

    Raises:
        WorkerProcessesError: A worker ended meanwhile.
        StalledError: For a minute no job has ended.
    """
    ended, last_change = 0, time.monotonic()
    with progress_bar(console) as progress:
        bar = progress.add_task("Workers index", total=count, note="")
        while ended < count:
            time.sleep(1 / LOOKS_PER_SECOND)
            stats = queue.stats()
            if stats["completed"] + stats["dead"] + stats["cancelled"] != ended:
                ended = stats["completed"] + stats["dead"] + stats["cancelled"]
                last_change = time.monotonic()
            note = f"{stats['running']} running, {stats['failed']} to retry, {stats['dead']} dead"
            progress.update(bar, completed=ended, note=note)
            if ended < count:
                workers.check()
            if time.monotonic() - last_change > _LONGEST_STALL:
                raise StalledError(f"no job has ended for {_LONGEST_STALL:.0f} s: {stats}")


def fetch(names: Sequence[str], jobs: Sequence[JobResult[ModuleFigures]]) -> QueuedIndex:
    """Fetch the result of every job that completed, and the dead letters."""
    stats = queue.stats()
    names_by_id = {job.id: name for name, job in zip(names, jobs, strict=True)}
    dead_letters = {
        names_by_id[letter["id"]]: DeadLetter(letter["error"], len(queue.job_errors(letter["id"])))
        for letter in queue.dead_letters(limit=len(jobs))
    }
    figures = {
        name: job.result(timeout=10)
        for name, job in zip(names, jobs, strict=True)
        if name not in dead_letters
    }
    return QueuedIndex(figures, dead_letters, stats)
