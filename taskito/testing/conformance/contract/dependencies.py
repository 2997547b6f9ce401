"""Jobs that wait for others."""
# ruff: noqa: D102, PLR0917 -- the name of a check says what it proves

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import CancelRequest, ErrorKind, JobState, NewJob, Why
from taskito.exceptions import ConfigurationError, JobNotFoundError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import NOW, Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.snapshot import count_by_state, observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["DependenciesContract"]


class DependenciesContract(Topic):
    """What ``depends_on`` promises."""

    topic = "dependencies"
    needed = ("dependencies",)

    def test_a_job_is_blocked_until_all_it_depends_on_is_complete(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        first, second = enqueue(), enqueue()
        child = enqueue(priority=5, depends_on=(first, second, first))
        record = job(child)
        assert (record.state, set(record.dependencies)) == (JobState.BLOCKED, {first, second})
        assert job(first).dependents == (child,)
        assert worker.succeed() == first
        assert job(child).state is JobState.BLOCKED
        assert worker.succeed() == second
        assert job(child).state is JobState.READY
        assert worker.claim_ids() == [child]

    def test_a_batch_may_refer_to_its_earlier_items(
        self, backend: Backend, worker: PlayedWorker
    ) -> None:
        answers = backend.enqueue(
            [
                NewJob(task="add"),
                NewJob(task="add", depends_on=(0,)),
                NewJob(task="add", depends_on=(0, 1)),
            ]
        )
        ids = [answer.id for answer in answers]
        for job_id in ids:
            [claimed] = worker.claim(10)
            assert claimed.lease.id == job_id
            worker.settle(claimed.lease, params.OutcomeSuccess(result=b"", serializer="json"))

    @pytest.mark.parametrize("index", [3, 9, -1])
    def test_an_index_that_is_not_of_an_earlier_item_is_refused(
        self, backend: Backend, index: int
    ) -> None:
        before = observe(backend)
        batch = [NewJob(task="add") for _ in range(3)]
        with pytest.raises(ConfigurationError, match="item 3: depends_on"):
            backend.enqueue([*batch, NewJob(task="add", depends_on=(index,))])
        assert observe(backend) == before

    def test_an_unknown_dependency_is_refused(self, backend: Backend) -> None:
        before = observe(backend)
        unknown = str(uuid.uuid4())
        with pytest.raises(JobNotFoundError, match=unknown):
            backend.enqueue([NewJob(task="add"), NewJob(task="add", depends_on=(unknown,))])
        assert observe(backend) == before

    @needs("unique")
    def test_an_index_of_a_duplicate_means_the_job_that_holds_the_key(
        self, backend: Backend, enqueue: Enqueue, job: GetJob
    ) -> None:
        holder = enqueue(unique_key="k")
        _, child = backend.enqueue(
            [NewJob(task="add", unique_key="k"), NewJob(task="add", depends_on=(0,))]
        )
        assert job(child.id).dependencies == (holder,)

    def test_a_complete_dependency_does_not_block(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        worker.succeed()
        child = enqueue(depends_on=(parent,))
        assert (job(child).state, job(child).dependencies) == (JobState.READY, (parent,))

    def test_a_delay_counts_from_the_end_of_the_last_dependency(
        self, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        child = enqueue(delay_ms=100, depends_on=(parent,))
        clock.advance(1_000)
        assert worker.succeed() == parent
        record = job(child)
        assert (record.state, record.why) == (JobState.SCHEDULED, Why.DELAY)
        assert record.due_ms == NOW + 1_100
        clock.advance(99)
        assert worker.claim() == []
        clock.advance(1)
        assert worker.claim_ids() == [child]

    def test_an_unblocked_job_does_not_wait_for_a_clock_that_was_set_back(
        self, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(parent,))
        [claimed] = worker.claim()
        clock.set_wall(NOW - 3_600_000)
        worker.settle(claimed.lease, params.OutcomeSuccess(result=b"", serializer="json"))
        assert job(child).state is JobState.READY

    @pytest.mark.parametrize(("eta", "state"), [(500, JobState.READY), (5_000, JobState.SCHEDULED)])
    def test_an_eta_is_kept(
        self,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
        eta: int,
        state: JobState,
    ) -> None:
        parent = enqueue()
        child = enqueue(eta_ms=NOW + eta, depends_on=(parent,))
        clock.advance(1_000)
        assert worker.succeed() == parent
        assert (job(child).state, job(child).due_ms) == (state, NOW + eta)

    def test_a_dead_job_cancels_all_that_depends_on_it_with_the_reason(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(parent,))
        grandchild = enqueue(depends_on=(child,))
        worker.fail()
        assert job(parent).state is JobState.DEAD
        assert job(child).state is JobState.CANCELLED
        assert parent in (job(child).reason or "")
        assert job(grandchild).state is JobState.CANCELLED
        assert worker.claim() == []

    def test_a_cancelled_job_cancels_all_that_depends_on_it(
        self, backend: Backend, enqueue: Enqueue, job: GetJob, worker: PlayedWorker
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(parent,))
        grandchild = enqueue(depends_on=(child,))
        backend.cancel(CancelRequest(ids=(parent,)))
        states = [job(job_id).state for job_id in (parent, child, grandchild)]
        assert states == [JobState.CANCELLED] * 3
        assert worker.claim() == []

    def test_an_expired_job_cancels_all_that_depends_on_it(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        job: GetJob,
    ) -> None:
        parent = enqueue(expires_in_ms=5)
        child = enqueue(depends_on=(parent,))
        grandchild = enqueue(depends_on=(child,))
        clock.advance(5)
        backend.maintain(10)
        states = [job(job_id).state for job_id in (parent, child, grandchild)]
        assert states == [JobState.CANCELLED] * 3

    @pytest.mark.parametrize("how", ["dead", "cancelled"])
    def test_a_dependency_that_ended_without_success_cancels_at_once(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob, how: str
    ) -> None:
        parent = enqueue()
        if how == "dead":
            worker.fail()
        else:
            backend.cancel(CancelRequest(ids=(parent,)))
        child = enqueue(depends_on=(parent,))
        grandchild = enqueue(depends_on=(child,))
        for job_id in (child, grandchild):
            assert job(job_id).state is JobState.CANCELLED
            assert job(job_id).reason
            assert job(job_id).finished_ms is not None

    def test_one_lost_dependency_of_several_is_enough(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        first, second = enqueue(), enqueue()
        child = enqueue(depends_on=(first, second))
        backend.cancel(CancelRequest(ids=(second,)))
        assert job(child).state is JobState.CANCELLED
        assert worker.succeed() == first
        assert job(child).state is JobState.CANCELLED

    def test_a_long_chain_is_cancelled_in_one_atom(self, backend: Backend, job: GetJob) -> None:
        length = 10_000
        batch = [NewJob(task="add")]
        batch += [NewJob(task="add", depends_on=(index,)) for index in range(length - 1)]
        ids = [answer.id for answer in backend.enqueue(batch)]
        backend.cancel(CancelRequest(ids=tuple(ids[:1])))
        assert job(ids[-1]).state is JobState.CANCELLED
        assert count_by_state(backend) == {JobState.CANCELLED: length}

    def test_all_dependents_of_one_job_are_unblocked_together(
        self, backend: Backend, worker: PlayedWorker
    ) -> None:
        batch = [NewJob(task="add"), *[NewJob(task="add", depends_on=(0,))] * 300]
        ids = [answer.id for answer in backend.enqueue(batch)]
        assert worker.succeed() == ids[0]
        assert worker.claim_ids(400) == ids[1:]

    def test_only_success_of_the_retried_job_unblocks(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(parent,))
        worker.finish(params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=0))
        assert job(child).state is JobState.BLOCKED
        backend.maintain(10)
        assert worker.succeed() == parent
        assert job(child).state is JobState.READY

    def test_a_dependency_that_is_deleted_by_its_ttl_neither_frees_nor_strands_a_dependent(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        early = enqueue(result_ttl_ms=1, priority=2)
        late = enqueue(result_ttl_ms=1, priority=1)
        child = enqueue(depends_on=(early, late))
        grandchild = enqueue(depends_on=(child, early))
        assert worker.succeed() == early
        clock.advance(1)
        assert backend.maintain(10).pruned == 1
        assert job(child).state is job(grandchild).state is JobState.BLOCKED
        assert worker.succeed() == late
        clock.advance(1)
        assert backend.maintain(10).pruned == 1
        assert worker.succeed() == child
        assert worker.succeed() == grandchild

    def test_dependents_stay_cancelled_when_the_dead_one_is_deleted_by_its_ttl(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        parent = enqueue(result_ttl_ms=1)
        child = enqueue(depends_on=(parent,))
        grandchild = enqueue(depends_on=(child,))
        worker.fail()
        clock.advance(1)
        assert backend.maintain(10).pruned == 1
        assert job(child).state is job(grandchild).state is JobState.CANCELLED
        assert worker.claim() == []

    def test_a_hundred_dependents_of_high_priority_wait_for_one_of_low_priority_and_all_run(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        parent = enqueue(priority=0)
        batch = [NewJob(task="add", priority=10, depends_on=(parent,)) for _ in range(100)]
        children = [answer.id for answer in backend.enqueue(batch)]
        assert worker.claim_ids(1) == [parent]
        assert worker.claim() == []
        worker.leave()
        other = PlayedWorker(backend, replace(worker.registration, id=uuid.uuid4().hex))
        ran = [other.succeed() for _ in range(101)]
        assert ran == [parent, *children]

    def test_a_purged_dependency_leaves_the_dependent_alone(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(parent,))
        worker.succeed()
        backend.purge(params.PurgeRequest())
        assert job(child).state is JobState.READY
        assert worker.succeed() == child
        assert backend.purge(params.PurgeRequest()) == 1
