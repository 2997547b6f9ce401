"""A month on a virtual clock: many schedules, retries and expiries, over a change of the clock.

Ground truth is cronsim, and arithmetic on what the played tasks did; neither is ours.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from taskito.backends import BackendOptions, params
from taskito.backends.memory import MemoryBackend
from taskito.backends.params import ErrorKind, JobState
from taskito.backends.sqlite import SqliteBackend
from taskito.testing import VirtualClock

BEGIN = datetime(2027, 3, 1, tzinfo=UTC)
END = datetime(2027, 4, 1, tzinfo=UTC)
WORKER = "0" * 32
LINES = (
    "0 * * * *",
    "30 2 * * *",
    "15 1,2,3 * * *",
    "*/30 1-3 * * *",
    "0 0 13 * fri",
    "45 23 */5 * *",
    "0 9 * * mon-fri",
    "20 4 1 * *",
)
ZONES = ("UTC", "Europe/Paris", "America/Chicago", "Australia/Sydney", "Asia/Kolkata")
RETRY_MS = 45_000
EXPIRES_MS = 600_000


def milliseconds(moment):
    return int(moment.timestamp()) * 1_000


def truth():
    """Every fire of the month by schedule, told by cronsim."""
    fires = {}
    for line in LINES:
        for zone in ZONES:
            found = []
            for at in CronSim(line, BEGIN.astimezone(ZoneInfo(zone))):
                if at.astimezone(UTC) > END:
                    break
                found.append(milliseconds(at))
            fires[f"{line} in {zone}"] = found
    return fires


@pytest.fixture(params=["memory", "sqlite"])
def backend(request, tmp_path):
    clock = VirtualClock(milliseconds(BEGIN))
    options = BackendOptions(clock=clock, durability="off")
    if request.param == "memory":
        made = MemoryBackend("", options)
    else:
        made = SqliteBackend(str(tmp_path / "tasks.db"), options)
    with made as opened:
        yield opened, clock


def fails_once(fire_ms):
    """Whether the first attempt for this fire fails."""
    return fire_ms // 60_000 % 4 == 0


def expires(fire_ms):
    """Whether nobody is there to run the job of this fire in time."""
    return fire_ms // 3_600_000 % 7 == 0


def declare(backend):
    backend.put_schedules(
        [
            params.NewSchedule(
                name=f"{line} in {zone}",
                line=line,
                timezone=zone,
                job=params.NewJob(task="work", max_retries=1, expires_in_ms=EXPIRES_MS),
            )
            for line in LINES
            for zone in ZONES
        ]
    )
    backend.register(
        params.WorkerRegistration(
            id=WORKER,
            pid=1,
            host="here",
            tasks=("work",),
            lease_ms=3_600_000,
            schedules=tuple(record.name for record in backend.schedules()),
        )
    )


def work(backend, now_ms):
    """Run what can be run; return how many attempts were made for each fire."""
    attempts = Counter()
    if expires(now_ms):
        return attempts
    while True:
        reply = backend.exchange(params.ExchangeRequest(worker=WORKER, want=50))
        if not reply.jobs:
            return attempts
        settlements = []
        for job in reply.jobs:
            attempts[job.schedule, job.fire_ms] += 1
            if job.attempt == 0 and fails_once(job.fire_ms):
                outcome = params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=RETRY_MS)
            else:
                outcome = params.OutcomeSuccess(result=b"", serializer="json")
            settlements.append(
                params.Settlement(lease=job.lease, outcome=outcome, started_ago_ms=0)
            )
        backend.exchange(params.ExchangeRequest(worker=WORKER, settlements=tuple(settlements)))


def test_a_month_is_exactly_as_it_should_be(backend):
    backend, clock = backend
    declare(backend)
    attempts = Counter()
    lateness = Counter()
    end_ms = milliseconds(END)
    while True:
        reply = backend.maintain(1_000)
        attempts += work(backend, clock.wall_ms())
        # From one instant at which something happens to the next, as a dispatcher sleeps.
        waits = [reply.next_due_ms, backend.maintain(1_000).next_due_ms]
        wait_ms = min(wait for wait in waits if wait is not None) or 1
        if clock.wall_ms() + wait_ms > end_ms + EXPIRES_MS:
            break
        clock.advance(wait_ms)

    expected = {name: [at for at in fires if at <= end_ms] for name, fires in truth().items()}
    found = {name: [] for name in expected}
    after = None
    while True:
        page = backend.list(params.ListRequest(limit=10_000, after=after))
        for job in page.jobs:
            if job.fire_ms <= end_ms:
                found[job.schedule].append(job)
                lateness[job.created_ms - job.fire_ms] += 1
        if page.next is None:
            break
        after = page.next

    assert {name: [job.fire_ms for job in reversed(jobs)] for name, jobs in found.items()} == (
        expected
    )
    assert set(lateness) == {0}, f"jobs came late: {lateness}"
    for name, jobs in found.items():
        for job in jobs:
            # A job can start while its hour is one in which somebody works, or the next begins.
            chance = not expires(job.fire_ms) or not expires(job.fire_ms + EXPIRES_MS - 1)
            runs = attempts[name, job.fire_ms]
            if not expires(job.fire_ms):
                assert job.state is JobState.COMPLETE, (name, job)
                assert (runs, job.attempt) == ((2, 1) if fails_once(job.fire_ms) else (1, 0))
            elif not chance:
                assert (job.state, job.reason, runs) == (JobState.CANCELLED, "expired", 0)
                assert job.finished_ms == job.fire_ms + EXPIRES_MS
    total = sum(len(fires) for fires in expected.values())
    assert total > 5_000
    states = Counter(job.state for jobs in found.values() for job in jobs)
    assert states[JobState.COMPLETE] + states[JobState.CANCELLED] == total
    assert states[JobState.CANCELLED] > 500


def test_the_month_has_the_changes_of_the_clock_that_it_is_about():
    paris = truth()["30 2 * * * in Europe/Paris"]
    gap = datetime(2027, 3, 28, 1, tzinfo=UTC)
    assert milliseconds(gap) in paris
    assert len(paris) == 31
    chicago = datetime(2027, 3, 14, 8, tzinfo=UTC)
    assert milliseconds(chicago) in truth()["30 2 * * * in America/Chicago"]
    assert timedelta(days=31) == END - BEGIN
