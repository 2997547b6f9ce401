"""Schedules: what fires, when, how often, and what does not."""
# ruff: noqa: D102, PLR0917, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import CatchUp, JobState, Overlap
from taskito.exceptions import ConfigurationError
from taskito.schedule import Schedule
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import NOW, GetJob, OpenAgain, worker_starter
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["ScheduleContract"]

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def declared(name: str = "report", **changes: Any) -> params.NewSchedule:
    """Return a schedule that fires two minutes past each hour."""
    fields: dict[str, Any] = {"line": "2 * * * *", "job": params.NewJob(task="add"), **changes}
    return params.NewSchedule(name=name, **fields)


def first_after(at_ms: int) -> int:
    """Return the first fire of ``declared()`` after an instant."""
    found = Schedule("2 * * * *").next_after(at_ms)
    assert found is not None
    return found


def jobs_of(backend: Backend, name: str = "report") -> list[params.JobRecord]:
    """Return the jobs that a schedule made, oldest first."""
    page = backend.list(params.ListRequest(limit=10_000))
    return [record for record in reversed(page.jobs) if record.schedule == name]


def fires_of(backend: Backend, name: str = "report") -> list[int | None]:
    """Return for which fires a schedule made jobs, oldest first."""
    return [record.fire_ms for record in jobs_of(backend, name)]


def only(backend: Backend) -> params.ScheduleRecord:
    """Return the one schedule that there is."""
    [record] = backend.schedules()
    return record


