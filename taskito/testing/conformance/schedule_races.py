"""Schedules raced by many processes: each fire makes exactly one job."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from taskito.backends import BackendOptions, params
from taskito.schedule import Schedule
from taskito.testing.conformance.fixtures import BackendFactory
from taskito.testing.conformance.processes import Player, players
from taskito.testing.conformance.profiles import current_profile
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["ScheduleRaces"]

RACERS = 8
NAMES = tuple(f"schedule-{number}" for number in range(12))
EACH_SECOND = "* * * * * *"
SECONDS = {"quick": 2, "ci": 4, "thorough": 20}


class ScheduleRaces(Topic):
    """No race of processes doubles or loses a fire."""

    stage = "concurrent"
    topic = "schedule"
    needed = ("schedules",)

    @needs("cross_process")
    def test_each_fire_makes_one_job_whoever_does_the_upkeep(
        self, elsewhere: BackendFactory, options: BackendOptions
    ) -> None:
        with elsewhere(BackendOptions(namespace=options.namespace)) as backend:
            # Every fire is made, however late a busy machine comes to it.
            backend.put_schedules(
                [
                    params.NewSchedule(
                        name=name,
                        line=EACH_SECOND,
                        catch_up=params.CatchUp.ALL,
                        job=params.NewJob(task="add"),
                    )
                    for name in NAMES
                ]
            )
            begins = {record.name: record.next_ms for record in backend.schedules()}
            made = [
                Player(do_upkeep, elsewhere, options.namespace, SECONDS[current_profile().name])
                for _ in range(RACERS)
            ]
            with players(made):
                fired = sum(count for player in made for count in player.end())
            found: dict[str, Counter[int | None]] = {name: Counter() for name in NAMES}
            page = backend.list(params.ListRequest(limit=10_000))
            for job in page.jobs:
                found[job.schedule or ""][job.fire_ms] += 1
            ends = {record.name: record.next_ms for record in backend.schedules()}
        assert fired == len(page.jobs), f"{fired} fires were told, {len(page.jobs)} jobs are there"
        for name in NAMES:
            first, end = begins[name], ends[name]
            assert first is not None
            assert end is not None
            expected = Counter(Schedule(EACH_SECOND).between(first - 1, end - 1))
            assert found[name] == expected, f"{name}: {found[name]}, not {expected}"
            assert len(expected) >= SECONDS[current_profile().name] - 1, "hardly anything fired"


def do_upkeep(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
    seconds: int,
) -> None:
    """Declare the schedules and do upkeep without a pause; tell how many jobs that made."""
    with factory(BackendOptions(namespace=namespace)) as backend:
        worker = params.WorkerRegistration(
            id=uuid.uuid4().hex, pid=1, host="here", tasks=("add",), schedules=NAMES
        )
        backend.register(worker)
        ready()
        deadline = time.monotonic() + seconds
        fired = 0
        while time.monotonic() < deadline:
            fired += backend.maintain(5).fired
            time.sleep(0.001)
        tell(fired)
        backend.unregister(worker.id)
