"""Rate and concurrency limits of tasks and queues."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves; small numbers of jobs

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito.backends import Backend, BackendOptions, params
from taskito.backends.params import (
    ErrorKind,
    JobState,
    LimitedBy,
    LimitKind,
    NewJob,
    OutcomeCancelled,
    OutcomeRelease,
    OutcomeRetry,
    OutcomeSnooze,
    OutcomeSuccess,
    Rate,
    TaskLimit,
)
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import (
    NOW,
    BackendFactory,
    Enqueue,
    GetJob,
    OpenAgain,
    fresh_namespace,
    worker_starter,
)
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.profiles import kit_settings
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["LimitsContract"]

DONE = OutcomeSuccess(result=b"", serializer="json")
TWO_A_SECOND = Rate(count=2, period_ms=1_000, burst=2)


def limited(
    start_worker: StartWorker,
    rate: Rate | None = None,
    max_concurrent: int | None = None,
    tasks: tuple[str, ...] = ("add",),
    **fields: Any,
) -> PlayedWorker:
    """Start a worker that announces these limits of the task ``add``."""
    limit = TaskLimit(task="add", rate=rate, max_concurrent=max_concurrent)
    return start_worker(tasks=tasks, limits=(limit,), **fields)


def only(claimed: list[params.ClaimedJob]) -> params.ClaimedJob:
    """Return the one job that was to be claimed."""
    assert len(claimed) == 1, f"{len(claimed)} jobs were claimed at a time, not 1"
    return claimed[0]


class LimitsContract(Topic):
    """What ``TaskLimit``, ``limit_rate``, ``limit_concurrency`` and ``limits`` promise."""

    topic = "limits"
    needed = ("limits",)

    # Rates --------------------------------------------------------------------------------------

    @needs("virtual_time")
    def test_a_rate_lets_its_burst_start_at_once_and_the_rest_evenly(
        self, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = limited(start_worker, TWO_A_SECOND)
        ids = [enqueue() for _ in range(5)]
        assert worker.claim_ids() == ids[:2]
        reply = worker.exchange(want=5)
        assert (reply.jobs, reply.next_due_ms) == ((), 500)
        clock.advance(499)
        assert worker.exchange(want=5).next_due_ms == 1
        clock.advance(1)
        assert worker.claim_ids() == ids[2:3]
        clock.advance(60_000)
        assert worker.claim_ids() == ids[3:5]

    @needs("virtual_time")
    @given(data=st.data())
    @kit_settings(share=1.0)
    def test_no_window_holds_more_than_the_formula_allows(
        self, backend_factory: BackendFactory, data: st.DataObject
    ) -> None:
        """Any window of w ms holds at most burst + count * w // period claims, and no fewer fit."""
        rate = data.draw(
            st.builds(
                Rate,
                count=st.integers(1, 7),
                period_ms=st.sampled_from([1, 3, 10, 1_000]),
                burst=st.integers(1, 5),
            )
        )
        steps = data.draw(
            st.lists(
                st.tuples(st.sampled_from([0, 1, 2, 7, 100, 2_000]), st.integers(1, 6)),
                min_size=1,
                max_size=30,
            )
        )
        clock = VirtualClock(NOW)
        options = BackendOptions(namespace=fresh_namespace(), clock=clock)
        claims: list[int] = []
        with backend_factory(options) as backend:
            start = worker_starter(backend)
            workers = [limited(start, rate) for _ in range(2)]
            wanted = sum(want for _, want in steps)
            backend.enqueue([NewJob(task="add")] * wanted)
            for number, (pause, want) in enumerate(steps):
                clock.advance(pause)
                taken = workers[number % 2].claim(want)
                claims += [clock.steady_ms()] * len(taken)
                # As much as is allowed: one more would break the formula for some window.
                more = len(taken) == want or not _is_allowed(rate, [*claims, clock.steady_ms()])
                assert more, f"{len(taken)} of {want} claimed at {claims}, {rate} allows more"
            backend.cancel(params.CancelRequest(ids=tuple(_waiting(backend))))
            for worker in workers:
                worker.leave()
            backend.purge(params.PurgeRequest(limit=10_000))
        assert _is_allowed(rate, claims), f"{claims} under {rate}"

    @pytest.mark.parametrize(
        "outcome", [OutcomeRelease(), OutcomeCancelled(reason="cancelled before its start")]
    )
    def test_a_claim_that_never_started_gives_its_token_back(
        self, enqueue: Enqueue, start_worker: StartWorker, outcome: params.Outcome
    ) -> None:
        worker = limited(start_worker, Rate(count=1, period_ms=3_600_000, burst=1))
        first, second = enqueue(), enqueue()
        claimed = only(worker.claim(5))
        worker.settle(claimed.lease, outcome, started_ago_ms=None)
        expected = first if isinstance(outcome, OutcomeRelease) else second
        assert worker.claim_ids() == [expected]

    def test_a_start_uses_a_token_whatever_comes_of_it(
        self, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = limited(start_worker, Rate(count=2, period_ms=3_600_000, burst=2))
        enqueue(), enqueue()
        released, snoozed = worker.claim(2)
        worker.settle(released.lease, OutcomeRelease(interrupted=True))
        worker.settle(snoozed.lease, OutcomeSnooze(delay_ms=0))
        assert worker.claim_ids() == []

    def test_a_worker_that_leaves_gives_back_the_tokens_of_what_it_never_started(
        self, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        rate = Rate(count=2, period_ms=3_600_000, burst=2)
        worker = limited(start_worker, rate)
        started, _ = enqueue(), enqueue()
        worker.start(next(job for job in worker.claim(2) if job.lease.id == started))
        worker.leave()
        assert len(limited(start_worker, rate).claim(5)) == 1

    @needs("virtual_time")
    def test_a_rate_is_shared_by_queues_and_by_workers(
        self, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        one, two = limited(start_worker, TWO_A_SECOND), limited(start_worker, TWO_A_SECOND)
        for queue in ("a", "b", "c"):
            enqueue(queue=queue)
        assert [len(one.claim()), len(two.claim()), len(one.claim()), len(two.claim())] == [
            1,
            1,
            0,
            0,
        ]
        clock.advance(500)
        assert len(two.claim(5)) == 1

    def test_an_exhausted_rate_hides_nobody_else(
        self, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = limited(
            start_worker, Rate(count=1, period_ms=3_600_000, burst=1), tasks=("add", "b")
        )
        for _ in range(20):
            enqueue(priority=9)
        other = enqueue(task="b")
        assert worker.claim_ids(2)[1:] == [other]

    # Concurrency --------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "end",
        [
            DONE,
            OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=60_000),
            OutcomeSnooze(delay_ms=60_000),
            params.OutcomeDead(error=b"", kind=ErrorKind.FAILURE),
        ],
    )
    def test_at_most_so_many_jobs_of_a_task_run_at_a_time(
        self, enqueue: Enqueue, start_worker: StartWorker, end: params.Outcome
    ) -> None:
        worker = limited(start_worker, max_concurrent=2)
        ids = [enqueue(queue=queue) for queue in ("a", "b", "a", "b")]
        claimed = worker.claim(10)
        assert [job.lease.id for job in claimed] == ids[:2]
        assert limited(start_worker, max_concurrent=2).claim_ids() == []
        worker.settle(claimed[1].lease, end)
        assert worker.claim_ids() == ids[2:3]

    @needs("virtual_time")
    def test_the_slots_of_a_lost_worker_are_free_again(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        lost = limited(start_worker, max_concurrent=2, lease_ms=1_000)
        ids = [
            enqueue(),
            enqueue(),
            enqueue(concurrency_key="k"),
            enqueue(concurrency_key="k"),
        ]
        assert sorted(lost.claim_ids()) == sorted(ids)
        worker = limited(start_worker, max_concurrent=2)
        more = [enqueue(), enqueue(concurrency_key="k")]
        assert worker.claim_ids() == []
        clock.advance(1_000)
        backend.maintain(100)
        assert sorted(worker.claim_ids()) == sorted(ids)
        worker.leave()
        assert len(limited(start_worker, max_concurrent=2).claim(10)) == 4
        assert set(more).isdisjoint(lost.claim_ids())

    def test_jobs_are_counted_by_their_concurrency_key(
        self, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = limited(start_worker, max_concurrent=1)
        ids = {key: [enqueue(concurrency_key=key) for _ in range(3)] for key in ("a", "b", None)}
        for place in range(3):
            claimed = worker.claim(10)
            assert {job.lease.id for job in claimed} == {line[place] for line in ids.values()}
            for job in claimed:
                worker.settle(job.lease, DONE)
        assert worker.claim_ids() == []

    def test_a_key_is_counted_over_all_queues_and_a_paused_one_stops_no_other(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = limited(start_worker, max_concurrent=1)
        first, second = (enqueue(queue=queue, concurrency_key="k") for queue in ("a", "b"))
        third = enqueue(queue="a", concurrency_key="k")
        claimed = only(worker.claim(10))
        assert claimed.lease.id == first
        if backend.capabilities.pauses:
            backend.pause("b")
        worker.settle(claimed.lease, DONE)
        expected = [third] if backend.capabilities.pauses else [second]
        assert worker.claim_ids() == expected

    def test_the_order_holds_among_the_jobs_of_a_key(
        self, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = limited(start_worker, max_concurrent=1)
        low = enqueue(concurrency_key="k")
        high = enqueue(concurrency_key="k", priority=5)
        middle = enqueue(priority=3)
        assert worker.claim_ids() == [high, middle]
        late = enqueue(concurrency_key="k", priority=4)
        assert worker.claim_ids() == []
        worker.leave()
        worker = limited(start_worker, max_concurrent=1)
        order = []
        while claimed := worker.claim(1):
            order.append(claimed[0].lease.id)
            worker.settle(claimed[0].lease, DONE)
        assert order == [high, late, middle, low]

    def test_whoever_leaves_the_line_of_a_key_lets_the_next_one_come(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = limited(start_worker, max_concurrent=1)
        first, second, third = (enqueue(concurrency_key="k") for _ in range(3))
        backend.cancel(params.CancelRequest(ids=(first,)))
        claimed = only(worker.claim(10))
        assert claimed.lease.id == second
        worker.settle(claimed.lease, OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=0))
        assert worker.claim_ids(1) in ([second], [third])

    def test_a_slot_that_is_given_back_wakes_who_waits(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = limited(start_worker, max_concurrent=1)
        enqueue(concurrency_key="k"), enqueue(concurrency_key="k")
        claimed = only(worker.claim(10))
        seen = backend.wait(0, 0)
        worker.settle(claimed.lease, DONE)
        assert backend.wait(seen, 0) != seen

    # Executors ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("fields", [{}, {"concurrency_key": "k"}])
    def test_a_limited_job_is_claimed_for_a_free_executor_only(
        self, enqueue: Enqueue, start_worker: StartWorker, fields: dict[str, Any]
    ) -> None:
        worker = limited(start_worker, max_concurrent=1, tasks=("add", "b"))
        enqueue(task="b", priority=9)
        held = enqueue(**fields)
        behind = enqueue(task="b")
        ahead = [job.lease.id for job in worker.exchange(want=10, idle=1).jobs]
        assert len(ahead) == 1, "what stands behind a limited job must not overtake it"
        assert worker.exchange(want=10, idle=0).jobs == ()
        taken = [job.lease.id for job in worker.exchange(want=10, idle=1).jobs]
        assert taken == [held, behind]

    # What is set --------------------------------------------------------------------------------

    def test_the_worker_that_started_last_says_what_the_limits_are(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        one = limited(start_worker, TWO_A_SECOND, 1)
        for _ in range(3):
            enqueue(), enqueue(concurrency_key="k")
        assert len(one.claim(10)) == 2
        two = limited(start_worker, max_concurrent=2)
        assert [(row.name, row.rate, row.max_concurrent) for row in backend.limits()] == [
            ("add", None, 2)
        ]
        assert len(two.claim(10)) == 2
        start_worker(tasks=("other",))
        assert two.claim_ids() == []
        three = start_worker()
        assert list(backend.limits()) == []
        assert len(three.claim(10)) == 2

    def test_a_limit_that_is_lowered_stops_no_run_and_lets_none_begin(
        self, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        one = limited(start_worker, max_concurrent=3)
        for _ in range(4):
            enqueue(), enqueue(concurrency_key="k")
        held = one.claim(10)
        assert len(held) == 6
        two = limited(start_worker, max_concurrent=1)
        for job in held[:4]:
            one.settle(job.lease, DONE)
        counts = [len(two.claim(10))]
        for job in held[4:]:
            one.settle(job.lease, DONE)
        counts.append(len(two.claim(10)))
        assert sum(counts) == 2

    def test_a_changed_rate_is_no_gift(self, enqueue: Enqueue, start_worker: StartWorker) -> None:
        worker = limited(start_worker, Rate(count=1, period_ms=3_600_000, burst=3))
        for _ in range(9):
            enqueue()
        assert len(worker.claim(2)) == 2
        worker = limited(start_worker, Rate(count=5, period_ms=3_600_000, burst=5))
        assert len(worker.claim(9)) == 1

    @needs("virtual_time")
    def test_a_queue_is_limited_whatever_its_tasks_are(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(tasks=("add", "b"))
        backend.limit_concurrency("x", 2)
        for task in ("add", "b", "add"):
            enqueue(task=task, queue="x")
        free = enqueue()
        assert len(worker.claim(10)) == 3
        assert free not in worker.claim_ids()
        backend.limit_concurrency("x", None)
        backend.limit_rate("x", Rate(count=1, period_ms=1_000, burst=1))
        enqueue(queue="x")
        assert [len(worker.claim(10)), len(worker.claim(10))] == [1, 0]
        clock.advance(1_000)
        assert len(worker.claim(10)) == 1
        backend.limit_rate("x", None)
        assert list(backend.limits()) == []

    def test_limits_show_what_is_used_up(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker, job: GetJob
    ) -> None:
        rate = Rate(count=3, period_ms=3_600_000, burst=3)
        worker = limited(start_worker, rate, 2)
        backend.limit_concurrency("x", 2)
        waiting = [enqueue(queue="x") for _ in range(3)]
        worker.claim(10)
        assert {row.kind: row for row in backend.limits()} == {
            LimitKind.TASK: params.LimitRecord(
                kind=LimitKind.TASK,
                name="add",
                rate=rate,
                max_concurrent=2,
                running=2,
                tokens=1,
            ),
            LimitKind.QUEUE: params.LimitRecord(
                kind=LimitKind.QUEUE, name="x", max_concurrent=2, running=2
            ),
        }
        assert job(waiting[2]).limited_by is LimitedBy.CONCURRENCY
        assert job(waiting[0]).limited_by is None
        backend.limit_concurrency("x", None)
        assert job(waiting[2]).limited_by is LimitedBy.CONCURRENCY, "the task has a limit, too"

    def test_a_ready_job_tells_which_limit_it_waits_for(
        self, enqueue: Enqueue, start_worker: StartWorker, job: GetJob
    ) -> None:
        worker = limited(start_worker, Rate(count=2, period_ms=3_600_000, burst=2), 1)
        first, second = enqueue(concurrency_key="k"), enqueue(concurrency_key="k")
        other = enqueue(concurrency_key="l")
        assert job(first).limited_by is None
        assert worker.claim_ids() == [first, other]
        third = enqueue(concurrency_key="m")
        assert job(second).limited_by is LimitedBy.CONCURRENCY
        assert job(third).limited_by is LimitedBy.RATE
        assert job(third).state is JobState.READY
        assert job(third).concurrency_key == "m"

    @pytest.mark.parametrize(
        ("rate", "named"),
        [
            (Rate(count=0, period_ms=1, burst=1), "count"),
            (Rate(count=1, period_ms=0, burst=1), "period_ms"),
            (Rate(count=1, period_ms=1, burst=0), "burst"),
            (Rate(count=1_000_001, period_ms=1, burst=1), "count"),
            (Rate(count=1, period_ms=367 * 86_400_000, burst=1), "period_ms"),
        ],
    )
    def test_a_rate_that_cannot_be_kept_is_refused(
        self, backend: Backend, start_worker: StartWorker, rate: Rate, named: str
    ) -> None:
        before = observe(backend)
        with pytest.raises(ConfigurationError, match=named):
            backend.limit_rate("x", rate)
        with pytest.raises(ConfigurationError, match=named):
            limited(start_worker, rate)
        assert observe(backend) == before

    def test_a_concurrency_that_cannot_be_is_refused(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        before = observe(backend)
        with pytest.raises(ConfigurationError, match="max_concurrent"):
            backend.limit_concurrency("x", 0)
        with pytest.raises(ConfigurationError, match="max_concurrent"):
            limited(start_worker, max_concurrent=0)
        with pytest.raises(ConfigurationError, match="other"):
            start_worker(limits=(TaskLimit(task="other", max_concurrent=1),))
        for operation in (backend.limit_rate, backend.limit_concurrency):
            with pytest.raises(ConfigurationError, match="queue"):
                operation("", None)
        assert observe(backend) == before

    def test_limits_hold_for_whoever_opens_the_store(self, open_again: OpenAgain) -> None:
        first = open_again()
        first.limit_concurrency("x", 1)
        one = limited(worker_starter(first), max_concurrent=1)
        batch = [NewJob(task="add", concurrency_key="k"), NewJob(task="add", queue="x")]
        first.enqueue(batch * 2)
        assert len(one.claim(10)) == 2
        second = open_again()
        assert list(second.limits()) == list(first.limits())
        assert limited(worker_starter(second), max_concurrent=1).claim_ids() == []


def _waiting(backend: Backend) -> list[str]:
    states = (JobState.READY, JobState.RUNNING)
    page = backend.list(params.ListRequest(states=states, limit=10_000))
    return [record.id for record in page.jobs]


def _is_allowed(rate: Rate, claims: list[int]) -> bool:
    """Whether no window holds more claims than the rate allows; a window ends with a claim."""
    return all(
        last - first + 1
        <= rate.burst + rate.count * (claims[last] - claims[first]) // rate.period_ms
        for first, last in combinations_with_replacement(range(len(claims)), 2)
    )
