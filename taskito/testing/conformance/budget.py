"""The budget stage: what a job costs does not depend on how many others wait.

Only ratios within one run are compared, each the best of several measurements, so that a busy or
slow machine changes nothing: a scan of all waiting jobs costs ten times as much or more.
"""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from taskito.backends import Backend, params
from taskito.backends.params import Verdict
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.profiles import current_profile
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["BudgetStage"]

FEW = 1_000
BATCH = 1_000
CLAIMS = 10
REPEATS = 8
ATTEMPTS = 3
BOUND = 3.0
"""How much more a job may cost in front of a large backlog."""


class BudgetStage(Topic):
    """Costs per job are flat, and jobs that may not run cost a claim nothing."""

    stage = "budget"
    topic = "budget"

    def test_a_claim_costs_the_same_in_front_of_any_backlog(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        worker = start_worker()
        _fill(backend, FEW)
        before = _cost(worker)
        _fill(backend, current_profile().backlog - FEW)
        _assert_flat("claim and settle", before, lambda: _cost(worker))

    def test_jobs_of_an_unknown_task_cost_a_claim_nothing(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        self._check(backend, start_worker, {"task": "unknown", "priority": 9})

    def test_jobs_of_a_queue_not_served_cost_a_claim_nothing(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        self._check(backend, start_worker, {"queue": "other", "priority": 9})

    @needs("pauses")
    def test_jobs_of_a_paused_queue_cost_a_claim_nothing(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        backend.pause("paused")
        self._check(backend, start_worker, {"queue": "paused", "priority": 9})

    def test_delayed_jobs_cost_a_claim_nothing(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        self._check(backend, start_worker, {"delay_ms": 3_600_000, "priority": 9})

    @needs("dependencies")
    def test_blocked_jobs_cost_a_claim_nothing(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        [first] = backend.enqueue([params.NewJob(task="unknown")])
        self._check(backend, start_worker, {"depends_on": (first.id,), "priority": 9})

    def test_finished_jobs_cost_a_claim_nothing(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        worker = start_worker()
        _fill(backend, FEW)
        before = _cost(worker)
        for ids in _fill(backend, current_profile().backlog):
            backend.cancel(params.CancelRequest(ids=ids))
        _assert_flat("a claim beside finished jobs", before, lambda: _cost(worker))

    def test_an_enqueue_costs_the_same_behind_any_backlog(self, backend: Backend) -> None:
        def cost() -> float:
            return _best(lambda: backend.enqueue([params.NewJob(task="add")] * CLAIMS))

        _fill(backend, FEW)
        before = cost()
        _fill(backend, current_profile().backlog - FEW)
        _assert_flat("enqueue", before, cost)

    def test_one_exchange_settles_and_claims_a_whole_batch(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        jobs, want = 500, 100
        _fill(backend, jobs)
        worker = start_worker()
        settlements: tuple[params.Settlement, ...] = ()
        done = exchanges = 0
        while done < jobs:
            reply = worker.exchange(settlements=settlements, want=want)
            assert set(reply.verdicts) <= {Verdict.OK}
            exchanges += 1
            done += len(settlements)
            settlements = tuple(_success(job) for job in reply.jobs)
        assert exchanges == jobs // want + 1, f"{exchanges} exchanges for {jobs} jobs"

    def _check(
        self, backend: Backend, start_worker: StartWorker, fields: dict[str, object]
    ) -> None:
        worker = start_worker(queues=("default", "paused"))
        _fill(backend, FEW)
        before = _cost(worker)
        for _ in _fill(backend, current_profile().backlog, **fields):
            pass
        _assert_flat("a claim beside jobs that may not run", before, lambda: _cost(worker))


def _fill(backend: Backend, jobs: int, **fields: object) -> list[tuple[str, ...]]:
    """Enqueue jobs, and return their ids by batch."""
    ids: list[tuple[str, ...]] = []
    while jobs > 0:
        spec = params.NewJob(**{"task": "add", **fields})  # type: ignore[arg-type]
        answers = backend.enqueue([spec] * min(jobs, BATCH))
        ids.append(tuple(answer.id for answer in answers))
        jobs -= BATCH
    return ids


def _cost(worker: PlayedWorker) -> float:
    """Return the least time in which a batch is claimed, settled and replaced by itself."""

    def claim_and_settle() -> None:
        claimed = worker.claim(CLAIMS)
        assert len(claimed) == CLAIMS
        assert {job.task for job in claimed} == {"add"}
        worker.exchange(settlements=tuple(_success(job) for job in claimed))

    return _best(claim_and_settle)


def _best(call: Callable[[], object]) -> float:
    def times() -> Iterator[float]:
        for _ in range(REPEATS):
            begin = time.perf_counter()
            call()
            yield time.perf_counter() - begin

    return min(times())


def _assert_flat(what: str, before: float, cost: Callable[[], float]) -> None:
    """Measure again, and once more if the machine was busy."""
    after = min(_until(lambda cost_now: cost_now <= BOUND * before, cost))
    assert after <= BOUND * before, (
        f"{what}: {before * 1e6:.0f} us at first, {after * 1e6:.0f} us with a backlog of "
        f"{current_profile().backlog} jobs"
    )


def _until(good: Callable[[float], bool], cost: Callable[[], float]) -> Iterator[float]:
    for _ in range(ATTEMPTS):
        now = cost()
        yield now
        if good(now):
            return


def _success(job: params.ClaimedJob) -> params.Settlement:
    outcome = params.OutcomeSuccess(result=b"", serializer="msgpack")
    return params.Settlement(lease=job.lease, outcome=outcome, started_ago_ms=0)
