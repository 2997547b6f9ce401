"""Conditions and inputs of dependencies, and the steps of a workflow."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import (
    SKIPPED,
    CancelRequest,
    Condition,
    Dependency,
    ErrorKind,
    JobState,
    NewJob,
    PurgeRequest,
    ReplayRequest,
)
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["WorkflowsContract"]

ENDS: dict[str, params.Outcome] = {
    "complete": params.OutcomeSuccess(result=b"", serializer="json"),
    "dead": params.OutcomeDead(error=b"why", kind=ErrorKind.FAILURE),
    "cancelled": params.OutcomeCancelled(reason="stopped"),
}


def after(job: str | int, condition: str = "success", *, input: bool = False) -> Dependency:
    """Make a dependency."""
    return Dependency(job=job, condition=Condition(condition), input=input)


class WorkflowsContract(Topic):
    """What conditions, inputs and ``NewJob.workflow`` promise."""

    topic = "workflows"
    needed = ("workflows",)

    # Conditions ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", list(ENDS))
    @pytest.mark.parametrize("condition", list(Condition))
    def test_a_condition_decides_whether_a_job_starts(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob, condition: Condition, end: str
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(Dependency(job=parent, condition=condition),))
        grandchild = enqueue(depends_on=(child,))
        assert job(child).state is JobState.BLOCKED
        worker.finish(ENDS[end])
        met = {
            Condition.SUCCESS: end == "complete",
            Condition.FAILURE: end != "complete",
            Condition.ALWAYS: True,
        }[condition]
        assert job(child).state is (JobState.READY if met else JobState.CANCELLED)
        assert job(grandchild).state is (JobState.BLOCKED if met else JobState.CANCELLED)
        if not met:
            reason = job(child).reason or ""
            assert reason == SKIPPED if condition is Condition.FAILURE else parent in reason

    @pytest.mark.parametrize("end", list(ENDS))
    @pytest.mark.parametrize("condition", list(Condition))
    def test_a_condition_on_a_job_that_has_ended_decides_at_once(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob, condition: Condition, end: str
    ) -> None:
        parent = enqueue()
        worker.finish(ENDS[end])
        child = enqueue(depends_on=(Dependency(job=parent, condition=condition),))
        met = condition is Condition.ALWAYS or (condition is Condition.SUCCESS) == (
            end == "complete"
        )
        assert job(child).state is (JobState.READY if met else JobState.CANCELLED)

    def test_of_several_conditions_on_failure_one_is_enough_once_all_have_ended(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        first, second = enqueue(), enqueue()
        child = enqueue(depends_on=(after(first, "failure"), after(second, "failure")))
        assert worker.fail() == first
        assert job(child).state is JobState.BLOCKED
        assert worker.succeed() == second
        assert job(child).state is JobState.READY

    def test_a_lost_job_counts_as_a_failure_for_others_in_the_same_atom(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        first = enqueue()
        second = enqueue(depends_on=(first,))
        rescue = enqueue(depends_on=(after(second, "failure"),))
        always = enqueue(depends_on=(after(second, "always"), after(first, "always")))
        worker.fail()
        assert job(second).state is JobState.CANCELLED
        assert job(rescue).state is job(always).state is JobState.READY

    def test_a_skipped_job_cancels_what_depends_on_it(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        rescue = enqueue(depends_on=(after(parent, "failure"),))
        after_rescue = enqueue(depends_on=(rescue,))
        finish = enqueue(depends_on=(after(rescue, "always"),))
        worker.succeed()
        assert (job(rescue).state, job(rescue).reason) == (JobState.CANCELLED, SKIPPED)
        assert job(after_rescue).state is JobState.CANCELLED
        assert job(finish).state is JobState.READY

    def test_one_job_may_be_named_several_times(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        both = (after(parent, input=True), after(parent, "always"), parent)
        child = enqueue(depends_on=both)
        record = job(child)
        assert record.dependencies == (parent,)
        assert record.waits_for == (*both[:2], after(parent))
        assert job(parent).dependents == (child,)
        worker.succeed()
        assert worker.claim_ids() == [child]

    # Inputs -------------------------------------------------------------------------------------

    def test_results_are_handed_over_in_the_order_in_which_they_were_named(
        self, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        parents = [enqueue() for _ in range(4)]
        order = [2, 0, 3, 0]
        child = enqueue(depends_on=tuple(after(parents[n], input=True) for n in order))
        for number in range(4):
            worker.finish(params.OutcomeSuccess(result=b"%d" % number, serializer="json"))
        [claimed] = worker.claim()
        assert claimed.lease.id == child
        assert [(item.id, item.result, item.serializer) for item in claimed.inputs] == [
            (parents[n], b"%d" % n, "json") for n in order
        ]
        assert {item.state for item in claimed.inputs} == {JobState.COMPLETE}

    @pytest.mark.parametrize("result", [b"", b"\xc0", b"\x00", bytes(1_048_577)], ids=len)
    def test_any_result_passes_whole(
        self, enqueue: Enqueue, worker: PlayedWorker, result: bytes
    ) -> None:
        parent = enqueue()
        enqueue(depends_on=(after(parent, input=True),))
        worker.finish(params.OutcomeSuccess(result=result, serializer="own"))
        [claimed] = worker.claim()
        [item] = claimed.inputs
        assert (item.result, item.serializer) == (result, "own")

    def test_only_inputs_are_handed_over(self, enqueue: Enqueue, worker: PlayedWorker) -> None:
        first, second = enqueue(), enqueue()
        enqueue(depends_on=(first, after(second, input=True)))
        worker.succeed()
        worker.succeed()
        [claimed] = worker.claim()
        assert [item.id for item in claimed.inputs] == [second]

    def test_an_input_tells_how_a_job_failed(self, enqueue: Enqueue, worker: PlayedWorker) -> None:
        dead = enqueue()
        lost = enqueue(depends_on=(dead,))
        enqueue(depends_on=(after(dead, "always", input=True), after(lost, "always", input=True)))
        worker.finish(params.OutcomeDead(error=b"the error", kind=ErrorKind.FAILURE))
        [claimed] = worker.claim()
        first, second = claimed.inputs
        assert (first.state, first.error, first.result) == (JobState.DEAD, b"the error", None)
        assert (second.state, second.error) == (JobState.CANCELLED, None)
        assert dead in (second.reason or "")

    def test_a_retried_attempt_gets_the_same_inputs(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        parent = enqueue()
        enqueue(depends_on=(after(parent, input=True),))
        worker.succeed()
        [first] = worker.claim()
        worker.settle(
            first.lease, params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=0)
        )
        backend.maintain(10)
        [second] = worker.claim()
        assert second.inputs == first.inputs
        assert second.inputs[0].result == b"5"

    # Retention ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("kept_by", [after(0, input=True), after(0, "failure")], ids=str)
    def test_a_result_is_kept_until_the_last_job_that_needs_it_has_ended(
        self, backend: Backend, clock: VirtualClock, worker: PlayedWorker, kept_by: Dependency
    ) -> None:
        parent, blocker, child = [
            answer.id
            for answer in backend.enqueue(
                [
                    NewJob(task="add", result_ttl_ms=1),
                    NewJob(task="add"),
                    NewJob(task="add", depends_on=(kept_by, after(1, "always"))),
                ]
            )
        ]
        worker.fail() if kept_by.condition is Condition.FAILURE else worker.succeed()
        clock.advance(1_000)
        assert backend.maintain(100).pruned == 0
        assert backend.purge(PurgeRequest()) == 0
        assert backend.purge(PurgeRequest(ids=(parent,))) == 0
        assert worker.succeed() == blocker
        [claimed] = worker.claim()
        assert claimed.lease.id == child
        backend.maintain(100)
        assert backend.get([parent])[0] is not None
        worker.settle(claimed.lease, ENDS["complete"])
        clock.advance(1)
        backend.maintain(100)
        assert backend.get([parent]) == [None]

    def test_a_kept_job_does_not_stop_a_purge_of_others(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        parent, other = enqueue(), enqueue()
        enqueue(depends_on=(after(parent, input=True),))
        assert [worker.succeed() for _ in range(2)] == [parent, other]
        assert backend.purge(PurgeRequest(limit=1)) == 1
        assert backend.get([other]) == [None]

    # Steps --------------------------------------------------------------------------------------

    def test_the_steps_of_a_workflow_are_listed_and_counted(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        enqueue()
        steps = [enqueue(workflow="étape 1") for _ in range(3)]
        enqueue(workflow="other")
        assert job(steps[0]).workflow == "étape 1"
        page = backend.list(params.ListRequest(workflow="étape 1"))
        assert [record.id for record in page.jobs] == steps[::-1]
        assert {record.workflow for record in page.jobs} == {"étape 1"}
        assert backend.list(params.ListRequest(workflow="nobody")).jobs == ()
        worker.succeed()
        worker.succeed()
        record = backend.workflow("étape 1")
        assert record is not None
        assert dict(record.counts) == {JobState.COMPLETE: 1, JobState.READY: 2}
        assert record.created_ms == job(steps[0]).created_ms
        assert backend.workflow("nobody") is None

    def test_workflows_are_listed_newest_first_in_pages(
        self, backend: Backend, enqueue: Enqueue
    ) -> None:
        for number in range(5):
            enqueue(workflow=f"w{number}")
        enqueue(workflow="w0")
        found: list[str] = []
        after_position = None
        while True:
            page = backend.workflows(params.WorkflowsRequest(limit=2, after=after_position))
            found += [workflow.id for workflow in page.workflows]
            after_position = page.next
            if after_position is None:
                break
        assert found == ["w4", "w3", "w2", "w1", "w0"]

    def test_a_workflow_ends_with_its_last_job(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue(workflow="w")
        worker.succeed()
        backend.purge(PurgeRequest())
        assert backend.workflow("w") is None
        assert backend.workflows(params.WorkflowsRequest()).workflows == ()

    @pytest.mark.parametrize(
        ("fields", "named"),
        [({"workflow": ""}, "workflow"), ({"depends_on": (after(9),)}, "depends_on")],
    )
    def test_a_bad_step_is_refused(
        self, backend: Backend, fields: dict[str, object], named: str
    ) -> None:
        before = observe(backend)
        with pytest.raises(ConfigurationError, match=f"item 1: {named}"):
            backend.enqueue([NewJob(task="add"), NewJob(task="add", **fields)])  # type: ignore[arg-type]
        assert observe(backend) == before

    # Running again ------------------------------------------------------------------------------

    @needs("replay")
    def test_what_failed_runs_again_with_what_is_there_already(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        first = enqueue(workflow="w")
        second = enqueue(workflow="w", depends_on=(after(first, input=True),))
        third = enqueue(workflow="w", depends_on=(after(second, input=True),))
        rescue = enqueue(workflow="w", depends_on=(after(third, "failure"),))
        worker.finish(params.OutcomeSuccess(result=b"one", serializer="json"))
        worker.fail()
        assert job(third).state is JobState.CANCELLED
        assert worker.succeed() == rescue
        ids = (second, third, rescue)
        again = backend.replay(ReplayRequest(ids=ids, once=True))
        assert None not in again
        assert backend.replay(ReplayRequest(ids=ids, once=True)) == [None] * 3
        new_second, new_third, new_rescue = map(str, again)
        assert job(new_third).state is job(new_rescue).state is JobState.BLOCKED
        [claimed] = worker.claim()
        assert claimed.lease.id == new_second
        assert [item.result for item in claimed.inputs] == [b"one"]
        worker.settle(claimed.lease, params.OutcomeSuccess(result=b"two", serializer="json"))
        [claimed] = worker.claim()
        assert [(item.id, item.result) for item in claimed.inputs] == [(new_second, b"two")]
        worker.settle(claimed.lease, ENDS["complete"])
        assert job(new_rescue).reason == SKIPPED
        record = backend.workflow("w")
        assert record is not None
        assert dict(record.counts) == {JobState.COMPLETE: 3, JobState.CANCELLED: 1}

    @needs("replay")
    def test_a_job_whose_input_was_deleted_cannot_run_again(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(after(parent, input=True),))
        worker.succeed()
        worker.succeed()
        backend.purge(PurgeRequest(ids=(parent,)))
        assert backend.replay(ReplayRequest(ids=(child,))) == [None]

    @needs("replay", "given_ids")
    def test_a_job_that_got_the_id_of_a_deleted_input_is_not_that_input(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        parent = enqueue(id="0189f7ab-5c10-7cc3-98c4-dc0c0c07398f")
        child = enqueue(depends_on=(after(parent, input=True),))
        worker.succeed()
        worker.succeed()
        backend.purge(PurgeRequest(ids=(parent,)))
        assert enqueue(id=parent) == parent
        assert backend.replay(ReplayRequest(ids=(child,))) == [None]

    # Size ---------------------------------------------------------------------------------------

    def test_a_long_chain_with_results_ends_in_one_atom(
        self, backend: Backend, job: GetJob
    ) -> None:
        length = 2_000
        batch = [NewJob(task="add")]
        batch += [
            NewJob(task="add", depends_on=(after(index, input=True),))
            for index in range(length - 1)
        ]
        batch.append(NewJob(task="add", depends_on=(after(length - 1, "always"),)))
        ids = [answer.id for answer in backend.enqueue(batch)]
        backend.cancel(CancelRequest(ids=(ids[0],)))
        assert job(ids[-2]).state is JobState.CANCELLED
        assert job(ids[-1]).state is JobState.READY

    def test_a_job_takes_many_results(self, backend: Backend, worker: PlayedWorker) -> None:
        width = 1_500
        batch = [NewJob(task="add") for _ in range(width)]
        batch.append(
            NewJob(task="add", depends_on=tuple(after(n, input=True) for n in range(width)))
        )
        backend.enqueue(batch)
        jobs = worker.claim(width)
        outcome = params.OutcomeSuccess(result=b"r", serializer="json")
        worker.exchange(
            settlements=tuple(
                params.Settlement(lease=claimed.lease, outcome=outcome, started_ago_ms=0)
                for claimed in jobs
            )
        )
        [callback] = worker.claim()
        assert [item.id for item in callback.inputs] == [claimed.lease.id for claimed in jobs]
