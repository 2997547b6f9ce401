"""The stateful stage: any interleaving of all operations, held against the model after each step.

Hypothesis plays producers, workers, operators, the clock and the accidents: a worker that vanishes,
a lease that ends, a report that comes too late. When it finds a step after which store and model
differ, it prints the shortest sequence of calls that leads there.
"""

from __future__ import annotations

import sys
import uuid
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from taskito.backends import BackendOptions, Capabilities, params
from taskito.backends.params import CancelVerdict, JobState
from taskito.exceptions import ConfigurationError, JobNotFoundError, UnknownWorkerError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.claims import ExchangeCheck
from taskito.testing.conformance.fixtures import (
    NOW,
    BackendFactory,
    fresh_namespace,
)
from taskito.testing.conformance.model import Model, ModelLock
from taskito.testing.conformance.observation import Observer
from taskito.testing.conformance.plays import (
    DEAD_LETTER_LIMITS,
    LIMITS,
    NO_JOB,
    QUEUES,
    TASKS,
    batches,
    outcomes,
    settlements_of,
    subsets,
)
from taskito.testing.conformance.snapshot import every_id
from taskito.testing.conformance.timetable import SCHEDULE_NAMES, SCHEDULES, Timetable
from taskito.testing.conformance.upkeep import MOST_STEPS, PLENTY, UpkeepCheck

__all__ = ["StoreMachine"]

MAX_WORKERS = 4
LOCKS = ("a", "ß")
MAX_JOBS = 60
FEW_JOBS = 12
A_LONG_TIME_MS = 100 * 86_400_000


