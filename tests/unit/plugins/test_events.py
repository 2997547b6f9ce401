"""What plugins are told of jobs, and what they can do to them: nothing."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from taskito import Queue, Reject, Snooze, TaskFailedError, current_job
from taskito.backends.memory import MemoryBackend
from taskito.plugins import events, hookimpl, observing
from taskito.plugins.events import (
    JobCancelled,
    JobDead,
    JobEnqueued,
    JobEvent,
    JobFinished,
    JobLost,
    JobRetried,
    JobSnoozed,
    JobStarted,
    QueuePaused,
    QueueResumed,
    WorkerStarted,
    WorkerStopped,
)
from taskito.plugins.manager import PluginManager
from taskito.plugins.observing import Publisher, publisher
from taskito.serializers import MsgpackSerializer
from taskito.worker import WorkerConfig
from taskito.worker.observed import ObservedRunner
from taskito.worker.runner import OutcomeTypes


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.batches = []

    @hookimpl
    def taskito_on_events(self, events):
        self.batches.append(events)

    @property
    def events(self):
        return [event for batch in self.batches for event in batch]

    def kinds(self, job):
        return [
            type(event)
            for event in self.events
            if isinstance(event, JobEvent) and event.job_id == job.id
        ]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def observed(recorder, monkeypatch):
    """A queue on SQLite that the recorder observes."""
    told = Publisher([("recorder", recorder.taskito_on_events)])
    monkeypatch.setattr("taskito.app.queue.publisher", lambda: told)
    with Queue(db_path=":memory:", workers=2) as queue:
        queue.told = told
        yield queue


def work(queue):
    thread = threading.Thread(target=queue.run_worker, daemon=True)
    thread.start()
    return thread


def test_the_life_of_a_job_that_completes(observed, recorder):
    double = observed.task(name="double", queue="numbers")(lambda n: 2 * n)
    before = time.time()
    job = double.delay(1)
    work(observed)
    assert job.result(timeout=20) == 2
    assert observed.told.flush(10)
    assert recorder.kinds(job) == [JobEnqueued, JobStarted, JobFinished]
    finished = recorder.events[-1]
    assert (finished.task, finished.queue, finished.attempt) == ("double", "numbers", 0)
    assert before - 1 <= finished.at_ms / 1000 <= time.time() + 1
    assert 0 <= finished.duration < 20
    assert len(finished.worker) == 32


def test_retries_snoozes_and_the_end_as_a_dead_letter(observed, recorder):
    steps = iter([Snooze(0), ValueError("first"), ValueError("second")])

    @observed.task(name="brittle", max_retries=1, retry_delays=[0], retry_jitter=False)
    def brittle():
        raise next(steps)

    job = brittle.delay()
    work(observed)
    with pytest.raises(TaskFailedError):
        job.result(timeout=20)
    assert observed.told.flush(10)
    assert recorder.kinds(job) == [
        JobEnqueued,
        *(JobStarted, JobSnoozed),
        *(JobStarted, JobRetried),
        *(JobStarted, JobDead),
    ]
    errors = [event.error for event in recorder.events if isinstance(event, JobRetried | JobDead)]
    assert errors == ["ValueError: first", "ValueError: second"]


@pytest.mark.parametrize("how", ["reject", "unreadable"])
def test_what_is_not_retried_is_dead_at_once(observed, recorder, how):
    @observed.task(name="work", max_retries=5)
    def never():
        raise Reject("no")

    if how == "reject":
        job = never.delay()
    else:
        from taskito.backends.params import NewJob

        answer = observed.backend.enqueue([NewJob(task="work", payload=b"\xc1")])[0]
        job = observed.get_job(answer.id)
    work(observed)
    with pytest.raises(TaskFailedError):
        job.result(timeout=20)
    assert observed.told.flush(10)
    assert recorder.kinds(job)[-2:] == [JobStarted, JobDead]


def test_a_timeout_is_told_when_it_happens_and_the_late_end_is_not(observed, recorder):
    release = threading.Event()

    @observed.task(name="slow", timeout=0.1, max_retries=0)
    def slow():
        release.wait(20)

    job = slow.delay()
    work(observed)
    with pytest.raises(TaskFailedError):
        job.result(timeout=20)
    release.set()
    observed.shutdown()
    observed._stop_workers()
    assert observed.told.flush(10)
    # The worker's thread reads the notice in its own time.
    while len(recorder.kinds(job)) < 3:
        time.sleep(0.01)
    assert recorder.kinds(job) == [JobEnqueued, JobStarted, JobDead]


@pytest.mark.parametrize("noticed_first", [True, False])
def test_a_lost_lease_is_told_and_the_late_end_is_not(recorder, noticed_first):
    """Straight at the runner: a lease is lost only if a whole machine stands still."""
    told = Publisher([("recorder", recorder.taskito_on_events)])
    run = types.SimpleNamespace(
        id="job-1", token=7, task="t", queue="q", attempt=0, max_retries=3, abandoned=lambda: True
    )
    outcomes = OutcomeTypes(*(lambda *given: given for _ in range(4)))
    config = WorkerConfig(
        serializers={"msgpack": MsgpackSerializer()},
        serializer=MsgpackSerializer(),
        decode_metadata=lambda _: {},
    )
    runner = ObservedRunner(told, {}, config, outcomes, sink=None, worker="w" * 32)

    notice = types.SimpleNamespace(kind="lost", job_id="job-1", message="gone")

    def lose(*_arguments):
        if noticed_first:
            runner.noticed(notice)
        return "outcome"

    runner._run = lose
    runner.run(run, None)
    if not noticed_first:
        runner.noticed(notice)
    assert told.flush(10)
    assert [type(event) for event in recorder.events] == [JobStarted, JobLost]
    assert recorder.events[1].error == "gone"


def test_cancelling_waiting_and_running_jobs(observed, recorder):
    started = threading.Event()

    @observed.task(name="patient")
    def patient():
        started.set()
        while True:
            current_job.check_cancelled()
            time.sleep(0.01)

    waiting = patient.apply_async(delay=3600)
    assert observed.cancel_job(waiting.id)
    running = patient.delay()
    work(observed)
    assert started.wait(20)
    assert observed.cancel_running_job(running.id)
    while running.status != "cancelled":
        time.sleep(0.01)
    assert observed.told.flush(10)
    assert recorder.kinds(waiting) == [JobEnqueued, JobCancelled]
    assert recorder.kinds(running) == [JobEnqueued, JobStarted, JobCancelled]


def test_a_call_that_yields_an_existing_job_is_no_event(observed, recorder):
    observed.task(name="work")(print)
    first = observed.enqueue("work", unique_key="k")
    assert observed.enqueue("work", unique_key="k") == first
    assert observed.told.flush(10)
    assert recorder.kinds(first) == [JobEnqueued]


def test_workers_and_queues(observed, recorder):
    observed.task(name="work")(print)
    thread = work(observed)
    while not recorder.events:
        time.sleep(0.01)
    observed.pause("mails")
    observed.resume("mails")
    observed.shutdown()
    thread.join(20)
    assert observed.told.flush(10)
    kinds = [type(event) for event in recorder.events]
    assert kinds[0] is WorkerStarted
    assert set(kinds[1:]) == {WorkerStopped, QueuePaused, QueueResumed}
    [stopped] = [event for event in recorder.events if isinstance(event, WorkerStopped)]
    assert (stopped.error, stopped.pid) == (None, os.getpid())


def test_events_of_one_job_come_in_order_though_the_worker_is_faster_than_the_producer(
    recorder, monkeypatch
):
    """The enqueue returns only after the worker has started what was enqueued."""

    class Slow(MemoryBackend):
        def enqueue(self, jobs):
            answers = super().enqueue(jobs)
            assert ran.wait(20)
            time.sleep(0.2)  # Longer than events gather.
            return answers

    ran = threading.Event()
    told = Publisher([("recorder", recorder.taskito_on_events)])
    monkeypatch.setattr("taskito.app.queue.publisher", lambda: told)
    with Queue(backend=Slow(), workers=1) as queue:
        queue.task(name="work")(ran.set)
        work(queue)
        job = queue.enqueue("work")
        job.result(timeout=20)
        assert told.flush(10)
    assert recorder.kinds(job) == [JobEnqueued, JobStarted, JobFinished]


def test_many_jobs_of_many_threads_each_in_order_and_none_missing(observed, recorder):
    observed.task(name="work")(lambda n: n)
    work(observed)
    jobs = []

    def produce():
        jobs.extend(observed.enqueue_many("work", [(n,) for n in range(100)]))

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        job.result(timeout=30)
    assert observed.told.flush(10)
    of_job = {}
    for event in recorder.events:
        if isinstance(event, JobEvent):
            of_job.setdefault(event.job_id, []).append(type(event))
    assert len(of_job) == 400
    assert all(kinds == [JobEnqueued, JobStarted, JobFinished] for kinds in of_job.values())
    assert len(recorder.batches) < len(recorder.events) / 3


def test_a_hook_that_raises_is_named_and_counted_and_the_others_are_told(recorder, caplog):
    def broken(_events):
        raise RuntimeError("mine")

    told = Publisher([("plugin 'bad' of bad 1.0", broken), ("good", recorder.taskito_on_events)])
    for number in range(3):
        told.publish(QueuePaused(number, "q"))
        assert told.flush(10)
    bad, good = told.statistics()
    assert (bad.failed, bad.delivered) == (3, 0)
    assert (good.failed, good.delivered) == (0, 3)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, "the first failure and the second, not the third"
    assert "plugin 'bad' of bad 1.0" in lines[0]


def test_a_hook_that_hangs_holds_up_nobody_and_is_named(recorder, caplog, monkeypatch):
    monkeypatch.setattr(observing, "_HANGING", 0.0)
    monkeypatch.setattr(observing, "BUFFER_SIZE", 10)
    release = threading.Event()
    told = Publisher(
        [
            ("plugin 'stuck' of s 1.0", lambda _events: release.wait(30)),
            ("good", recorder.taskito_on_events),
        ]
    )
    told.publish(QueuePaused(0, "q"))
    assert not told.flush(0.5)
    for number in range(1, 30):
        told.publish(QueuePaused(number, "q"))
        while len(recorder.events) <= number:
            time.sleep(0.001)
    stuck, good = told.statistics()
    assert (stuck.hanging, stuck.dropped, stuck.delivered) == (True, 19, 0)
    assert (good.hanging, good.dropped, good.delivered) == (False, 0, 30)
    text = caplog.text
    assert "plugin 'stuck' of s 1.0 has not returned" in text
    assert "plugin 'stuck' of s 1.0 takes events slower than they come" in text
    release.set()
    assert told.flush(10)
    assert told.statistics()[0].delivered == 11


def test_jobs_run_and_end_beside_hooks_that_raise_and_hang(monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    release = threading.Event()

    def leave(_events):
        sys.exit(3)

    told = Publisher([("stuck", lambda _events: release.wait(30)), ("leaver", leave)])
    monkeypatch.setattr("taskito.app.queue.publisher", lambda: told)
    with Queue(db_path=":memory:", workers=2) as queue:
        double = queue.task(name="double")(lambda n: 2 * n)
        work(queue)
        assert [job.result(timeout=20) for job in double.map([(n,) for n in range(50)])]
        assert queue.stats()["completed"] == 50
    release.set()
    assert told.flush(10)


def test_after_a_fork_the_child_tells_its_own_events(tmp_path):
    file = tmp_path / "events"

    def append(events):
        with file.open("a") as out:
            out.writelines(f"{os.getpid()} {event.queue}\n" for event in events)

    told = Publisher([("file", append)])
    told.publish(QueuePaused(0, "parent"))
    assert told.flush(10)
    child = os.fork()
    if child == 0:
        told.publish(QueuePaused(0, "child"))
        os._exit(0 if told.flush(10) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert file.read_text().splitlines() == [f"{os.getpid()} parent", f"{child} child"]


def test_events_are_frozen_and_documented():
    for name in events.__all__:
        kind = getattr(events, name)
        assert kind.__doc__
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(object.__new__(kind), "at_ms", 1)  # noqa: B010


def test_without_an_observer_there_is_no_publisher_and_no_work_per_job(plugin_entry_point):
    assert publisher(PluginManager([])) is None

    files = set()

    def profile(frame, event, _argument):
        if event == "call":
            files.add(Path(frame.f_code.co_filename).name)

    with Queue(db_path=":memory:", workers=1) as queue:
        assert queue._events is None
        double = queue.task(name="double")(lambda n: 2 * n)
        # Everything is imported by then: the body of a module would count as a call.
        work(queue)
        assert double.delay(1).result(timeout=20) == 2
        queue.shutdown()
        queue._stop_workers()
        threading.setprofile(profile)
        sys.setprofile(profile)
        try:
            work(queue)
            assert double.delay(1).result(timeout=20) == 2
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    assert "runner.py" in files, "the profile has seen the worker"
    assert not files & {"observing.py", "observed.py", "events.py"}


def test_a_manager_makes_one_publisher_of_its_observers(plugin_entry_point):
    recorder = Recorder()
    plugins = PluginManager([plugin_entry_point("recorder", recorder)])
    told = publisher(plugins)
    assert told is publisher(plugins)
    told.publish(QueuePaused(0, "q"))
    assert told.flush(10)
    assert [one.plugin for one in told.statistics()] == ["plugin 'recorder' of strange-things 1.2"]
    assert recorder.events == [QueuePaused(0, "q")]
