"""Comparing a store with the model after a step, and taking over what the seam leaves open.

Two things may happen on their own during an exchange or upkeep, since only the time decides about
them: a due job is promoted, an expired one is cancelled. ``take_over`` accepts those, nothing else.
``compare`` then demands that every record says what the model says, and that it came there by legal
transitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskito.backends import Backend, params
from taskito.backends.params import FINAL_STATES, JobState, Why
from taskito.backends.transitions import TRANSITIONS
from taskito.testing.conformance.model import WAITING, Model, ModelJob

__all__ = ["Observer", "Spontaneous"]

PAGE = 7
"""Jobs per page: small, so that pages have borders."""


class Spontaneous:
    """What time alone did in one step: ids by kind.

    Attributes:
        promoted: Scheduled jobs that became ready.
        expired: Jobs cancelled because they had not started in time.
        caused: Those of ``expired`` that a dependency which expired would have cancelled as well.
        pruned: Finished jobs that were deleted.
    """

    def __init__(self) -> None:
        self.promoted: set[str] = set()
        self.expired: set[str] = set()
        self.caused: set[str] = set()
        self.pruned: set[str] = set()


class Observer:
    """Watches one store through its inspection operations.

    Args:
        backend: The store under test.
        model: What it should be like.
    """

    def __init__(self, backend: Backend, model: Model) -> None:
        self.backend = backend
        self.model = model
        self.records: dict[str, params.JobRecord] = {}
        self._before: dict[str, params.JobRecord] = {}
        self._ended: dict[str, params.JobRecord] = {}

    def look(self) -> dict[str, params.JobRecord]:
        """Read the record of every job that the model knows."""
        ids = list(self.model.jobs)
        found = self.backend.get(ids)
        assert len(found) == len(ids), "get: one answer per id"
        self.records = {
            job_id: record for job_id, record in zip(ids, found, strict=True) if record is not None
        }
        for job_id, record in self.records.items():
            assert record.id == job_id, f"get({job_id}) returned the record of {record.id}"
            self._learn_due(self.model.jobs[job_id], record)
        return self.records

    def take_over(self, *, prune: bool) -> Spontaneous:
        """Accept what time alone may have done to the jobs, and tell what it was."""
        done = Spontaneous()
        surplus = self.model.surplus()
        for job in list(self.model.jobs.values()):
            record = self.records.get(job.id)
            state = None if record is None else record.state
            if state is JobState.READY and self.model.is_due(job):
                job.state, job.why = JobState.READY, None
                done.promoted.add(job.id)
        self._take_over_expiries(done)
        for job in list(self.model.jobs.values()):
            if job.id in self.records:
                continue
            assert prune, f"job {job.id} is lost; it was {job.state}"
            may_go = self.model.is_prunable(job) or job.id in surplus
            assert may_go, f"job {job.id} is gone; it was {job.state}"
            self._forget(job)
            done.pruned.add(job.id)
        return done

    def forget(self, job_id: str) -> None:
        """Take a job out of the model that was deleted on request."""
        self._forget(self.model.jobs[job_id])

    def compare(self) -> None:
        """Check everything that the store tells against the model."""
        self.look()
        for job in self.model.jobs.values():
            assert job.id in self.records, f"job {job.id} is lost; it was {job.state}"
            self._compare_job(job, self.records[job.id])
        self._compare_counts()
        self._compare_list()
        self._compare_workers()
        self._compare_paused()
        self._compare_limits()
        self._compare_locks()
        self._compare_workflows()
        self._before = dict(self.records)

    # One job ------------------------------------------------------------------------------------

    def _compare_job(self, job: ModelJob, record: params.JobRecord) -> None:
        spec = job.spec
        self._check_path(job, record)
        expected = {
            "state": job.state,
            "why": job.why,
            "task": spec.task,
            "queue": spec.queue,
            "payload": spec.payload,
            "serializer": spec.serializer,
            "metadata": spec.metadata,
            "priority": spec.priority,
            "max_retries": spec.max_retries,
            "max_crashes": spec.max_crashes,
            "timeout_ms": spec.timeout_ms,
            "created_ms": job.created_ms,
            "expires_ms": job.expires_ms,
            "attempt": job.attempt,
            "crashes": job.crashes,
            "run": job.token,
            "progress": record.progress if job.progress is None else job.progress,
            "cancel_requested": job.cancel_reason is not None,
            "original_id": job.original_id,
            "replayed_as": job.replayed_as,
            "schedule": job.schedule,
            "fire_ms": job.fire_ms,
            "concurrency_key": spec.concurrency_key,
            "limited_by": self.model.allowances.limited_by(job)
            if job.state is JobState.READY
            else None,
            "workflow": spec.workflow,
            "result": None if job.result is None else job.result[0],
            "result_serializer": None if job.result is None else job.result[1],
        }
        found = {name: getattr(record, name) for name in expected}
        assert found == expected, f"job {job.id} differs: {_difference(expected, found)}"
        if job.due_ms is not None and job.state in WAITING - {JobState.BLOCKED}:
            assert record.due_ms == job.due_ms, f"due_ms: {record.due_ms}, not {job.due_ms}"
        self._compare_details(job, record)

    def _compare_details(self, job: ModelJob, record: params.JobRecord) -> None:
        if job.state is JobState.RUNNING:
            assert record.worker == job.worker, f"worker: {record.worker}, not {job.worker}"
            if job.started:
                assert record.started_ms == job.started_ms, "started_ms of a running job"
        if job.state in FINAL_STATES:
            assert record.finished_ms == job.finished_ms, "finished_ms"
        if job.state is JobState.CANCELLED:
            assert record.reason, f"job {job.id} was cancelled without a reason"
            assert job.reason in (None, record.reason), f"reason: {record.reason}"
            if job.blamed:
                named = any(parent in record.reason for parent in job.blamed)
                assert named, f"the reason names no dependency: {record.reason}"
        known = self.model.jobs
        parents = {job_id for job_id in job.dependencies if job_id in known}
        assert {job_id for job_id in record.dependencies if job_id in known} == parents, (
            "dependencies"
        )
        given = [edge for edge in job.waits_for if edge.job in job.dependencies]
        assert list(record.waits_for) == given, f"waits_for: {record.waits_for}, not {given}"
        history = [(entry.run, entry.attempt, entry.kind) for entry in record.errors]
        assert history == [(entry.run, entry.attempt, entry.kind) for entry in job.errors], (
            f"the history of job {job.id} is {history}"
        )
        for entry, kept in zip(job.errors, record.errors, strict=True):
            assert entry.detail in (None, kept.detail), f"error of run {kept.run}: {kept.detail!r}"

    def _check_path(self, job: ModelJob, record: params.JobRecord) -> None:
        before = self._before.get(job.id)
        if before is not None:
            assert record.state is before.state or record.state in _reachable(before.state), (
                f"job {job.id} went from {before.state} to {record.state}"
            )
            assert record.run >= before.run, f"the token of job {job.id} went back"
        allowed = max(1, job.spec.max_crashes)
        assert record.attempt <= job.spec.max_retries + 1, f"attempts of job {job.id}"
        assert record.crashes <= allowed, f"crashes of job {job.id}"
        if record.state not in FINAL_STATES:
            return
        lasting = replace(record, replayed_as=None, dependencies=(), dependents=(), waits_for=())
        ended = self._ended.setdefault(job.id, lasting)
        assert lasting == ended, f"job {job.id} was final and changed"

    def _learn_due(self, job: ModelJob, record: params.JobRecord) -> None:
        """Take over the due time of a job that was due at once; the store may round it down."""
        if job.due_ms is None and job.state in (JobState.READY, JobState.RUNNING):
            latest = max(self.model.clock.wall_ms(), job.created_ms, job.spec.eta_ms or 0)
            assert record.due_ms <= latest, f"job {job.id} is ready but due at {record.due_ms}"
            job.due_ms = record.due_ms

    def _take_over_expiries(self, done: Spontaneous) -> None:
        expirable = {
            job.id
            for job in self.model.jobs.values()
            if self.model.is_expired(job)
            and (job.id not in self.records or self._state_of(job) is JobState.CANCELLED)
        }
        for job_id in expirable:
            job = self.model.jobs[job_id]
            if expirable & _ancestors(self.model, job):
                done.caused.add(job_id)
            if job.state in WAITING:
                self.model.end(job, JobState.CANCELLED)
        for job_id in expirable:
            self.model.jobs[job_id].blamed = ()
        done.expired |= expirable

    def _state_of(self, job: ModelJob) -> JobState:
        return self.records[job.id].state

    def _forget(self, job: ModelJob) -> None:
        del self.model.jobs[job.id]
        for other in self.model.jobs.values():
            # The id may be given to another job from now on.
            other.dependencies = tuple(job_id for job_id in other.dependencies if job_id != job.id)
        self._before.pop(job.id, None)
        self._ended.pop(job.id, None)

    # All of them --------------------------------------------------------------------------------

    def _compare_counts(self) -> None:
        found: Counter[tuple[str, str, JobState, bool]] = Counter()
        for row in self.backend.counts():
            found[row.queue, row.task, row.state, row.retrying] += row.count
        expected = Counter(
            (job.spec.queue, job.spec.task, job.state, job.why is Why.RETRY)
            for job in self.model.jobs.values()
        )
        assert +found == expected, f"counts: {_difference(dict(expected), dict(+found))}"

    def _compare_list(self) -> None:
        found: list[str] = []
        after: int | None = None
        while True:
            page = self.backend.list(params.ListRequest(limit=PAGE, after=after))
            found += [record.id for record in page.jobs]
            for record in page.jobs:
                assert record.state is self.records[record.id].state, "list and get differ"
            if page.next is None:
                break
            after = page.next
        newest_first = sorted(self.model.jobs.values(), key=lambda job: -job.number)
        assert found == [job.id for job in newest_first], "list: not every job once, newest first"

    def _compare_workers(self) -> None:
        found = {worker.id: worker.running for worker in self.backend.workers()}
        expected = {job_id: len(self.model.held_by(job_id)) for job_id in self.model.workers}
        assert found == expected, f"workers and what they run: {found}, not {expected}"

    def _compare_paused(self) -> None:
        if self.backend.capabilities.pauses:
            assert list(self.backend.paused()) == sorted(self.model.paused), "paused queues"

    def _compare_limits(self) -> None:
        if self.backend.capabilities.limits:
            found = {
                (row.kind, row.name, row.rate, row.max_concurrent, row.tokens)
                for row in self.backend.limits()
            }
            assert found == self.model.allowances.records(), "limits"

    def _compare_locks(self) -> None:
        if self.backend.capabilities.locks:
            found = {lock.name: (lock.token, lock.expires_in_ms) for lock in self.backend.locks()}
            now = self.model.clock.steady_ms()
            expected = {
                name: (lock.token, lock.deadline_ms - now)
                for name, lock in self.model.locks.items()
                if self.model.is_locked(name)
            }
            assert found == expected, f"locks: {_difference(expected, found)}"

    def _compare_workflows(self) -> None:
        if not self.backend.capabilities.workflows:
            return
        expected: dict[str, Counter[JobState]] = {}
        for job in self.model.jobs.values():
            if job.spec.workflow is not None:
                counts = expected.setdefault(job.spec.workflow, Counter())
                counts[job.state] += job.replayed_as is None
        page = self.backend.workflows(params.WorkflowsRequest(limit=100))
        found = {workflow.id: Counter(dict(workflow.counts)) for workflow in page.workflows}
        assert {name: +counts for name, counts in found.items()} == {
            name: +counts for name, counts in expected.items()
        }, f"workflows: {found}, not {expected}"


def _ancestors(model: Model, job: ModelJob) -> set[str]:
    found: set[str] = set()
    look = [job_id for job_id in job.dependencies if job_id in model.jobs]
    while look:
        job_id = look.pop()
        if job_id not in found:
            found.add(job_id)
            look += [parent for parent in model.jobs[job_id].dependencies if parent in model.jobs]
    return found


def _reachable(state: JobState) -> set[JobState]:
    """Return every state that legal transitions lead to from ``state``."""
    found: set[JobState] = set()
    look = [state]
    while look:
        here = look.pop()
        for (source, _), target in TRANSITIONS.items():
            if source is here and target not in found:
                found.add(target)
                look.append(target)
    return found


def _difference(expected: Mapping[Any, object], found: Mapping[Any, object]) -> str:
    names = [
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    ]
    return ", ".join(
        f"{name}: {found.get(name)!r} instead of {expected.get(name)!r}" for name in names
    )
