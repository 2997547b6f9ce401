"""The budget stage: what a job costs does not depend on how many others wait.

With the fixture ``cost_meter`` statements, pages or whatever it counts are compared; without it,
seconds are, and only as ratios within one run.
"""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

from collections.abc import Callable

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import Verdict
from taskito.testing.conformance.gauge import SLACK, Gauge
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.profiles import current_profile
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["BudgetStage"]

FEW = 1_000
BATCH = 1_000
CLAIMS = 10
MANY = 100
"""The size of the batch whose cost per job is held against that of a single job."""


class BudgetStage(Topic):
    """Costs per job are flat, and jobs that may not run cost a claim nothing."""

    stage = "budget"
    topic = "budget"

    # Whatever waits -----------------------------------------------------------------------------

    def test_a_claim_costs_the_same_in_front_of_any_backlog(
        self, backend: Backend, gauge: Gauge, start_worker: StartWorker
    ) -> None:
        call = _claiming_and_settling(start_worker(), CLAIMS)
        _fill(backend, FEW)
        before = gauge.cost(call)
        _fill(backend, current_profile().backlog - FEW)
        gauge.assert_flat("to claim and settle", before, call)

    def test_an_enqueue_costs_the_same_behind_any_backlog(
        self, backend: Backend, gauge: Gauge
    ) -> None:
        call = _enqueueing(backend, CLAIMS)
        _fill(backend, FEW)
        before = gauge.cost(call)
        _fill(backend, current_profile().backlog - FEW)
        gauge.assert_flat("to enqueue", before, call)

    @pytest.mark.parametrize(
        "fields", [{}, {"delay_ms": 3_600_000, "expires_in_ms": 7_200_000}], ids=["ready", "later"]
    )
    def test_upkeep_with_nothing_to_do_costs_the_same_beside_any_backlog(
        self, backend: Backend, gauge: Gauge, fields: dict[str, object]
    ) -> None:
        _fill(backend, FEW, **fields)
        before = gauge.cost(lambda: backend.maintain(CLAIMS))
        _fill(backend, current_profile().backlog - FEW, **fields)
        gauge.assert_flat("upkeep", before, lambda: backend.maintain(CLAIMS))

    def test_reading_a_job_costs_the_same_in_any_backlog(
        self, backend: Backend, gauge: Gauge
    ) -> None:
        ids = _fill(backend, FEW)[0][:CLAIMS]
        before = gauge.cost(lambda: backend.get(ids))
        _fill(backend, current_profile().backlog - FEW)
        gauge.assert_flat("to read jobs", before, lambda: backend.get(ids))

    # Beside jobs that may not run ---------------------------------------------------------------

    def test_jobs_of_an_unknown_task_cost_a_claim_nothing(
        self, backend: Backend, gauge: Gauge, start_worker: StartWorker
    ) -> None:
        _check_beside(backend, gauge, start_worker, {"task": "unknown", "priority": 9})

    def test_jobs_of_a_queue_not_served_cost_a_claim_nothing(
        self, backend: Backend, gauge: Gauge, start_worker: StartWorker
    ) -> None:
        _check_beside(backend, gauge, start_worker, {"queue": "other", "priority": 9})

    @needs("pauses")
    def test_jobs_of_a_paused_queue_cost_a_claim_nothing(
        self, backend: Backend, gauge: Gauge, start_worker: StartWorker
    ) -> None:
        backend.pause("paused")
        _check_beside(backend, gauge, start_worker, {"queue": "paused", "priority": 9})

    def test_delayed_jobs_cost_a_claim_nothing(
        self, backend: Backend, gauge: Gauge, start_worker: StartWorker
    ) -> None:
        _check_beside(backend, gauge, start_worker, {"delay_ms": 3_600_000, "priority": 9})

    @needs("dependencies")
    def test_blocked_jobs_cost_a_claim_nothing(
        self, backend: Backend, gauge: Gauge, start_worker: StartWorker
    ) -> None:
        [first] = backend.enqueue([params.NewJob(task="unknown")])
        _check_beside(backend, gauge, start_worker, {"depends_on": (first.id,), "priority": 9})

    def test_finished_jobs_cost_a_claim_nothing(
        self, backend: Backend, gauge: Gauge, start_worker: StartWorker
    ) -> None:
        call = _claiming_and_settling(start_worker(), CLAIMS)
        _fill(backend, FEW)
        before = gauge.cost(call)
        for ids in _fill(backend, current_profile().backlog):
            backend.cancel(params.CancelRequest(ids=ids))
        gauge.assert_flat("a claim beside finished jobs", before, call)

    # Batches ------------------------------------------------------------------------------------

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

    def test_a_job_in_a_batch_costs_no_more_than_one_alone(
        self, backend: Backend, counting_gauge: Gauge, start_worker: StartWorker
    ) -> None:
        for what, one, many in _single_and_batch(backend, counting_gauge, start_worker()):
            for name, number in many.items():
                assert number <= MANY * one[name] + SLACK, (
                    f"to {what} {MANY} jobs costs {number:.0f} {name}, one alone {one[name]:.0f}"
                )

    def test_a_batch_takes_as_many_round_trips_as_one_job(
        self, backend: Backend, counting_gauge: Gauge, start_worker: StartWorker
    ) -> None:
        for what, one, many in _single_and_batch(backend, counting_gauge, start_worker()):
            if "round_trips" not in one:
                pytest.skip("the fixture cost_meter counts no round_trips")
            # The first one of a kind may have to prepare a statement.
            assert many["round_trips"] <= one["round_trips"] + 1, (
                f"to {what} {MANY} jobs takes {many['round_trips']:.0f} round trips, one alone "
                f"{one['round_trips']:.0f}"
            )


