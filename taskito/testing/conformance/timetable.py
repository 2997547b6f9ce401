"""Schedules of the stateful stage: what should have fired, and whether a store says the same.

Which fires are due is told by listing all of them; which of those a step with a small budget came
to is the store's choice, and taken over from its next fire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from taskito.backends import Backend, params
from taskito.backends.params import FINAL_STATES, CatchUp, NewSchedule, Overlap
from taskito.schedule import Schedule
from taskito.testing.conformance.model import Model

__all__ = ["SCHEDULES", "SCHEDULE_NAMES", "Timetable"]

SCHEDULE_NAMES = ("each", "夜")
GRACE_MS = 10_000
MOST = 1_000

# Sparse where each missed fire is made good, since the clock jumps by days.
_SPARSE = st.sampled_from(["0 */6 * * *", "30 3 1,15 * mon"])
_DENSE = st.sampled_from(["*/20 * * * * *", "* * * * *", "0 */6 * * *"])
_JOBS = st.builds(
    params.NewJob,
    task=st.sampled_from(["add", "報告"]),
    priority=st.sampled_from([0, 5]),
    max_retries=st.integers(0, 1),
    result_ttl_ms=st.sampled_from([None, None, 1]),
)


def _schedules(name: str, catch_up: CatchUp) -> st.SearchStrategy[NewSchedule]:
    return st.builds(
        NewSchedule,
        name=st.just(name),
        line=_SPARSE if catch_up is CatchUp.ALL else _DENSE,
        timezone=st.sampled_from(["UTC", "Europe/Paris"]),
        catch_up=st.just(catch_up),
        overlap=st.sampled_from(list(Overlap)),
        job=_JOBS,
    )


SCHEDULES = st.tuples(st.sampled_from(SCHEDULE_NAMES), st.sampled_from(list(CatchUp))).flatmap(
    lambda choice: _schedules(*choice)
)
"""Schedules that no store may refuse."""


@dataclass(slots=True, kw_only=True)
class ModelSchedule:
    """One schedule of the model; the fields mean what they mean in ``ScheduleRecord``."""

    spec: NewSchedule
    next_ms: int | None
    paused: bool = False
    last_ms: int | None = None
    last_job: str | None = None
    fired: int = 0
    skipped: int = 0
    jobs: list[str] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)


class Timetable:
    """The schedules that a store should have.

    Args:
        backend: The store under test.
        model: Its jobs and workers.
    """

    def __init__(self, backend: Backend, model: Model) -> None:
        self.backend = backend
        self.model = model
        self.schedules: dict[str, ModelSchedule] = {}

    # Requests -----------------------------------------------------------------------------------

    def put(self, spec: NewSchedule) -> None:
        """Let code declare a schedule."""
        self.backend.put_schedules([spec])
        known = self.schedules.get(spec.name)
        if known is None:
            known = self.schedules[spec.name] = ModelSchedule(spec=spec, next_ms=self._after(spec))
        elif (known.spec.line, known.spec.timezone) != (spec.line, spec.timezone):
            known.next_ms = self._after(spec)
        known.spec = spec

    def set_paused(self, name: str, paused: bool) -> None:
        """Pause or resume a schedule, which may not exist."""
        known = self.schedules.get(name)
        found = list(self.backend.set_schedules_paused([name], paused))
        assert found == [known is not None], f"set_schedules_paused: {found}"
        if known is not None:
            if known.paused and not paused:
                known.next_ms = self._after(known.spec)
            known.paused = paused

    def delete(self, name: str) -> None:
        """Delete a schedule, which may not exist."""
        found = list(self.backend.delete_schedules([name]))
        assert found == [self.schedules.pop(name, None) is not None], f"delete_schedules: {found}"

    def trigger(self, name: str) -> None:
        """Make a job now of a schedule, which may not exist."""
        known = self.schedules.get(name)
        [job_id] = self.backend.trigger_schedules([name])
        assert (job_id is None) == (known is None), f"trigger_schedules: {job_id}"
        if known is not None and job_id is not None:
            self._make(known, job_id, self.model.clock.wall_ms())

    # Upkeep -------------------------------------------------------------------------------------

    def after_upkeep(self, reply: params.MaintainReply, budget: int) -> bool:
        """Take over what a step has fired; return whether something is left to fire.

        The model's jobs are those of after the step: fires come last in it.
        """
        if not self.backend.capabilities.schedules:
            return False
        records = list(self._unknown_records())[::-1]
        new = self._by_schedule(records)
        made = sum(len(jobs) for jobs in new.values())
        found = {record.name: record for record in self.backend.schedules()}
        left = False
        for name, one in self.schedules.items():
            mine = new.pop(name, deque())
            left |= self._go_on(one, mine)
            left |= self._fire(one, mine, found[name].next_ms)
            assert not mine, f"schedule {name}: a job for {mine[0].fire_ms} that was not due"
        assert not new, f"jobs of schedules that do not exist: {sorted(new)}"
        self._number(record.id for record in records)
        assert made <= reply.fired <= budget, f"fired: {reply.fired}, {made} jobs, budget {budget}"
        assert not left or reply.next_due_ms == 0, f"next_due_ms: {reply.next_due_ms}, fires left"
        expected = sorted(
            name
            for name, one in self.schedules.items()
            if not one.paused and one.next_ms is not None and name not in self._declared()
        )
        assert list(reply.undeclared_schedules) == expected, "undeclared_schedules"
        return left

    def waits_ms(self) -> list[int]:
        """Return how long it is until each fire that is to come."""
        now = self.model.clock.wall_ms()
        active = [one for one in self.schedules.values() if self._is_active(one)]
        waits = [max(0, one.next_ms - now) for one in active if one.next_ms is not None]
        return waits + [0 for one in active if one.waiting and not self._has_open_job(one)]

    def compare(self) -> None:
        """Check that the store lists the schedules as they should be."""
        if not self.backend.capabilities.schedules:
            return
        declared = self._declared()
        expected = [
            params.ScheduleRecord(
                name=name,
                line=one.spec.line,
                timezone=one.spec.timezone,
                catch_up=one.spec.catch_up,
                overlap=one.spec.overlap,
                task=one.spec.job.task,
                queue=one.spec.job.queue,
                paused=one.paused,
                declared=name in declared,
                next_ms=one.next_ms,
                last_ms=one.last_ms,
                last_job=one.last_job,
                fired=one.fired,
                skipped=one.skipped,
                waiting=len(one.waiting),
            )
            for name, one in sorted(self.schedules.items())
        ]
        found = list(self.backend.schedules())
        assert found == expected, f"schedules: {found}, not {expected}"

    # Parts --------------------------------------------------------------------------------------

    def _go_on(self, one: ModelSchedule, mine: deque[params.JobRecord]) -> bool:
        """Let the fire that has waited longest be made, if nothing is in its way."""
        if not one.waiting or not self._is_active(one) or self._has_open_job(one):
            return False
        if not mine or mine[0].fire_ms != one.waiting[0]:
            return True
        self._make(one, mine.popleft().id, one.waiting.pop(0))
        return False

    def _fire(
        self, one: ModelSchedule, mine: deque[params.JobRecord], stored_next: int | None
    ) -> bool:
        now = self.model.clock.wall_ms()
        if not self._is_active(one) or one.next_ms is None or one.next_ms > now:
            return False
        if stored_next == one.next_ms:
            return True
        fires = self._due(one, one.next_ms, now)
        handled = [at_ms for at_ms in fires if stored_next is None or at_ms < stored_next]
        rest = fires[len(handled) :]
        expected = rest[0] if rest else self._after(one.spec)
        assert stored_next == expected, f"next_ms: {stored_next}, not {expected}"
        for at_ms in handled:
            self._fire_one(one, mine, at_ms)
        one.next_ms = expected
        return bool(rest)

    def _due(self, one: ModelSchedule, first: int, now: int) -> list[int]:
        """Return which fires a store makes that has budget for all of them."""
        schedule = Schedule(one.spec.line, one.spec.timezone)
        fires = list(schedule.between(first - 1, now))[-MOST:]
        if now - first <= GRACE_MS or one.spec.catch_up is CatchUp.ALL:
            return fires
        newest = fires[-1]
        stands = one.spec.catch_up is CatchUp.ONCE or now - newest <= GRACE_MS
        return [newest] if stands else []

    def _fire_one(self, one: ModelSchedule, mine: deque[params.JobRecord], at_ms: int) -> None:
        overlap = one.spec.overlap
        busy = self._has_open_job(one)
        if overlap is Overlap.QUEUE and (busy or one.waiting):
            one.waiting.append(at_ms)
        elif overlap is Overlap.SKIP and busy:
            one.skipped += 1
        else:
            assert mine, f"schedule {one.spec.name}: no job for the fire at {at_ms}"
            job = mine.popleft()
            assert job.fire_ms == at_ms, f"a job for {job.fire_ms}, not for {at_ms}"
            self._make(one, job.id, at_ms)

    def _make(self, one: ModelSchedule, job_id: str, at_ms: int) -> None:
        assert job_id not in self.model.jobs, f"the id {job_id} was given out twice"
        job = self.model.add(job_id, one.spec.job, ())
        job.schedule, job.fire_ms = one.spec.name, at_ms
        one.last_ms, one.last_job = at_ms, job_id
        one.fired += 1
        one.jobs = [job_id] if one.spec.overlap is Overlap.ALLOW else [*one.jobs, job_id]

    def _by_schedule(
        self, records: Iterable[params.JobRecord]
    ) -> dict[str, deque[params.JobRecord]]:
        new: dict[str, deque[params.JobRecord]] = {}
        for record in records:
            assert record.schedule is not None, f"job {record.id} came from nowhere"
            new.setdefault(record.schedule, deque()).append(record)
        return new

    def _number(self, ids: Iterable[str]) -> None:
        """Let new jobs of several schedules be in the order in which the store made them."""
        jobs = [self.model.jobs[job_id] for job_id in ids]
        for job, number in zip(jobs, sorted(job.number for job in jobs), strict=True):
            job.number = number

    def _unknown_records(self) -> Iterable[params.JobRecord]:
        """Return the jobs that the model does not know, newest first."""
        after: int | None = None
        while True:
            page = self.backend.list(params.ListRequest(limit=100, after=after))
            unknown: Sequence[params.JobRecord] = [
                record for record in page.jobs if record.id not in self.model.jobs
            ]
            yield from unknown
            # Whatever is older than a known job is known as well.
            if page.next is None or len(unknown) < len(page.jobs):
                return
            after = page.next

    def _has_open_job(self, one: ModelSchedule) -> bool:
        jobs = [self.model.jobs[job_id] for job_id in one.jobs if job_id in self.model.jobs]
        return any(job.state not in FINAL_STATES for job in jobs)

    def _is_active(self, one: ModelSchedule) -> bool:
        return not one.paused and one.spec.name in self._declared()

    def _declared(self) -> set[str]:
        workers = self.model.workers.values()
        return {name for worker in workers for name in worker.registration.schedules}

    def _after(self, spec: NewSchedule) -> int | None:
        return Schedule(spec.line, spec.timezone).next_after(self.model.clock.wall_ms())
