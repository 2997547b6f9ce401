"""``queue.periodic`` and what can be asked of schedules."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from taskito import Queue, current_job
from taskito.backends import params
from taskito.backends.memory import MemoryBackend
from taskito.exceptions import CapabilityError, ConfigurationError, ScheduleNotFoundError
from taskito.testing import VirtualClock

NOON = int(datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp() * 1_000)
DAY = 86_400_000


@pytest.fixture(params=[":memory:", "memory://"])
def queue(request):
    place = {"backend": request.param} if "//" in request.param else {"db_path": request.param}
    with Queue(clock=VirtualClock(NOON), default_priority=3, **place) as opened:
        yield opened


def register(queue, *schedules):
    """Stand in for a worker that has this queue's code."""
    queue.backend.put_schedules(list(queue._schedules.values()))
    queue.backend.register(
        params.WorkerRegistration(
            id="0" * 32, pid=1, host="here", tasks=tuple(queue.tasks), schedules=schedules
        )
    )


def test_a_periodic_task_is_a_task_and_has_a_schedule(queue):
    @queue.periodic("30 4 * * *", "report", timezone="Europe/Paris", overlap="skip")
    def report():
        return 5

    assert report() == 5
    assert queue.tasks["report"] is report
    [schedule] = queue.list_periodic()
    assert schedule == {
        "name": "report",
        "cron": "30 4 * * *",
        "timezone": "Europe/Paris",
        "task_name": "report",
        "queue": "default",
        "catch_up": "once",
        "overlap": "skip",
        "paused": False,
        "declared": False,
        "next_run": None,
        "last_run": None,
        "last_job_id": None,
        "runs": 0,
        "skipped": 0,
        "waiting": 0,
    }
    register(queue, "report")
    [schedule] = queue.list_periodic()
    assert schedule["declared"]
    next_run = datetime(2027, 1, 2, 4, 30, tzinfo=ZoneInfo("Europe/Paris"))
    assert schedule["next_run"] == next_run.timestamp() * 1_000


def test_the_default_name_is_that_of_the_function(queue):
    @queue.periodic("@daily")
    def report(): ...

    assert report.name.endswith("report")
    assert [one["name"] for one in queue.list_periodic()] == [report.name]


def test_options_of_task_and_queue_hold_for_the_jobs(queue):
    @queue.periodic(
        "@daily", "report", (1,), {"b": 2}, "mail", max_retries=7, timeout=5, expires=60
    )
    def report(a, b): ...

    job = queue.trigger_periodic("report")
    facts = job.to_dict()
    assert (facts["queue"], facts["max_retries"], facts["timeout_ms"]) == ("mail", 7, 5_000)
    assert facts["priority"] == 3
    assert (job.schedule, job.fire_time) == ("report", datetime(2027, 1, 1, 12, tzinfo=UTC))
    [record] = queue.backend.get([job.id])
    assert record.expires_ms == NOON + 60_000


def test_an_idempotent_periodic_task_has_one_job_at_a_time(queue):
    @queue.periodic("@daily", "report", idempotent=True)
    def report(): ...

    assert queue.trigger_periodic("report").id == queue.trigger_periodic("report").id


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"cron": "61 * * * *"}, "cron: .*minute"),
        ({"cron": 5}, "cron: 5"),
        ({"cron": "@daily", "timezone": "Nowhere"}, "timezone"),
        ({"cron": "@daily", "catch_up": "twice"}, "catch_up: 'twice'"),
        ({"cron": "@daily", "overlap": None}, "overlap: None"),
        ({"cron": "@daily", "args": "abc"}, "args: 'abc'"),
        ({"cron": "@daily", "kwargs": [1]}, "kwargs"),
        ({"cron": "@daily", "queue": ""}, "queue"),
        ({"cron": "@daily", "priority": 999}, "priority: 999"),
    ],
)
def test_what_cannot_be_is_refused_at_once_by_name(queue, arguments, named):
    with pytest.raises(ConfigurationError, match=named):
        queue.periodic(**arguments)
    assert queue.list_periodic() == []


def test_an_unknown_option_is_refused_at_once(queue):
    with pytest.raises(TypeError, match="'retries' is not an option of a task"):
        queue.periodic("@daily", retries=3)


def test_pause_resume_delete(queue):
    @queue.periodic("@daily", "report")
    def report(): ...

    queue.pause_periodic("report")
    assert queue.list_periodic()[0]["paused"]
    queue.resume_periodic("report")
    assert not queue.list_periodic()[0]["paused"]
    queue.delete_periodic("report")
    assert queue.backend.schedules() == []


@pytest.mark.parametrize(
    "operation", ["pause_periodic", "resume_periodic", "delete_periodic", "trigger_periodic"]
)
def test_an_unknown_schedule_is_told_with_those_there_are(queue, operation):
    @queue.periodic("@daily", "report")
    def report(): ...

    register(queue)
    with pytest.raises(ScheduleNotFoundError, match=r"'nobody'.*report") as caught:
        getattr(queue, operation)("nobody")
    assert isinstance(caught.value, KeyError)


def test_a_backend_without_schedules_is_told_at_once():
    class Plain(MemoryBackend):
        capabilities = params_without_schedules()

    queue = Queue(backend=Plain())
    with pytest.raises(CapabilityError, match="schedules"):
        queue.periodic("@daily")
    with pytest.raises(CapabilityError, match="schedules"):
        queue.list_periodic()


def params_without_schedules():
    from dataclasses import replace

    return replace(MemoryBackend.capabilities, schedules=False)


@pytest.mark.parametrize("place", [{"db_path": ":memory:"}, {"backend": "memory://"}])
def test_a_worker_stores_its_schedules_and_runs_them(place):
    ran = threading.Event()
    seen = []

    with Queue(workers=1, **place) as queue:

        @queue.periodic("* * * * * *", "tick")
        def tick():
            seen.append((current_job.schedule, current_job.fire_time))
            ran.set()

        worker = threading.Thread(target=queue.run_worker)
        worker.start()
        assert ran.wait(10)
        queue.shutdown()
        worker.join()
        [schedule] = queue.list_periodic()
        assert schedule["runs"] >= 1
        assert not schedule["declared"]
    name, fire_time = seen[0]
    assert name == "tick"
    assert fire_time.microsecond == 0
    assert abs((datetime.now(UTC) - fire_time).total_seconds()) < 20


def test_a_job_of_no_schedule_says_so(queue):
    @queue.task()
    def add(): ...

    job = add.delay()
    assert (job.schedule, job.fire_time) == (None, None)
