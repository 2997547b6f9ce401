"""Jobs that wait for others."""

from __future__ import annotations

import pytest

from taskito.backends import params
from taskito.backends.params import CancelRequest, JobState, NewJob, Why

NOW = 1_800_000_000_000


def test_a_job_is_blocked_until_all_it_depends_on_is_complete(enqueue, worker, job):
    first, second = enqueue(), enqueue()
    child = enqueue(priority=5, depends_on=(first, second, first))
    record = job(child)
    assert (record.state, set(record.dependencies)) == (JobState.BLOCKED, {first, second})
    assert job(first).dependents == (child,)
    worker.succeed()
    assert job(child).state is JobState.BLOCKED
    worker.succeed()
    assert job(child).state is JobState.READY
    assert worker.claim_ids() == [child]


def test_a_batch_may_refer_to_its_earlier_items(backend, worker):
    answers = backend.enqueue(
        [
            NewJob(task="add"),
            NewJob(task="add", depends_on=(0,)),
            NewJob(task="add", depends_on=(0, 1)),
        ]
    )
    ids = [answer.id for answer in answers]
    assert [worker.succeed() for _ in ids] == ids


def test_an_index_of_a_duplicate_means_the_job_that_holds_the_key(backend, enqueue, job):
    holder = enqueue(unique_key="k")
    _, child = backend.enqueue(
        [NewJob(task="add", unique_key="k"), NewJob(task="add", depends_on=(0,))]
    )
    assert job(child.id).dependencies == (holder,)


def test_a_complete_dependency_does_not_block(enqueue, worker, job):
    parent = enqueue()
    worker.succeed()
    child = enqueue(depends_on=(parent,))
    assert (job(child).state, job(child).dependencies) == (JobState.READY, (parent,))


def test_a_delay_counts_from_the_end_of_the_last_dependency(clock, enqueue, worker, job):
    parent = enqueue()
    child = enqueue(delay_ms=100, depends_on=(parent,))
    clock.advance(1_000)
    assert worker.succeed() == parent
    record = job(child)
    assert (record.state, record.why, record.due_ms) == (
        JobState.SCHEDULED,
        Why.DELAY,
        NOW + 1_100,
    )


@pytest.mark.parametrize(("eta", "state"), [(500, JobState.READY), (5_000, JobState.SCHEDULED)])
def test_an_eta_is_kept(clock, enqueue, worker, job, eta, state):  # noqa: PLR0917
    parent = enqueue()
    child = enqueue(eta_ms=NOW + eta, depends_on=(parent,))
    clock.advance(1_000)
    assert worker.succeed() == parent
    assert (job(child).state, job(child).due_ms) == (state, NOW + eta)


def test_a_dead_job_cancels_what_depends_on_it_with_the_reason(enqueue, worker, job):
    parent = enqueue()
    child = enqueue(depends_on=(parent,), unique_key="k")
    grandchild = enqueue(depends_on=(child,))
    worker.fail()
    assert job(parent).state is JobState.DEAD
    assert job(child).state is JobState.CANCELLED
    assert parent in (job(child).reason or "")
    assert job(grandchild).state is JobState.CANCELLED
    assert enqueue(unique_key="k") != child


@pytest.mark.parametrize("how", ["dead", "cancelled"])
def test_a_dependency_that_ended_without_success_cancels_at_once(
    backend, enqueue, worker, job, how
):
    parent = enqueue()
    if how == "dead":
        worker.fail()
    else:
        backend.cancel(CancelRequest(ids=(parent,)))
    child = enqueue(depends_on=(parent,), unique_key="k")
    grandchild = enqueue(depends_on=(child,))
    for job_id in (child, grandchild):
        assert job(job_id).state is JobState.CANCELLED
        assert job(job_id).reason
    assert enqueue(unique_key="k") != child


def test_one_lost_dependency_of_several_is_enough(backend, enqueue, worker, job):
    first, second = enqueue(), enqueue()
    child = enqueue(depends_on=(first, second))
    backend.cancel(CancelRequest(ids=(second,)))
    assert job(child).state is JobState.CANCELLED
    assert worker.succeed() == first
    assert job(child).state is JobState.CANCELLED


def test_a_long_chain_is_cancelled_in_one_atom(backend, job):
    length = 3_000
    batch = [NewJob(task="add")]
    batch += [NewJob(task="add", depends_on=(index,)) for index in range(length - 1)]
    ids = [answer.id for answer in backend.enqueue(batch)]
    backend.cancel(CancelRequest(ids=ids[:1]))
    assert job(ids[-1]).state is JobState.CANCELLED
    assert backend.counts() == [
        params.Count(queue="default", task="add", state=JobState.CANCELLED, count=length)
    ]


def test_only_success_of_the_retried_job_unblocks(backend, enqueue, worker, job):
    parent = enqueue()
    child = enqueue(depends_on=(parent,))
    retry = params.OutcomeRetry(error=b"", kind=params.ErrorKind.FAILURE, delay_ms=0)
    worker.finish(retry)
    assert job(child).state is JobState.BLOCKED
    backend.maintain(10)
    assert worker.succeed() == parent
    assert job(child).state is JobState.READY