class ScheduleContract(Topic):
    """What schedules promise."""

    topic = "schedule"
    needed = ("schedules",)

    # Declaring ----------------------------------------------------------------------------------

    def test_a_schedule_is_listed_as_it_was_declared(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        backend.put_schedules(
            [
                declared("b", timezone="Europe/Paris", line="0 4 * * *", overlap=Overlap.QUEUE),
                declared("a", catch_up=CatchUp.NONE, job=params.NewJob(task="t", queue="q")),
            ]
        )
        start_worker(schedules=("b",))
        first, second = backend.schedules()
        assert first == params.ScheduleRecord(
            name="a",
            line="2 * * * *",
            timezone="UTC",
            catch_up=CatchUp.NONE,
            overlap=Overlap.ALLOW,
            task="t",
            queue="q",
            next_ms=first_after(NOW),
        )
        assert (second.name, second.declared, second.overlap) == ("b", True, Overlap.QUEUE)
        assert second.next_ms == Schedule("0 4 * * *", "Europe/Paris").next_after(NOW)

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"name": ""}, "name"),
            ({"line": "61 * * * *"}, "cron.*minute"),
            ({"line": "0 0 30 2 *"}, "cron.*day of month"),
            ({"timezone": "Mars/Olympus"}, "timezone"),
            ({"catch_up": "twice"}, "catch_up"),
            ({"overlap": "never"}, "overlap"),
            ({"job": params.NewJob(task="")}, "task"),
            ({"job": params.NewJob(task="add", priority=1_000)}, "priority"),
            ({"job": params.NewJob(task="add", eta_ms=5)}, "eta_ms"),
            ({"job": params.NewJob(task="add", idempotency_key="k")}, "idempotency_key"),
        ],
    )
    def test_a_schedule_that_cannot_be_is_named_and_none_is_stored(
        self, backend: Backend, changes: dict[str, Any], named: str
    ) -> None:
        bad = replace(declared(), **changes)
        with pytest.raises(ConfigurationError, match=f"schedule 1: .*{named}"):
            backend.put_schedules([declared("good"), bad])
        assert list(backend.schedules()) == []

    def test_an_unknown_name_is_told_and_changes_nothing(self, backend: Backend) -> None:
        backend.put_schedules([declared()])
        before = only(backend)
        names = ["nobody"]
        assert list(backend.set_schedules_paused(names, True)) == [False]
        assert list(backend.delete_schedules(names)) == [False]
        assert list(backend.trigger_schedules(names)) == [None]
        assert only(backend) == before
        assert fires_of(backend) == []

    # Firing -------------------------------------------------------------------------------------

    def test_it_fires_at_its_time_once_and_not_before(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared()])
        worker = start_worker(schedules=("report",))
        first = first_after(NOW)
        reply = backend.maintain(10)
        assert (reply.fired, reply.next_due_ms) == (0, first - NOW)
        assert worker.exchange().next_due_ms == first - NOW
        clock.advance(first - NOW - 1)
        assert backend.maintain(10).fired == 0
        clock.advance(1)
        assert backend.maintain(10).fired == 1
        assert backend.maintain(10).fired == 0
        assert fires_of(backend) == [first]
        record = only(backend)
        assert (record.last_ms, record.next_ms, record.fired) == (first, first + HOUR, 1)
        assert record.last_job == jobs_of(backend)[0].id

    def test_a_job_carries_the_options_the_name_and_the_time(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        job = params.NewJob(
            task="add",
            queue="q",
            payload=b"\x00payload",
            serializer="json",
            metadata=b"m",
            priority=7,
            max_retries=1,
            max_crashes=9,
            timeout_ms=11,
            expires_in_ms=5_000,
            result_ttl_ms=77,
        )
        backend.put_schedules([declared(job=job)])
        worker = start_worker(schedules=("report",))
        clock.advance(HOUR)
        backend.maintain(10)
        fire = only(backend).last_ms
        [record] = backend.get([jobs_of(backend)[0].id])
        assert record is not None
        for field in ("task", "queue", "payload", "serializer", "metadata", "priority"):
            assert getattr(record, field) == getattr(job, field), field
        assert (record.max_retries, record.max_crashes, record.timeout_ms) == (1, 9, 11)
        assert record.expires_ms == record.created_ms + 5_000
        assert (record.schedule, record.fire_ms) == ("report", fire)
        [claimed] = worker.claim()
        assert (claimed.schedule, claimed.fire_ms) == ("report", fire)

    def test_no_fire_is_lost_or_doubled_however_small_the_steps(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        every = {"a": "*/10 * * * * *", "b": "*/5 * * * * *", "c": "* * * * * *"}
        backend.put_schedules([declared(name, line=line) for name, line in every.items()])
        start_worker(schedules=tuple(every))
        for _ in range(30):
            clock.advance(1_001)
            while backend.maintain(2).next_due_ms == 0:
                pass
        for name, line in every.items():
            expected = list(Schedule(line).between(NOW, clock.wall_ms()))
            assert fires_of(backend, name) == expected, name

    def test_a_step_makes_no_more_jobs_than_its_budget(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        names = ("a", "b", "c")
        backend.put_schedules([declared(name) for name in names])
        start_worker(schedules=names)
        clock.advance(first_after(NOW) - NOW)
        reply = backend.maintain(2)
        assert (reply.fired, reply.next_due_ms) == (2, 0)
        reply = backend.maintain(2)
        assert (reply.fired, reply.next_due_ms) == (1, HOUR)

    def test_a_wall_clock_that_is_set_back_fires_nothing_twice(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared()])
        start_worker(schedules=("report",))
        first = first_after(NOW)
        clock.set_wall(first)
        backend.maintain(10)
        clock.set_wall(NOW)
        backend.maintain(10)
        clock.set_wall(first)
        backend.maintain(10)
        assert fires_of(backend) == [first]

    @needs("unique")
    def test_a_fire_whose_unique_key_is_held_makes_no_job(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared(job=params.NewJob(task="add", unique_key="k"))])
        start_worker(schedules=("report",))
        for _ in range(3):
            clock.advance(HOUR)
            backend.maintain(10)
        assert len(fires_of(backend)) == 1
        assert (only(backend).fired, only(backend).skipped) == (1, 2)

    # Who fires ----------------------------------------------------------------------------------

    def test_a_schedule_that_no_worker_declares_is_told_and_does_not_fire(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared(), declared("other")])
        worker = start_worker(schedules=("other",))
        assert backend.maintain(10).undeclared_schedules == ("report",)
        clock.advance(first_after(NOW) - NOW)
        reply = backend.maintain(10)
        assert (reply.fired, reply.undeclared_schedules) == (1, ("report",))
        assert fires_of(backend) == []
        second = start_worker(schedules=("report", "other"))
        worker.leave()
        assert backend.maintain(10).undeclared_schedules == ()
        assert fires_of(backend) == [first_after(NOW)]
        second.leave()
        assert backend.maintain(10).undeclared_schedules == ("other", "report")
        assert not only_named(backend, "report").declared

    def test_a_paused_schedule_is_not_told_of(self, backend: Backend) -> None:
        backend.put_schedules([declared()])
        backend.set_schedules_paused(["report"], True)
        assert backend.maintain(10).undeclared_schedules == ()

    # Missed fires -------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("catch_up", "late_ms", "made"),
        [
            (CatchUp.ONCE, 20_000, [3]),
            (CatchUp.ALL, 20_000, [0, 1, 2, 3]),
            (CatchUp.NONE, 20_000, []),
            (CatchUp.NONE, 10_000, [3]),
            (CatchUp.ONCE, 10_000, [3]),
        ],
    )
    def test_fires_that_were_missed_are_made_good_as_declared(
        self,
        backend: Backend,
        clock: VirtualClock,
        start_worker: StartWorker,
        catch_up: CatchUp,
        late_ms: int,
        made: list[int],
    ) -> None:
        first = first_after(NOW)
        backend.put_schedules([declared(catch_up=catch_up)])
        clock.set_wall(first + 3 * HOUR + late_ms)
        start_worker(schedules=("report",))
        backend.maintain(100)
        assert fires_of(backend) == [first + hours * HOUR for hours in made]
        assert only(backend).next_ms == first + 4 * HOUR
        clock.advance(HOUR - late_ms)
        backend.maintain(100)
        assert fires_of(backend)[-1] == first + 4 * HOUR

    @pytest.mark.parametrize("catch_up", list(CatchUp))
    def test_a_fire_that_is_a_little_late_is_on_time(
        self,
        backend: Backend,
        clock: VirtualClock,
        start_worker: StartWorker,
        catch_up: CatchUp,
    ) -> None:
        backend.put_schedules([declared(line="* * * * * *", catch_up=catch_up)])
        start_worker(schedules=("report",))
        clock.advance(9_000)
        assert backend.maintain(100).fired == 9
        clock.advance(20_000)
        due = {CatchUp.ONCE: 1, CatchUp.ALL: 20, CatchUp.NONE: 1}
        assert backend.maintain(100).fired == due[catch_up]

    def test_of_very_many_missed_fires_the_newest_are_made_good(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared(line="* * * * * *", catch_up=CatchUp.ALL)])
        clock.advance(DAY)
        start_worker(schedules=("report",))
        assert backend.maintain(2_000).fired == 1_000
        fires = fires_of(backend)
        now = clock.wall_ms()
        assert (fires[0], fires[-1]) == (now - 999_000, now)

    # Overlaps -----------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("overlap", "made", "skipped", "waiting"),
        [(Overlap.ALLOW, 3, 0, 0), (Overlap.SKIP, 1, 2, 0), (Overlap.QUEUE, 1, 0, 2)],
    )
    def test_a_fire_beside_an_unfinished_job_follows_overlap(
        self,
        backend: Backend,
        clock: VirtualClock,
        start_worker: StartWorker,
        overlap: Overlap,
        made: int,
        skipped: int,
        waiting: int,
    ) -> None:
        backend.put_schedules([declared(overlap=overlap)])
        worker = start_worker(schedules=("report",), lease_ms=DAY)
        clock.advance(HOUR)
        backend.maintain(10)
        worker.claim()
        for _ in range(2):
            clock.advance(HOUR)
            backend.maintain(10)
        record = only(backend)
        found = (len(fires_of(backend)), record.fired, record.skipped, record.waiting)
        assert found == (made, made, skipped, waiting)

    def test_a_skipped_schedule_goes_on_once_its_job_has_ended(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared(overlap=Overlap.SKIP)])
        worker = start_worker(schedules=("report",))
        for _ in range(2):
            clock.advance(HOUR)
            backend.maintain(10)
        worker.succeed()
        assert backend.maintain(10).fired == 0
        clock.advance(HOUR)
        assert backend.maintain(10).fired == 1
        first = first_after(NOW)
        assert fires_of(backend) == [first, first + 2 * HOUR]

    def test_a_fire_that_waits_is_made_when_the_job_before_it_has_ended(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker, job: GetJob
    ) -> None:
        backend.put_schedules([declared(overlap=Overlap.QUEUE)])
        worker = start_worker(schedules=("report",))
        for _ in range(3):
            clock.advance(HOUR)
            backend.maintain(10)
        first = first_after(NOW)
        for count in (1, 2, 3):
            assert fires_of(backend) == [first + n * HOUR for n in range(count)]
            assert only(backend).waiting == 3 - count
            # However it ends.
            error = params.OutcomeDead(error=b"", kind=params.ErrorKind.FAILURE)
            worker.finish(error)
            assert job(jobs_of(backend)[-1].id).state is JobState.DEAD
            if count < 3:
                assert worker.exchange().next_due_ms == 0
            backend.maintain(10)
        assert only(backend).waiting == 0

    # Pausing, changing, deleting, triggering ----------------------------------------------------

    def test_a_paused_schedule_does_not_fire_and_none_of_it_is_made_good(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared(catch_up=CatchUp.ALL)])
        start_worker(schedules=("report",))
        assert list(backend.set_schedules_paused(["report"], True)) == [True]
        clock.advance(2 * HOUR)
        reply = backend.maintain(10)
        assert (reply.fired, only(backend).paused) == (0, True)
        assert list(backend.set_schedules_paused(["report"], False)) == [True]
        assert backend.maintain(10).fired == 0
        assert only(backend).next_ms == first_after(NOW) + 2 * HOUR
        clock.advance(HOUR)
        assert backend.maintain(10).fired == 1

    def test_a_redeploy_keeps_history_pause_and_the_fire_that_is_due(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared()])
        start_worker(schedules=("report",))
        clock.advance(HOUR)
        backend.maintain(10)
        before = only(backend)
        clock.advance(HOUR)
        backend.put_schedules([declared(job=params.NewJob(task="other"))])
        assert only(backend) == replace(before, task="other")
        assert backend.maintain(10).fired == 1
        assert jobs_of(backend)[-1].task == "other"
        backend.set_schedules_paused(["report"], True)
        backend.put_schedules([declared()])
        assert only(backend).paused

    def test_a_changed_line_counts_from_now_and_keeps_the_history(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared()])
        start_worker(schedules=("report",))
        clock.advance(HOUR)
        backend.maintain(10)
        last = only(backend).last_job
        clock.advance(2 * HOUR)
        backend.put_schedules([declared(line="30 * * * *")])
        record = only(backend)
        assert (record.last_job, record.fired) == (last, 1)
        assert record.next_ms == Schedule("30 * * * *").next_after(clock.wall_ms())
        assert backend.maintain(10).fired == 0

    def test_a_deleted_schedule_is_gone_and_its_jobs_stay(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        backend.put_schedules([declared(), declared("kept")])
        start_worker(schedules=("report", "kept"))
        clock.advance(HOUR)
        backend.maintain(10)
        assert list(backend.delete_schedules(["report", "report"])) == [True, False]
        clock.advance(HOUR)
        backend.maintain(10)
        assert only(backend).name == "kept"
        assert (len(fires_of(backend)), len(fires_of(backend, "kept"))) == (1, 2)
        backend.put_schedules([declared()])
        assert only_named(backend, "report").fired == 0

    @pytest.mark.parametrize("overlap", list(Overlap))
    def test_a_trigger_makes_a_job_at_once_and_leaves_the_schedule_as_it_is(
        self, backend: Backend, clock: VirtualClock, worker: PlayedWorker, overlap: Overlap
    ) -> None:
        backend.put_schedules([declared(overlap=overlap)])
        backend.set_schedules_paused(["report"], True)
        next_ms = only(backend).next_ms
        clock.advance(5)
        ids = [backend.trigger_schedules(["report"])[0] for _ in range(2)]
        assert [record.id for record in jobs_of(backend)] == ids
        assert fires_of(backend) == [NOW + 5] * 2
        record = only(backend)
        assert (record.last_job, record.next_ms, record.fired) == (ids[1], next_ms, 2)
        assert worker.claim_ids(5) == ids

    # Where it is kept ---------------------------------------------------------------------------

    def test_a_schedule_holds_for_whoever_opens_the_store(
        self, open_again: OpenAgain, clock: VirtualClock
    ) -> None:
        first = open_again()
        first.put_schedules([declared(), declared("paused")])
        first.set_schedules_paused(["paused"], True)
        clock.advance(HOUR)
        second = open_again()
        assert [record.paused for record in second.schedules()] == [True, False]
        worker_starter(second)(schedules=("report", "paused"))
        assert second.maintain(10).fired == 1
        assert first.maintain(10).fired == 0
        assert fires_of(first) == [first_after(NOW)]

    def test_schedules_of_another_namespace_are_unknown(
        self, open_again: OpenAgain, clock: VirtualClock
    ) -> None:
        here, there = open_again(), open_again(namespace="another-of-schedules")
        here.put_schedules([declared()])
        worker_starter(there)(schedules=("report",))
        clock.advance(HOUR)
        there.maintain(10)
        assert list(there.schedules()) == []
        assert not only(here).declared
        assert fires_of(here) == []

    def test_looking_changes_nothing(self, backend: Backend, start_worker: StartWorker) -> None:
        backend.put_schedules([declared()])
        start_worker(schedules=("report",))
        before = observe(backend)
        listed = only(backend)
        backend.maintain(10)
        assert (observe(backend), only(backend)) == (before, listed)


def only_named(backend: Backend, name: str) -> params.ScheduleRecord:
    """Return the schedule of this name."""
    [record] = [record for record in backend.schedules() if record.name == name]
    return record