class StoreMachine(RuleBasedStateMachine):
    """Drives one store and its model.

    Args:
        factory: Makes the backend.
        capabilities: What it declares; the rules of others are never chosen.
    """

    def __init__(self, factory: BackendFactory, capabilities: Capabilities) -> None:
        super().__init__()
        self.capabilities = capabilities
        self.clock = VirtualClock(NOW)
        self.model = Model(self.clock)
        self.backend = factory(BackendOptions(namespace=fresh_namespace(), clock=self.clock))
        self.backend.open()
        self.observer = Observer(self.backend, self.model)
        self.timetable = Timetable(self.backend, self.model)
        parts = self.backend, self.model, self.observer, self.timetable
        self.upkeep = UpkeepCheck(*parts)
        self.exchanges = ExchangeCheck(*parts)
        self.leases: list[tuple[str, params.Lease]] = []
        self.vanished: set[str] = set()
        self.unregistered: list[str] = []
        self.prefix = uuid.uuid4().hex[:24]
        self.changes = 0

    def teardown(self) -> None:
        """Leave nothing behind in the namespace: upkeep may look after all of a store at once.

        What is left is read from the store, since after a failure the model knows less. A step that
        failed is reported even if the store cannot be cleared after it; then only, that is ignored.
        """
        failing = sys.exc_info()[0] is not None
        try:
            self._clear()
        except Exception:
            if not failing:
                raise
        finally:
            self.backend.close()

    def _clear(self) -> None:
        # Later than every end, delay and expiry, also where the wall clock was set back.
        self.clock.set_wall(max(self.clock.wall_ms(), NOW) + A_LONG_TIME_MS)
        self.backend.cancel(params.CancelRequest(ids=tuple(every_id(self.backend)), running=True))
        if self.capabilities.schedules:
            names = [record.name for record in self.backend.schedules()]
            self.backend.delete_schedules(names)
        for worker in self.backend.workers():
            self.backend.unregister(worker.id)
        for lock in self.backend.locks() if self.capabilities.locks else ():
            self.backend.release_lock(lock.name, lock.token)
        self.backend.purge(params.PurgeRequest(limit=PLENTY))
        left = every_id(self.backend)
        assert left == [], f"jobs that could be neither cancelled nor deleted: {left}"
        # A store may keep timers of jobs that are gone. One of them would use up the budget of a
        # small step for the next example, but not when that example is played again.
        for _ in range(MOST_STEPS):
            if self.backend.maintain(PLENTY).next_due_ms is None:
                break

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Begin with a worker that takes everything, and some jobs."""
        self.register(
            queues=None,
            tasks=list(TASKS),
            lease_ms=5_000,
            limits=[],
            dead_letters=params.DeadLetterLimit(),
            schedules=[],
        )
        self.enqueue(data=data)

    # Producers ----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.jobs) < MAX_JOBS)
    @rule(data=st.data())
    def enqueue(self, data: st.DataObject) -> None:
        """Enqueue a batch, in which items may depend on stored jobs and on earlier items."""
        batch = data.draw(batches(self.capabilities, list(self.model.jobs), self.clock.wall_ms()))
        self._enqueue(batch)

    @precondition(lambda self: self.capabilities.dependencies and len(self.model.jobs) < FEW_JOBS)
    @rule(running=st.booleans())
    def cancel_the_head_of_a_chain(self, running: bool) -> None:
        """Enqueue jobs that wait for each other, and cancel the first."""
        chain = [params.NewJob(task=TASKS[0], depends_on=waits) for waits in ((), (0,), (1,))]
        self._enqueue(chain)
        head = list(self.model.jobs)[-len(chain)]
        request = params.CancelRequest(ids=(head,), reason="no use", running=running)
        assert list(self.backend.cancel(request)) == [self._cancel_one(head, request)]

    @rule(data=st.data())
    def enqueue_refused(self, data: st.DataObject) -> None:
        """Enqueue a batch with one bad item: nothing of it may be stored."""
        good = params.NewJob(task="add")
        bad = [params.NewJob(task=""), params.NewJob(task="add", priority=128)]
        if self.capabilities.dependencies:
            bad.append(params.NewJob(task="add", depends_on=(NO_JOB,)))
            bad.append(params.NewJob(task="add", depends_on=(1,)))
        item = data.draw(st.sampled_from(bad))
        with pytest.raises((ConfigurationError, JobNotFoundError)):
            self.backend.enqueue([good, item])

    @precondition(lambda self: self.capabilities.replay and len(self.model.jobs) < MAX_JOBS)
    @rule(data=st.data(), dead_only=st.booleans(), once=st.booleans())
    def replay(self, data: st.DataObject, dead_only: bool, once: bool) -> None:
        """Enqueue finished jobs, and others, once more."""
        ids = data.draw(subsets([*self.model.jobs, NO_JOB], 3))
        request = params.ReplayRequest(ids=tuple(ids), dead_only=dead_only, once=once)
        answers = self.backend.replay(request)
        assert len(answers) == len(ids), "replay: one answer per id"
        known = self.model.jobs
        fit = [self.model.can_replay(known.get(job_id), request) for job_id in ids]
        if once and not all(fit):
            fit = [False] * len(ids)
        renewed: dict[str, str] = {}
        for job_id, answer, fits in zip(ids, answers, fit, strict=True):
            assert (answer is not None) == fits, f"replay of {job_id}: {answer}"
            if answer is not None:
                self.model.replay(known[job_id], answer, renewed)

    # Workers ------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.workers) < MAX_WORKERS)
    @rule(
        queues=st.none() | st.lists(st.sampled_from(QUEUES), min_size=1, unique=True),
        tasks=st.lists(st.sampled_from(TASKS), unique=True) | st.just(list(TASKS)),
        lease_ms=st.sampled_from([100, 5_000, 30_000]),
        dead_letters=DEAD_LETTER_LIMITS,
        schedules=st.lists(st.sampled_from(SCHEDULE_NAMES), unique=True),
        limits=st.just([]) | st.lists(LIMITS, max_size=2, unique_by=lambda limit: limit.task),
    )
    def register(  # noqa: PLR0917 -- Hypothesis gives them by name
        self,
        queues: list[str] | None,
        tasks: list[str],
        lease_ms: int,
        limits: list[params.TaskLimit],
        dead_letters: params.DeadLetterLimit,
        schedules: list[str],
    ) -> None:
        """Start a worker; what it says of its tasks counts from now on."""
        may_limit = self.capabilities.limits
        number = len(self.unregistered) + len(self.model.workers)
        registration = params.WorkerRegistration(
            id=f"{self.prefix}{number:08x}",
            pid=1,
            host="here",
            queues=None if queues is None else tuple(queues),
            tasks=tuple(tasks),
            lease_ms=lease_ms,
            concurrency=4,
            dead_letters=dead_letters
            if self.capabilities.dead_letter_limits
            else params.DeadLetterLimit(),
            schedules=tuple(schedules) if self.capabilities.schedules else (),
            limits=tuple(limit for limit in limits if may_limit and limit.task in tasks),
        )
        self.backend.register(registration)
        self.exchanges.register(registration)
        with pytest.raises(ConfigurationError):
            self.backend.register(registration)

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data())
    def unregister(self, data: st.DataObject) -> None:
        """Let a worker leave in order."""
        worker = data.draw(st.sampled_from(list(self.model.workers)))
        self.backend.unregister(worker)
        self.model.unregister(worker)
        self.unregistered.append(worker)
        self.vanished.discard(worker)
        with pytest.raises(UnknownWorkerError):
            self.backend.exchange(params.ExchangeRequest(worker=worker, want=1))

    @precondition(lambda self: self._present())
    @rule(
        data=st.data(),
        want=st.sampled_from([0, 1, 2, 5, 20]),
        idle=st.sampled_from([None, None, 0, 1, 3]),
        tasks=st.sampled_from([None, None, None, (), *((task,) for task in TASKS), TASKS[1:]]),
    )
    def exchange(
        self, data: st.DataObject, want: int, idle: int | None, tasks: tuple[str, ...] | None
    ) -> None:
        """Let a worker do any mix of what an exchange can carry, also with leases that are over."""
        worker = data.draw(st.sampled_from(self._present()))
        held = [params.Lease(id=job.id, token=job.token) for job in self.model.held_by(worker)]
        settled = data.draw(subsets(held, 3))
        old = data.draw(subsets([lease for owner, lease in self.leases if owner == worker], 1))
        settlements = tuple(
            data.draw(settlements_of(lease, self.model.jobs.get(lease.id)))
            for lease in dict.fromkeys(settled + [lease for lease in old if lease not in held])
        )
        rest = [lease for lease in held if lease not in settled]
        request = params.ExchangeRequest(
            worker=worker,
            settlements=settlements,
            renewals=tuple(data.draw(subsets(rest + old, 3))),
            starts=tuple(
                params.Start(lease=lease, ago_ms=data.draw(st.sampled_from([0, 3])))
                for lease in data.draw(subsets(rest, 3))
            ),
            want=want,
            idle=idle,
            tasks=tasks,
        )
        self._exchange(request)

    @precondition(lambda self: self._present())
    @rule(data=st.data())
    def run_one(self, data: st.DataObject) -> None:
        """Let a worker claim one job, start it and settle it: what happens most of the time."""
        worker = data.draw(st.sampled_from(self._present()))
        self._feed(worker, data)
        reply = self._exchange(params.ExchangeRequest(worker=worker, want=1))
        for claimed in reply.jobs:
            settlement = params.Settlement(
                lease=claimed.lease,
                outcome=data.draw(outcomes(self.model.jobs[claimed.lease.id])),
                started_ago_ms=0,
            )
            self._exchange(params.ExchangeRequest(worker=worker, settlements=(settlement,)))

    @precondition(lambda self: self._present())
    @rule(data=st.data())
    def claim_and_start(self, data: st.DataObject) -> None:
        """Let a worker begin a few jobs."""
        worker = data.draw(st.sampled_from(self._present()))
        self._feed(worker, data)
        reply = self._exchange(params.ExchangeRequest(worker=worker, want=3))
        starts = tuple(params.Start(lease=claimed.lease, ago_ms=0) for claimed in reply.jobs)
        self._exchange(params.ExchangeRequest(worker=worker, starts=starts))

    # Accidents ----------------------------------------------------------------------------------

    @precondition(lambda self: self._present())
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        """Let a worker stop calling; its leases end, if nobody else ends them, by time."""
        self.vanished.add(data.draw(st.sampled_from(self._present())))

    @precondition(lambda self: any(self.model.in_state(JobState.RUNNING)))
    @rule(data=st.data(), budget=st.sampled_from([1, 2, PLENTY]))
    def lease_ends(self, data: st.DataObject, budget: int) -> None:
        """Let the lease of one job end, and upkeep find that."""
        ids = [job.id for job in self.model.in_state(JobState.RUNNING)]
        job = self.model.jobs[data.draw(st.sampled_from(ids))]
        self.clock.advance(max(0, job.lease_end_ms - self.clock.steady_ms()))
        self.upkeep.run(budget)
        for worker in self._present()[:1]:
            self._exchange(params.ExchangeRequest(worker=worker, want=5))

    @precondition(lambda self: self.vanished & self.model.workers.keys())
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        """Let a worker that was away report all it ever held as done: only live leases count."""
        worker = data.draw(st.sampled_from(sorted(self.vanished & self.model.workers.keys())))
        self.vanished.discard(worker)
        settlements = tuple(
            params.Settlement(
                lease=lease,
                outcome=params.OutcomeSuccess(result=b"late", serializer="msgpack"),
                started_ago_ms=0,
            )
            for owner, lease in self.leases
            if owner == worker
        )
        self._exchange(params.ExchangeRequest(worker=worker, settlements=settlements))

    @precondition(lambda self: any(self.model.held_by(worker) for worker in self._present()))
    @rule(data=st.data())
    def release_and_claim(self, data: st.DataObject) -> None:
        """Let a worker give back one job and, in the same exchange, take what it can get."""
        busy = [worker for worker in self._present() if self.model.held_by(worker)]
        worker = data.draw(st.sampled_from(busy))
        job = data.draw(st.sampled_from(self.model.held_by(worker)))
        settlement = params.Settlement(
            lease=params.Lease(id=job.id, token=job.token), outcome=params.OutcomeRelease()
        )
        self._exchange(
            params.ExchangeRequest(worker=worker, settlements=(settlement,), want=MAX_JOBS)
        )
        if self._outdated():
            self.settle_too_late(data=data)

    @precondition(lambda self: self._outdated())
    @rule(data=st.data())
    def settle_too_late(self, data: st.DataObject) -> None:
        """Settle and renew a running job under a lease that it had before."""
        worker, lease = data.draw(st.sampled_from(self._outdated()))
        settlement = params.Settlement(
            lease=lease, outcome=data.draw(outcomes(None)), started_ago_ms=0
        )
        self._exchange(
            params.ExchangeRequest(worker=worker, settlements=(settlement,), renewals=(lease,))
        )
        if self.capabilities.progress_log:
            assert not self.backend.set_progress(lease.id, lease.token, 50), "set_progress: stored"
            assert not self.backend.append_log(lease, "info", "late"), "append_log: stored"

    @precondition(lambda self: len(self._present()) > 1 and any(self._held()))
    @rule(data=st.data())
    def settle_for_another(self, data: st.DataObject) -> None:
        """Let a worker settle and renew under a lease that another one has."""
        owner, lease = data.draw(st.sampled_from(self._held()))
        worker = data.draw(st.sampled_from([one for one in self._present() if one != owner]))
        settlement = params.Settlement(
            lease=lease, outcome=data.draw(outcomes(None)), started_ago_ms=0
        )
        self._exchange(
            params.ExchangeRequest(worker=worker, settlements=(settlement,), renewals=(lease,))
        )

    @precondition(lambda self: any(self._held()))
    @rule(data=st.data())
    def settle_what_is_to_be_cancelled(self, data: st.DataObject) -> None:
        """Ask for the cancellation of a running job, whose worker then reports how it ended."""
        worker, lease = data.draw(st.sampled_from(self._held()))
        request = params.CancelRequest(ids=(lease.id,), reason="no more", running=True)
        assert list(self.backend.cancel(request)) == [self._cancel_one(lease.id, request)]
        settlement = params.Settlement(
            lease=lease,
            outcome=data.draw(outcomes(self.model.jobs[lease.id])),
            started_ago_ms=0,
        )
        self._exchange(params.ExchangeRequest(worker=worker, settlements=(settlement,)))

    # Time ---------------------------------------------------------------------------------------

    @rule(budget=st.sampled_from([1, 2, 3, PLENTY, PLENTY]))
    def maintain(self, budget: int) -> None:
        """Do a step of upkeep."""
        self.upkeep.run(budget)

    @rule(
        milliseconds=st.sampled_from([60_000, 5_000, 1_000, 99, 1]),
        budget=st.sampled_from([PLENTY, 1, None]),
    )
    def advance(self, milliseconds: int, budget: int | None) -> None:
        """Let time pass, and mostly upkeep see that."""
        self.clock.advance(milliseconds)
        if budget is not None:
            self.upkeep.run(budget)

    @rule(
        milliseconds=st.sampled_from([-3_600_000, -1_000, 1_000, 86_400_000]),
        budget=st.sampled_from([PLENTY, None]),
    )
    def set_wall_clock(self, milliseconds: int, budget: int | None) -> None:
        """Let somebody set the wall clock, with or without upkeep after it."""
        self.clock.set_wall(self.clock.wall_ms() + milliseconds)
        if budget is not None:
            self.upkeep.run(budget)

    # Control ------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), running=st.booleans())
    def cancel(self, data: st.DataObject, running: bool) -> None:
        """Cancel some jobs."""
        ids = data.draw(subsets([*self.model.jobs, NO_JOB], 3))
        request = params.CancelRequest(ids=tuple(ids), reason="not needed", running=running)
        verdicts = list(self.backend.cancel(request))
        expected = [self._cancel_one(job_id, request) for job_id in ids]
        assert verdicts == expected, f"cancel: {verdicts}, not {expected}"

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), limit=st.sampled_from([1, 2, PLENTY]), older_ms=st.sampled_from([0, 999]))
    def purge(self, data: st.DataObject, limit: int, older_ms: int) -> None:
        """Delete finished jobs."""
        states = data.draw(subsets(sorted(params.FINAL_STATES), 2))
        request = params.PurgeRequest(
            states=tuple(states),
            ids=tuple(data.draw(subsets([*self.model.jobs, NO_JOB], 4))),
            queue=data.draw(st.none() | st.sampled_from(QUEUES)),
            older_than_ms=older_ms,
            limit=limit,
        )
        deletable = {
            job.id
            for job in self.model.in_state(*(states or params.FINAL_STATES))
            if (not request.ids or job.id in request.ids)
            and request.queue in (None, job.spec.queue)
            and job.finished_ms <= self.clock.wall_ms() - older_ms
            and not self.model.is_needed(job)
        }
        count = self.backend.purge(request)
        gone = self.model.jobs.keys() - self.observer.look().keys()
        assert gone <= deletable, f"purge deleted {sorted(gone - deletable)}"
        assert count == len(gone) == min(limit, len(deletable)), (
            f"purge: {count} reported, {len(gone)} gone, {len(deletable)} to delete, limit {limit}"
        )
        for job_id in gone:
            self.observer.forget(job_id)

    @precondition(lambda self: self.capabilities.pauses)
    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        """Pause or resume a queue; doing it twice changes nothing."""
        if paused:
            self.backend.pause(queue)
            self.model.paused.add(queue)
        else:
            self.backend.resume(queue)
            self.model.paused.discard(queue)

    @precondition(lambda self: self.capabilities.limits)
    @rule(
        queue=st.sampled_from(QUEUES),
        rate=st.sampled_from([None, params.Rate(count=2, period_ms=1_000, burst=2)]),
        max_concurrent=st.sampled_from([None, 1, 3]),
    )
    def limit_queue(self, queue: str, rate: params.Rate | None, max_concurrent: int | None) -> None:
        """Limit a queue, or end that."""
        self.backend.limit_rate(queue, rate)
        self.backend.limit_concurrency(queue, max_concurrent)
        self.model.allowances.limit_queue(queue, rate, max_concurrent)

    @precondition(lambda self: self.capabilities.progress_log and self.leases)
    @rule(data=st.data(), percent=st.integers(0, 100))
    def note_progress(self, data: st.DataObject, percent: int) -> None:
        """Report progress and a log line under some lease, live or not."""
        worker, lease = data.draw(st.sampled_from(self.leases))
        live = self.model.holds(worker, lease)
        stored = self.backend.set_progress(lease.id, lease.token, percent)
        assert stored == live, f"set_progress: {stored}"
        logged = self.backend.append_log(lease, "info", f"{percent} %")
        assert logged == live, f"append_log: {logged}"
        if live:
            self.model.jobs[lease.id].progress = percent
            self.model.jobs[lease.id].logs.append((lease.token, "info", f"{percent} %"))
        if (job := self.model.jobs.get(lease.id)) is not None:
            lines = [(line.run, line.level, line.message) for line in self.backend.logs(job.id)]
            assert lines == job.logs, f"logs: {lines}, not {job.logs}"

    @precondition(lambda self: self.capabilities.locks)
    @rule(name=st.sampled_from(LOCKS), ttl_ms=st.sampled_from([1, 5_000, 60_000]))
    def acquire_lock(self, name: str, ttl_ms: int) -> None:
        """Ask for a lock, whoever has it."""
        was_held, now = self.model.is_locked(name), self.clock.steady_ms()
        request = params.LockRequest(name=name, owner="me", ttl_ms=ttl_ms)
        answer = self.backend.acquire_lock(request)
        assert (answer.token is None) == was_held, f"acquire_lock: {answer}"
        if answer.token is not None:
            assert answer.token > self.model.last_lock_token, f"token {answer.token} went back"
            self.model.last_lock_token = answer.token
            self.model.locks[name] = ModelLock(answer.token, now + ttl_ms)
        left = self.model.locks[name].deadline_ms - now
        assert answer.expires_in_ms == left, f"expires_in_ms: {answer.expires_in_ms}, not {left}"

    @precondition(lambda self: self.model.locks)
    @rule(data=st.data(), old=st.booleans(), ttl_ms=st.sampled_from([1, 5_000, 60_000]))
    def extend_locks(self, data: st.DataObject, old: bool, ttl_ms: int) -> None:
        """Extend some locks, perhaps under tokens that nobody has any more."""
        names = data.draw(subsets(sorted(self.model.locks), 2))
        leases = [
            params.LockLease(name=name, token=self.model.locks[name].token - old, ttl_ms=ttl_ms)
            for name in names
        ]
        expected = [self.model.is_locked(lease.name, lease.token) for lease in leases]
        assert list(self.backend.extend_locks(leases)) == expected, "extend_locks"
        for lease, held in zip(leases, expected, strict=True):
            if held:
                self.model.locks[lease.name].deadline_ms = self.clock.steady_ms() + ttl_ms

    @precondition(lambda self: self.model.locks)
    @rule(data=st.data(), old=st.booleans())
    def release_lock(self, data: st.DataObject, old: bool) -> None:
        """Release a lock, perhaps under a token that nobody has any more."""
        name = data.draw(st.sampled_from(sorted(self.model.locks)))
        token = self.model.locks[name].token - old
        held = self.model.is_locked(name, token)
        assert self.backend.release_lock(name, token) == held, "release_lock"
        if held:
            del self.model.locks[name]

    # Schedules ----------------------------------------------------------------------------------

    @precondition(lambda self: self.capabilities.schedules)
    @rule(spec=SCHEDULES)
    def declare(self, spec: params.NewSchedule) -> None:
        """Let code declare a schedule, a new one or a changed one."""
        self.timetable.put(spec)

    @precondition(lambda self: self.capabilities.schedules)
    @rule(name=st.sampled_from(SCHEDULE_NAMES), paused=st.booleans())
    def pause_schedule(self, name: str, paused: bool) -> None:
        """Pause or resume a schedule."""
        self.timetable.set_paused(name, paused)

    @precondition(lambda self: self.timetable.schedules)
    @rule(name=st.sampled_from(SCHEDULE_NAMES))
    def delete_schedule(self, name: str) -> None:
        """Delete a schedule."""
        self.timetable.delete(name)

    @precondition(lambda self: self.capabilities.schedules and len(self.model.jobs) < MAX_JOBS)
    @rule(name=st.sampled_from(SCHEDULE_NAMES))
    def trigger_schedule(self, name: str) -> None:
        """Make a job of a schedule at once."""
        self.timetable.trigger(name)

    @precondition(lambda self: self.capabilities.schedules and self._present())
    @rule(data=st.data(), spec=SCHEDULES, milliseconds=st.sampled_from([20_000, 60_000, 90_000]))
    def fire(self, data: st.DataObject, spec: params.NewSchedule, milliseconds: int) -> None:
        """Let a schedule fire, and a worker that declares it run a job."""
        if spec.name not in self.timetable.schedules:
            self.timetable.put(spec)
        if not any(
            spec.name in worker.registration.schedules for worker in self.model.workers.values()
        ):
            if len(self.model.workers) >= MAX_WORKERS:
                return
            names = list(SCHEDULE_NAMES)
            self.register(
                queues=None,
                tasks=list(TASKS),
                lease_ms=30_000,
                limits=[],
                dead_letters=params.DeadLetterLimit(),
                schedules=names,
            )
        self.clock.advance(milliseconds)
        self.upkeep.run(data.draw(st.sampled_from([1, PLENTY])))

    # Afterwards ---------------------------------------------------------------------------------

    @invariant()
    def the_store_is_like_the_model(self) -> None:
        """Compare everything that can be inspected, and the number of changes."""
        self.observer.compare()
        self.timetable.compare()
        changes = self.backend.wait(0, 0)
        assert changes >= self.changes, f"wait: {changes} after {self.changes}"
        self.changes = changes

    # Parts --------------------------------------------------------------------------------------

    def _present(self) -> list[str]:
        return [worker for worker in self.model.workers if worker not in self.vanished]

    def _held(self) -> list[tuple[str, params.Lease]]:
        """Return the live leases of the workers that are present."""
        return [
            (worker, params.Lease(id=job.id, token=job.token))
            for worker in self._present()
            for job in self.model.held_by(worker)
        ]

    def _enqueue(self, batch: list[params.NewJob]) -> None:
        answers = self.backend.enqueue(batch)
        assert len(answers) == len(batch), "enqueue: one answer per item"
        for spec, answer in zip(batch, answers, strict=True):
            edges = [
                edge if isinstance(edge, params.Dependency) else params.Dependency(job=edge)
                for edge in spec.depends_on
            ]
            waits_for = tuple(
                replace(edge, job=answers[edge.job].id) if isinstance(edge.job, int) else edge
                for edge in edges
            )
            holders = self.model.holders(spec)
            assert answer.duplicate == bool(holders), (
                f"duplicate: {answer.duplicate}; key or id are held by {sorted(holders)}"
            )
            if holders:
                assert answer.id in holders, f"{answer.id} does not hold the key or id"
                continue
            assert answer.id not in self.model.jobs, f"the id {answer.id} was given out twice"
            assert spec.id in (None, answer.id), f"id: {answer.id}, not {spec.id}"
            self.model.add(answer.id, spec, waits_for)

    def _feed(self, worker: str, data: st.DataObject) -> None:
        """Enqueue what a worker can take at once, if there is nothing for it."""
        who = self.model.workers[worker].registration
        queues = set(who.queues or QUEUES) - self.model.paused
        if not queues or not who.tasks or len(self.model.jobs) >= MAX_JOBS:
            return
        if not self.model.candidates(worker, promote=True):
            priorities = data.draw(st.lists(st.sampled_from([0, 0, 1]), min_size=1, max_size=3))
            job = params.NewJob(task=who.tasks[0], queue=min(queues), max_crashes=1)
            self._enqueue([replace(job, priority=priority) for priority in priorities])

    def _outdated(self) -> list[tuple[str, params.Lease]]:
        """Return leases that are over, of jobs that run under another one now."""
        return [
            (worker, lease)
            for worker, lease in self.leases
            if worker in self.model.workers
            and (job := self.model.jobs.get(lease.id)) is not None
            and job.state is JobState.RUNNING
            and job.token != lease.token
        ]

    def _exchange(self, request: params.ExchangeRequest) -> params.ExchangeReply:
        reply = self.exchanges.run(request)
        self.leases += [(request.worker, claimed.lease) for claimed in reply.jobs]
        return reply

    def _cancel_one(self, job_id: str, request: params.CancelRequest) -> CancelVerdict:
        job = self.model.jobs.get(job_id)
        if job is None or job.state in params.FINAL_STATES:
            return CancelVerdict.REFUSED
        if job.state is not JobState.RUNNING:
            self.model.end(job, JobState.CANCELLED, request.reason)
            return CancelVerdict.DONE
        if not request.running:
            return CancelVerdict.REFUSED
        if job.cancel_reason is None:
            job.cancel_reason = request.reason
        return CancelVerdict.REQUESTED
