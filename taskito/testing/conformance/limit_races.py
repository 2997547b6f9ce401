"""Limits raced from many processes: a claim lies between the begin and the end of its exchange.

So two claims are at most ``end of the later - begin of the earlier`` apart, and a job certainly
runs from the end of the exchange that claimed it to the begin of the one that settled it. Both hold
whatever the machine is doing, and with them the limits can be checked exactly.
"""
# ruff: noqa: D102, PLR0917 -- the name of a check says what it proves

from __future__ import annotations

import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from taskito.backends import Backend, BackendOptions, params
from taskito.backends.params import NewJob, OutcomeSuccess, Rate, TaskLimit
from taskito.testing.conformance.fixtures import BackendFactory
from taskito.testing.conformance.processes import Player, players
from taskito.testing.conformance.profiles import current_profile
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["LimitRaces"]

RACERS = 8
PATIENCE = 50.0
KEYS = ("a", "b", None)
RATE = Rate(count=20, period_ms=100, burst=5)
MOST = 2
NANOSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Hold:
    """One run as its worker saw it, in nanoseconds of a clock that all processes share.

    Attributes:
        task: What ran.
        key: Its concurrency key.
        asked: Before the exchange that claimed it.
        got: After that exchange.
        gave: Before the exchange that settled it.
    """

    task: str
    key: str | None
    asked: int
    got: int
    gave: int


class LimitRaces(Topic):
    """No race of processes gets past a limit, and none leaves a slot or a token behind."""

    stage = "concurrent"
    topic = "limits"
    needed = ("limits",)

    @needs("cross_process")
    def test_no_race_gets_past_a_limit(
        self, elsewhere: BackendFactory, options: BackendOptions
    ) -> None:
        jobs = current_profile().jobs
        there = BackendOptions(namespace=options.namespace)
        with elsewhere(there) as backend:
            backend.enqueue(
                [
                    NewJob(task="limited", concurrency_key=KEYS[number % len(KEYS)])
                    for number in range(jobs)
                ]
                + [NewJob(task="rated") for _ in range(jobs)]
            )
            made = [
                Player(race_for_slots, elsewhere, options.namespace, f"{number}", 2 * jobs)
                for number in range(RACERS)
            ]
            with players(made):
                holds = [hold for player in made for hold in player.end()[0]]
            assert sum(row.count for row in backend.counts()) == 2 * jobs
        assert len(holds) == 2 * jobs, "not every job ran once"
        assert (found := too_many_at_a_time(holds)) == [], found
        assert (found := too_many_in_a_window(holds)) == [], found


def race_for_slots(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
    seed: str,
    jobs: int,
) -> None:
    """Claim, hold and settle until all jobs are complete, whoever completed them."""
    generator = random.Random(seed)
    holds: list[Hold] = []
    held: list[tuple[params.ClaimedJob, int, int]] = []
    with factory(BackendOptions(namespace=namespace)) as backend:
        worker = _register(backend)
        keys = {row.id: row.concurrency_key for row in _everything(backend)}
        deadline = time.monotonic() + PATIENCE
        ready()
        while held or sum(row.count for row in backend.counts() if _is_done(row)) < jobs:
            assert time.monotonic() < deadline, "not all jobs were handed out in time"
            ending = held if generator.random() < 0.5 else []  # noqa: PLR2004 -- even odds
            asked = time.monotonic_ns()
            reply = backend.exchange(
                params.ExchangeRequest(
                    worker=worker,
                    settlements=tuple(
                        params.Settlement(
                            lease=job.lease,
                            outcome=OutcomeSuccess(result=b"", serializer="json"),
                            started_ago_ms=0,
                        )
                        for job, _, _ in ending
                    ),
                    want=generator.randint(1, 4),
                )
            )
            got = time.monotonic_ns()
            holds += [
                Hold(job.task, keys[job.lease.id], before, after, asked)
                for job, before, after in ending
            ]
            held = [] if ending else held
            held += [(job, asked, got) for job in reply.jobs]
            if not reply.jobs:
                time.sleep(0.001)
    tell(holds)


def too_many_at_a_time(holds: Iterable[Hold]) -> list[str]:
    """Return where more jobs of one key certainly ran at a time than allowed."""
    edges: dict[str | None, list[tuple[int, int]]] = defaultdict(list)
    for hold in holds:
        if hold.task == "limited" and hold.got < hold.gave:
            edges[hold.key] += [(hold.got, 1), (hold.gave, -1)]
    found = []
    for key, moments in edges.items():
        running = 0
        for _, change in sorted(moments):
            running += change
            if running > MOST:
                found.append(f"{running} jobs of key {key!r} ran at a time")
    return found


def too_many_in_a_window(holds: Iterable[Hold]) -> list[str]:
    """Return the windows that certainly held more claims than the rate allows."""
    claims = sorted((hold.asked, hold.got) for hold in holds if hold.task == "rated")
    found = []
    for first, (begin, _) in enumerate(claims):
        latest = 0
        for last in range(first, len(claims)):
            latest = max(latest, claims[last][1])
            # Rounded up: the store counts in whole milliseconds.
            window_ms = -(-(latest - begin) // NANOSECONDS) + 1
            allowed = RATE.burst + RATE.count * window_ms // RATE.period_ms
            if last - first + 1 > allowed:
                found.append(f"{last - first + 1} claims in {window_ms} ms, allowed are {allowed}")
    return found


def _register(backend: Backend) -> str:
    worker = uuid.uuid4().hex
    backend.register(
        params.WorkerRegistration(
            id=worker,
            pid=1,
            host="here",
            tasks=("limited", "rated"),
            lease_ms=600_000,
            limits=(
                TaskLimit(task="limited", max_concurrent=MOST),
                TaskLimit(task="rated", rate=RATE),
            ),
        )
    )
    return worker


def _everything(backend: Backend) -> list[params.JobRecord]:
    found: list[params.JobRecord] = []
    after: int | None = None
    while True:
        page = backend.list(params.ListRequest(limit=1_000, after=after))
        found += page.jobs
        after = page.next
        if after is None:
            return found


def _is_done(row: params.Count) -> bool:
    return row.state is params.JobState.COMPLETE