def _check_beside(
    backend: Backend, gauge: Gauge, start_worker: StartWorker, fields: dict[str, object]
) -> None:
    """Claim and settle beside few jobs that could be claimed, and many that could not."""
    call = _claiming_and_settling(start_worker(queues=("default", "paused")), CLAIMS)
    _fill(backend, FEW)
    before = gauge.cost(call)
    _fill(backend, current_profile().backlog, **fields)
    gauge.assert_flat("a claim beside jobs that may not run", before, call)


def _single_and_batch(
    backend: Backend, gauge: Gauge, worker: PlayedWorker
) -> list[tuple[str, dict[str, float], dict[str, float]]]:
    """Return what one job costs and what many cost, for each operation on the hot path."""
    _fill(backend, 10 * MANY)
    return [
        (
            "enqueue",
            gauge.cost(_enqueueing(backend, 1)),
            gauge.cost(_enqueueing(backend, MANY)),
        ),
        (
            "claim and settle",
            gauge.cost(_claiming_and_settling(worker, 1)),
            gauge.cost(_claiming_and_settling(worker, MANY)),
        ),
    ]


def _fill(backend: Backend, jobs: int, **fields: object) -> list[tuple[str, ...]]:
    """Enqueue jobs, and return their ids by batch."""
    ids: list[tuple[str, ...]] = []
    while jobs > 0:
        spec = params.NewJob(**{"task": "add", **fields})  # type: ignore[arg-type]
        answers = backend.enqueue([spec] * min(jobs, BATCH))
        ids.append(tuple(answer.id for answer in answers))
        jobs -= BATCH
    return ids


def _enqueueing(backend: Backend, jobs: int) -> Callable[[], object]:
    return lambda: backend.enqueue([params.NewJob(task="add")] * jobs)


def _claiming_and_settling(worker: PlayedWorker, jobs: int) -> Callable[[], object]:
    def claim_and_settle() -> None:
        claimed = worker.claim(jobs)
        assert len(claimed) == jobs
        assert {job.task for job in claimed} == {"add"}
        worker.exchange(settlements=tuple(_success(job) for job in claimed))

    return claim_and_settle


def _success(job: params.ClaimedJob) -> params.Settlement:
    outcome = params.OutcomeSuccess(result=b"", serializer="msgpack")
    return params.Settlement(lease=job.lease, outcome=outcome, started_ago_ms=0)
