"""One step of upkeep, held against what the model says there was to do."""

from __future__ import annotations

from taskito.backends import Backend, params
from taskito.backends.capabilities import Liveness
from taskito.backends.params import JobState
from taskito.testing.conformance.model import WAITING, Model, ModelJob
from taskito.testing.conformance.observation import Observer
from taskito.testing.conformance.timetable import Timetable

__all__ = ["PLENTY", "UpkeepCheck"]

PLENTY = 1_000
"""A budget that is larger than anything there is to do."""

MOST_STEPS = 10
"""So many steps with plenty of budget have to be enough for everything."""


class UpkeepCheck:
    """Calls ``maintain`` and brings the model up to what it was allowed to do.

    Args:
        backend: The store under test.
        model: What it should be like.
        observer: Reads the store.
        timetable: Its schedules.
    """

    def __init__(
        self, backend: Backend, model: Model, observer: Observer, timetable: Timetable
    ) -> None:
        self.backend = backend
        self.timetable = timetable
        self.model = model
        self.observer = observer

    def run(self, budget: int) -> params.MaintainReply:
        """Do one step with this budget and check everything that it reports.

        With ``PLENTY`` as the budget, do steps until nothing is left.
        """
        # A dead worker's jobs may come back in one step and expire, or be deleted, in the next.
        for _ in range(MOST_STEPS):
            reply, something_left = self._step(budget)
            if not something_left or budget < PLENTY:
                return reply
        raise AssertionError(
            f"maintain: something is left to do after {MOST_STEPS} steps with a budget of {budget}"
        )

    def _step(self, budget: int) -> tuple[params.MaintainReply, bool]:
        """Do one step; return its reply and whether something is left to do."""
        over = {job.id for job in self.model.in_state(JobState.RUNNING) if self.model.is_over(job)}
        waiting = self._unknown(*WAITING), self._unknown(JobState.READY)
        reply = self.backend.maintain(budget)
        self.observer.look()
        rescued = self._rescue(over)
        done = self.observer.take_over(prune=True)
        # The counts may be larger: a store with several namespaces may look after all of them.
        assert reply.rescued >= rescued, f"rescued: {reply.rescued}, not {rescued}"
        direct = len(done.expired - done.caused)
        assert reply.expired >= direct, f"expired: {reply.expired}, not {direct}"
        promoted = len(done.promoted)
        assert reply.promoted >= promoted, f"promoted: {reply.promoted}, not {promoted}"
        assert reply.pruned >= len(done.pruned), f"pruned: {reply.pruned}, not {len(done.pruned)}"
        left = self.timetable.after_upkeep(reply, budget)
        self._check_rest(reply, *waiting)
        return reply, self._check_bounds(reply, budget, over) or left

    # Rescues ------------------------------------------------------------------------------------

    def _rescue(self, over: set[str]) -> int:
        taken = [
            job
            for job in self.model.in_state(JobState.RUNNING)
            if (record := self.observer.records.get(job.id)) is None
            or record.state is not JobState.RUNNING
        ]
        for job in taken:
            assert job.id in over, f"job {job.id} was taken from a worker whose lease goes on"
        for worker in {job.worker for job in taken}:
            self._rescue_from(worker, [job for job in taken if job.worker == worker])
        return len(taken)

    def _rescue_from(self, worker: str, taken: list[ModelJob]) -> None:
        """Take jobs back from one worker; only if all its runs ended at once, blame is certain."""
        started = [job for job in self.model.held_by(worker) if job.started]
        suspects = [job for job in started if job.suspect]
        known = (
            all(job in taken for job in started)
            and not self.model.workers[worker].partly_rescued
            and all(job.suspect is not None for job in started)
        )
        self.model.workers[worker].partly_rescued = True
        culprit = suspects[0] if len(suspects) == 1 else None
        for job in taken:
            if not job.started:
                self.model.allowances.give_back(job)
                self.model.back_to_ready(job)
                continue
            self.model.crash(job)
            self._blame(job, known=known, culprit=culprit)

    def _blame(self, job: ModelJob, *, known: bool, culprit: ModelJob | None) -> None:
        record = self.observer.records.get(job.id)
        # What is gone was buried, and deleted in the same step as a dead letter too many.
        charged = record is None or record.crashes == job.crashes + 1
        if not known:
            if charged:
                assert job.suspect is not False, f"job {job.id} was no suspect and is charged"
                job.crashes += 1
            elif not job.suspect:
                job.suspect = None
        elif job is culprit:
            if job.cancel_reason is None or charged:
                job.crashes += 1
        elif culprit is None:
            job.suspect = True
        charged_out = record is None or record.state is JobState.DEAD
        if job.cancel_reason is None and charged_out:
            assert job.crashes >= job.spec.max_crashes, f"job {job.id} is buried too early"
            self.model.end(job, JobState.DEAD)
            return
        self.model.back_to_ready(job)

    # Bounds -------------------------------------------------------------------------------------

    def _check_bounds(self, reply: params.MaintainReply, budget: int, over: set[str]) -> bool:
        """Return whether something is left; that is so only if the budget is spent.

        Jobs of workers that are gone are taken back together, whatever the budget.
        """
        model = self.model
        left = {
            "promoted": any(model.is_due(job) for job in model.jobs.values()),
            "expired": any(model.is_expired(job) for job in model.jobs.values()),
            "pruned": bool(model.surplus())
            or any(model.is_prunable(job) for job in model.jobs.values()),
            "rescued": bool(over)
            and self.backend.capabilities.liveness is not Liveness.SESSION
            and any(model.is_over(job) for job in model.jobs.values()),
        }
        for kind, something_left in left.items():
            done = getattr(reply, kind)
            assert kind == "rescued" or done <= budget, f"{kind}: {done} with a budget of {budget}"
            assert not something_left or done >= budget or reply.next_due_ms == 0, (
                f"{kind}: {done} of a budget of {budget}, but something is left to do"
            )
        return any(left.values())

    def _check_rest(
        self, reply: params.MaintainReply, waiting_before: set[str], ready_before: set[str]
    ) -> None:
        waits = self.model.waits_ms() + self.timetable.waits_ms()
        if waits:
            assert reply.next_due_ms is not None, "next_due_ms: None, but something is to come"
            assert reply.next_due_ms <= min(waits), (
                f"next_due_ms: {reply.next_due_ms}, but something is to do in {min(waits)} ms"
            )
        # A store may look before or after what the step itself does.
        ready = ready_before & self._unknown(JobState.READY)
        waiting = waiting_before | self._unknown(*WAITING)
        assert ready <= set(reply.unknown_tasks) <= waiting, (
            f"unknown_tasks: {reply.unknown_tasks}; no worker knows {sorted(ready)}"
        )

    def _unknown(self, *states: JobState) -> set[str]:
        """Return the tasks of jobs in these states that no registered worker knows."""
        workers = self.model.workers.values()
        known = {task for worker in workers for task in worker.registration.tasks}
        return {job.spec.task for job in self.model.in_state(*states)} - known
