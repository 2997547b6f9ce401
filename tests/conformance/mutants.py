"""Broken backends, a few lines over the memory store each, and the check that each must fail."""

from __future__ import annotations

import heapq
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from taskito.backends import Capabilities, params
from taskito.backends.base import Backend
from taskito.backends.memory import MemoryBackend
from taskito.backends.params import (
    FINAL_STATES,
    Condition,
    Dependency,
    ErrorKind,
    JobState,
    Verdict,
)
from taskito.exceptions import ConfigurationError

MUTANTS: list[Mutant] = []


@dataclass(frozen=True)
class Mutant:
    """A broken backend and the one check that has to notice.

    Attributes:
        check: The name of a method of ``BackendConformance``.
        arguments: The parameters of the check, where it has any.
    """

    backend: type[MemoryBackend]
    check: str
    arguments: dict[str, Any] = field(default_factory=dict)


def fails(check, **arguments):
    """Name the check that the decorated backend must fail."""

    def mark(backend):
        MUTANTS.append(Mutant(backend, check, arguments))
        return backend

    return mark


class Patched(MemoryBackend):
    """A mutant that changes the store itself, when it is opened."""

    def open(self):
        is_new = self._store is None
        super().open()
        if is_new:
            self.patch(self._store)

    def patch(self, store):
        raise NotImplementedError


class BeforeSettling(MemoryBackend):
    """A mutant that spoils a job just before its settlement is looked at."""

    def exchange(self, request):
        store = self._opened()
        for settlement in request.settlements:
            job = store.jobs.get(settlement.lease.id)
            if job is not None and job.holds(settlement.lease):
                self.spoil(job, settlement.outcome)
        return super().exchange(request)

    def spoil(self, job, outcome):
        raise NotImplementedError


# Accepting --------------------------------------------------------------------------------------


@fails("test_no_job_of_a_large_batch_is_lost")
class DropsOneJobInAThousand(MemoryBackend):
    def enqueue(self, jobs):
        answers = super().enqueue([job for n, job in enumerate(jobs) if n % 1_000 != 999])
        for n in range(999, len(jobs), 1_000):
            answers.insert(n, params.Enqueued(id=str(uuid.uuid4())))
        return answers


@fails(
    "test_a_bad_item_is_named_and_nothing_of_its_batch_is_stored",
    fields={"task": ""},
    named="task",
)
class StoresPartOfARefusedBatch(MemoryBackend):
    def enqueue(self, jobs):
        try:
            return super().enqueue(jobs)
        except ConfigurationError:
            super().enqueue(jobs[:1])
            raise


@fails("test_a_duplicate_stores_nothing")
class ReturnsDuplicatesWithANewId(MemoryBackend):
    def enqueue(self, jobs):
        return [
            replace(answer, id=str(uuid.uuid4())) if answer.duplicate else answer
            for answer in super().enqueue(jobs)
        ]


@fails(
    "test_every_final_state_frees_the_unique_key",
    end=params.OutcomeSuccess(result=b"", serializer="json"),
)
class ForgetsToFreeAUniqueKey(Patched):
    def patch(self, store):
        end = store._end_one

        def end_one(job, event, reason):
            end(job, event, reason)
            if job.spec.unique_key is not None:
                store.unique_keys[job.spec.unique_key] = job.id

        store._end_one = end_one


@fails("test_a_unique_key_is_held_through_every_state_before_a_final_one")
class FreesAUniqueKeyAtTheClaim(Patched):
    def patch(self, store):
        claim = store.claim

        def claim_and_free(job, worker):
            claim(job, worker)
            store.unique_keys.pop(job.spec.unique_key, None)

        store.claim = claim_and_free


@fails("test_jobs_of_another_namespace_are_unknown")
class IgnoresTheNamespace(MemoryBackend):
    def __init__(self, name, options):
        super().__init__(name, replace(options, namespace="all"))


# Claiming ---------------------------------------------------------------------------------------


@fails("test_a_job_that_is_not_due_is_not_claimed")
class ClaimsAFutureJob(MemoryBackend):
    def exchange(self, request):
        store = self._opened()
        for job in store.jobs.values():
            if request.want and job.state is JobState.SCHEDULED:
                store.move(job, "promote")
        return super().exchange(request)


@fails("test_a_job_becomes_ready_exactly_when_it_is_due")
class PromotesLate(Patched):
    def patch(self, store):
        promote = store.promote

        def promote_late(budget):
            due_ms = store.first_due()
            late = due_ms is not None and due_ms < store.clock.wall_ms()
            return promote(budget) if late else 0

        store.promote = promote_late


class RanksDifferently(Patched):
    """A mutant with another order of the ready jobs."""

    def patch(self, store):
        place = store._place

        def place_elsewhere(job):
            if job.state is JobState.READY:
                lane = store.lanes.setdefault(job.lane, [])
                heapq.heappush(lane, (self.rank(*job.rank), job))
                store.announce()
            else:
                place(job)

        store._place = place_elsewhere

    def rank(self, priority, due_ms, sequence):
        raise NotImplementedError


@fails("test_equal_jobs_are_claimed_in_the_order_of_enqueueing")
class LosesTheOrder(RanksDifferently):
    def rank(self, priority, due_ms, sequence):
        return priority, due_ms, -sequence


@fails("test_priority_goes_first_whatever_its_sign")
class IgnoresThePriority(RanksDifferently):
    def rank(self, priority, due_ms, sequence):
        return 0, due_ms, sequence


@fails("test_order_is_priority_then_due_time_then_enqueueing")
class IgnoresTheDueTimeInTheOrder(RanksDifferently):
    def rank(self, priority, due_ms, sequence):
        return priority, 0, sequence


@fails("test_no_more_than_wanted_is_claimed")
class ClaimsOneMoreThanWanted(MemoryBackend):
    def exchange(self, request):
        return super().exchange(replace(request, want=request.want + 1))


@fails("test_only_jobs_of_the_tasks_asked_for_are_claimed")
class ServesEveryTaskAskedForOrNot(MemoryBackend):
    def exchange(self, request):
        return super().exchange(replace(request, tasks=None))


@fails("test_only_served_queues_and_known_tasks_are_claimed")
class ServesEveryQueue(MemoryBackend):
    def register(self, worker):
        super().register(replace(worker, queues=None))


@fails("test_a_held_job_is_not_handed_to_another_worker")
class HandsAHeldJobToAnotherWorker(MemoryBackend):
    def exchange(self, request):
        reply = super().exchange(request)
        if not request.want:
            return reply
        self.handed = (*getattr(self, "handed", ()), *reply.jobs)
        return replace(reply, jobs=reply.jobs or self.handed[:1])


@fails("test_tokens_only_grow_whatever_happens")
class ReusesALease(Patched):
    def patch(self, store):
        claim = store.claim

        def claim_again(job, worker):
            if job.token:
                store.last_token = job.token - 1
            claim(job, worker)

        store.claim = claim_again


@fails("test_the_lease_of_an_earlier_run_is_stale")
class LetsATokenGoBack(Patched):
    def patch(self, store):
        store.last_token = 1_000
        claim = store.claim

        def claim_backwards(job, worker):
            store.last_token -= 2
            claim(job, worker)

        store.claim = claim_backwards


# Settling ---------------------------------------------------------------------------------------


@fails("test_an_earlier_lease_of_the_same_worker_is_stale")
class SettlesWithoutFencing(MemoryBackend):
    def exchange(self, request):
        jobs = self._opened().jobs

        def current(settlement):
            job = jobs.get(settlement.lease.id)
            token = settlement.lease.token if job is None else job.token
            return replace(settlement, lease=replace(settlement.lease, token=token))

        settlements = tuple(current(settlement) for settlement in request.settlements)
        return super().exchange(replace(request, settlements=settlements))


@fails("test_a_lease_is_of_use_to_its_worker_only")
class LetsAnyWorkerSettle(MemoryBackend):
    def exchange(self, request):
        for settlement in request.settlements:
            job = self._opened().jobs.get(settlement.lease.id)
            if job is not None and job.holds(settlement.lease):
                request = replace(request, worker=job.worker)
        return super().exchange(request)


@fails(
    "test_a_settled_lease_is_stale_and_changes_nothing",
    first=params.OutcomeSuccess(result=b"", serializer="json"),
    late=params.OutcomeSnooze(delay_ms=0),
)
class AnswersOkForStale(MemoryBackend):
    def exchange(self, request):
        reply = super().exchange(request)
        ok = {Verdict.STALE: Verdict.OK}
        return replace(reply, verdicts=tuple(ok.get(v, v) for v in reply.verdicts))


@fails("test_a_snooze_uses_no_attempt")
class BurnsAnAttemptOnSnooze(BeforeSettling):
    def spoil(self, job, outcome):
        job.attempt += isinstance(outcome, params.OutcomeSnooze)


@fails("test_a_released_job_goes_back_to_its_place")
class BurnsAnAttemptOnRelease(BeforeSettling):
    def spoil(self, job, outcome):
        job.attempt += isinstance(outcome, params.OutcomeRelease)


@fails("test_a_crash_reported_by_a_worker_is_charged_apart")
class ChargesACrashTwice(BeforeSettling):
    def spoil(self, job, outcome):
        job.crashes += getattr(outcome, "kind", None) is ErrorKind.CRASH


@fails(
    "test_a_job_that_would_go_on_ends_as_cancelled",
    outcome=params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=0),
)
class RetriesAJobThatIsToBeCancelled(BeforeSettling):
    def spoil(self, job, outcome):
        job.cancel_reason = None


@fails("test_a_dead_letter_keeps_the_history")
class ForgetsTheHistory(Patched):
    def patch(self, store):
        store.remember = lambda job, kind, detail=b"": None


@fails("test_a_renewal_extends_to_a_full_lease_from_now")
class RenewsNothing(MemoryBackend):
    def exchange(self, request):
        return super().exchange(replace(request, renewals=()))


@fails("test_a_lease_lasts_its_time_and_renewals_extend_it")
class HidesLostLeases(MemoryBackend):
    def exchange(self, request):
        return replace(super().exchange(request), lost=())


# Waiting for others -----------------------------------------------------------------------------


@fails("test_a_job_is_blocked_until_all_it_depends_on_is_complete")
class UnblocksAfterTheFirstParent(Patched):
    def patch(self, store):
        close = store._close_edge

        def close_all(child, edge, parent):
            child.pending = 1
            return close(child, edge, parent)

        store._close_edge = close_all


@fails("test_a_cancelled_job_cancels_all_that_depends_on_it")
class SparesGrandchildren(Patched):
    def patch(self, store):
        end = store.end

        def end_without_grandchildren(job, event, *, reason=None):
            children = [store.jobs[child] for child in job.dependents]
            saved = [child.dependents for child in children]
            for child in children:
                child.dependents = {}
            end(job, event, reason=reason)
            for child, dependents in zip(children, saved, strict=True):
                child.dependents = dependents

        store.end = end_without_grandchildren


# Control ----------------------------------------------------------------------------------------


@fails("test_a_paused_queue_yields_nothing_until_it_is_resumed")
class ClaimsWhilePaused(MemoryBackend):
    def exchange(self, request):
        store = self._opened()
        paused = set(store.paused)
        store.paused.clear()
        try:
            return replace(super().exchange(request), paused=tuple(sorted(paused)))
        finally:
            store.paused.update(paused)


@fails("test_a_pause_holds_for_whoever_opens_the_store")
class UnpausesOnReopen(Patched):
    def patch(self, store):
        store.paused.clear()


@fails("test_what_is_final_or_unknown_is_refused")
class ChangesAFinalState(MemoryBackend):
    def cancel(self, request):
        verdicts = super().cancel(request)
        for job_id in request.ids:
            job = self._opened().jobs.get(job_id)
            if job is not None and job.state is JobState.COMPLETE:
                job.state = JobState.CANCELLED
        return verdicts


@fails("test_the_worker_is_told_in_each_exchange_until_it_settles")
class ForgetsARequestToCancel(MemoryBackend):
    def exchange(self, request):
        return replace(super().exchange(request), cancel_requests=())


@fails("test_an_idempotency_key_outlives_the_job_until_it_is_purged")
class PurgeFreesNothing(MemoryBackend):
    def purge(self, request):
        store = self._opened()
        held = dict(store.idempotency_keys)
        count = super().purge(request)
        store.idempotency_keys.update(held)
        return count


@fails("test_filters_of_a_purge_combine")
class PurgesTooYoung(MemoryBackend):
    def purge(self, request):
        return super().purge(replace(request, older_than_ms=0))


@fails("test_a_replay_is_a_new_job_with_the_same_payload_and_options")
class ReplayLosesMetadata(MemoryBackend):
    def replay(self, request):
        answers = super().replay(request)
        for job_id in answers:
            job = self._opened().jobs[job_id]
            job.spec = replace(job.spec, metadata=None)
        return answers


@fails("test_only_dead_letters_that_were_not_replayed_if_asked_so")
class ReplaysADeadLetterTwice(MemoryBackend):
    def replay(self, request):
        return super().replay(replace(request, dead_only=False))


@fails("test_progress_needs_the_current_lease")
class TakesProgressFromAnyone(MemoryBackend):
    def set_progress(self, id, token, percent):
        return super().set_progress(id, None, percent)


# Upkeep -----------------------------------------------------------------------------------------


@fails("test_a_job_that_has_started_expires_no_more")
class ExpiresStartedJobs(MemoryBackend):
    def exchange(self, request):
        reply = super().exchange(request)
        store = self._opened()
        for job in store.jobs.values():
            if job.ever_started and job.state is JobState.SCHEDULED:
                job.ever_started = False
                store._watch_expiry(job)
        return reply


@fails("test_finished_jobs_are_deleted_when_their_time_is_over")
class PrunesTooEarly(Patched):
    def patch(self, store):
        first = store.first_retention_end

        def earlier():
            at_ms = first()
            return None if at_ms is None else at_ms - 1

        store.first_retention_end = earlier


@fails("test_a_step_is_bounded_and_says_that_there_is_more")
class IgnoresTheBudget(MemoryBackend):
    def maintain(self, budget):
        return super().maintain(budget * 1_000)


@fails("test_claimed_jobs_that_had_not_started_go_back_without_a_trace")
class BurnsAnAttemptOnRescue(MemoryBackend):
    def maintain(self, budget):
        jobs = self._opened().jobs
        held = [job for job in jobs.values() if job.state is JobState.RUNNING]
        reply = super().maintain(budget)
        for job in held:
            job.attempt += job.state is JobState.READY
        return reply


@fails("test_started_jobs_of_a_dead_worker_become_suspects")
class SuspectsNobody(MemoryBackend):
    def maintain(self, budget):
        reply = super().maintain(budget)
        store = self._opened()
        store.lanes.clear()
        for job in store.jobs.values():
            job.suspect = False
            if job.state is JobState.READY:
                store._place(job)
        return reply


class WallClockOnly:
    """A clock whose steady time is the wall time."""

    def __init__(self, clock):
        self.wall_ms = self.steady_ms = clock.wall_ms


@fails("test_a_stepped_wall_clock_does_not_end_leases")
class LeasesOnTheWallClock(Patched):
    def patch(self, store):
        store.clock = WallClockOnly(store.clock)


# Schedules --------------------------------------------------------------------------------------


class AroundUpkeep(MemoryBackend):
    """A mutant that spoils its schedules just before upkeep."""

    def maintain(self, budget):
        for one in self._opened().schedules.values():
            self.spoil(one)
        return super().maintain(budget)

    def spoil(self, one):
        raise NotImplementedError


class AheadOfTime:
    """A clock that is half a second fast."""

    def __init__(self, clock):
        self.clock = clock
        self.steady_ms = clock.steady_ms

    def wall_ms(self):
        return self.clock.wall_ms() + 500


@fails("test_it_fires_at_its_time_once_and_not_before")
class FiresEarly(MemoryBackend):
    def maintain(self, budget):
        store = self._opened()
        clock = store.clock
        before = super().maintain(budget)
        store.clock = AheadOfTime(clock)
        fired = super().maintain(budget).fired
        store.clock = clock
        return replace(before, fired=before.fired + fired)


@fails("test_it_fires_at_its_time_once_and_not_before")
class FiresTwice(MemoryBackend):
    def maintain(self, budget):
        due = {name: one.next_ms for name, one in self._opened().schedules.items()}
        reply = super().maintain(budget)
        for name, one in self._opened().schedules.items():
            if one.fired == 1:
                one.next_ms = due[name]
        return reply


@fails("test_a_wall_clock_that_is_set_back_fires_nothing_twice")
class ForgetsThatItFired(AroundUpkeep):
    def spoil(self, one):
        following = one.schedule.next_after(self._opened().clock.wall_ms())
        if following is not None and one.next_ms is not None:
            one.next_ms = min(following, one.next_ms)


@fails("test_no_fire_is_lost_or_doubled_however_small_the_steps")
class LosesFiresWhenTheBudgetEnds(MemoryBackend):
    def maintain(self, budget):
        reply = super().maintain(budget)
        now = self._opened().clock.wall_ms()
        for one in self._opened().schedules.values():
            if one.next_ms is not None and one.next_ms <= now:
                one.next_ms = one.schedule.next_after(now)
        return reply


@fails("test_a_schedule_holds_for_whoever_opens_the_store")
class ForgetsThePauseOnRestart(Patched):
    def patch(self, store):
        for one in store.schedules.values():
            one.paused = False


@fails("test_a_schedule_that_no_worker_declares_is_told_and_does_not_fire")
class FiresWithoutItsCode(MemoryBackend):
    def register(self, worker):
        super().register(replace(worker, schedules=tuple(self._opened().schedules)))


@fails(
    "test_fires_that_were_missed_are_made_good_as_declared",
    catch_up=params.CatchUp.ONCE,
    late_ms=20_000,
    made=[3],
)
class MakesGoodEachTime(MemoryBackend):
    def put_schedules(self, schedules):
        super().put_schedules([replace(one, catch_up=params.CatchUp.ALL) for one in schedules])


@fails(
    "test_a_fire_beside_an_unfinished_job_follows_overlap",
    overlap=params.Overlap.SKIP,
    made=1,
    skipped=2,
    waiting=0,
)
class IgnoresOverlaps(MemoryBackend):
    def put_schedules(self, schedules):
        super().put_schedules([replace(one, overlap=params.Overlap.ALLOW) for one in schedules])


@fails("test_a_redeploy_keeps_history_pause_and_the_fire_that_is_due")
class StartsAnewWithEachDeploy(MemoryBackend):
    def put_schedules(self, schedules):
        self.delete_schedules([one.name for one in schedules])
        super().put_schedules(schedules)


@fails("test_a_paused_schedule_does_not_fire_and_none_of_it_is_made_good")
class MakesGoodWhatAPauseLeftOut(MemoryBackend):
    def set_schedules_paused(self, names, paused):
        before = {name: one.next_ms for name, one in self._opened().schedules.items()}
        answers = super().set_schedules_paused(names, paused)
        for name, one in self._opened().schedules.items():
            one.next_ms = before[name]
        return answers


# Looking ----------------------------------------------------------------------------------------


@fails("test_counts_follow_every_change")
class Miscounts(MemoryBackend):
    def counts(self):
        return [replace(count, retrying=False) for count in super().counts()]


@fails("test_pages_are_newest_first_and_complete", limit=3)
class RepeatsARowOnTheNextPage(MemoryBackend):
    def list(self, request):
        page = super().list(request)
        return page if page.next is None else replace(page, next=page.next + 1)


@fails("test_a_listing_is_not_disturbed_by_new_and_deleted_jobs")
class CountsPagesFromTheTop(MemoryBackend):
    def list(self, request):
        skip = request.after or 0
        page = super().list(replace(request, after=None, limit=request.limit + skip))
        more = None if page.next is None else request.limit + skip
        return replace(page, jobs=page.jobs[skip:], next=more)


@fails("test_a_new_job_is_a_change")
class WaitNeverReturnsAChange(MemoryBackend):
    def wait(self, since, timeout):
        super().wait(since, 0)
        return since


# Costs ------------------------------------------------------------------------------------------


class Counting(MemoryBackend):
    """A mutant with a meter: what it does beyond the correct store is counted by hand."""

    def __init__(self, name, options):
        super().__init__(name, options)
        self.spent = {"steps": 0, "round_trips": 0}

    def cost_meter(self):
        return self.spent

    def enqueue(self, jobs):
        self.spent["round_trips"] += 1
        self.spent["steps"] += len(jobs)
        return super().enqueue(jobs)

    def exchange(self, request):
        self.spent["round_trips"] += 1
        self.spent["steps"] += request.want + len(request.settlements)
        return super().exchange(request)


@fails("test_a_claim_costs_the_same_in_front_of_any_backlog")
class LooksAtEveryReadyJobInAClaim(Counting):
    def exchange(self, request):
        ready = [job for job in self._opened().jobs.values() if job.state is JobState.READY]
        self.spent["steps"] += len(ready)
        return super().exchange(request)


@fails("test_an_enqueue_costs_the_same_behind_any_backlog")
class CountsAllJobsInAnEnqueue(Counting):
    def enqueue(self, jobs):
        self.spent["steps"] += len(self._opened().jobs)
        return super().enqueue(jobs)


@fails("test_jobs_of_an_unknown_task_cost_a_claim_nothing")
class LooksAtUnknownTasksInAClaim(Counting):
    def exchange(self, request):
        unknown = [job for job in self._opened().jobs.values() if job.spec.task == "unknown"]
        self.spent["steps"] += len(unknown)
        return super().exchange(request)


@fails("test_finished_jobs_cost_a_claim_nothing")
class WalksPastFinishedJobs(Counting):
    def exchange(self, request):
        finished = [job for job in self._opened().jobs.values() if job.state in FINAL_STATES]
        self.spent["steps"] += len(finished)
        return super().exchange(request)


@fails(
    "test_upkeep_with_nothing_to_do_costs_the_same_beside_any_backlog",
    fields={"delay_ms": 3_600_000},
)
class LooksAtEveryDelayedJobInUpkeep(Counting):
    def maintain(self, budget):
        delayed = [job for job in self._opened().jobs.values() if job.state is JobState.SCHEDULED]
        self.spent["steps"] += len(delayed)
        return super().maintain(budget)


@fails("test_a_batch_takes_as_many_round_trips_as_one_job")
class SendsABatchJobByJob(Counting):
    def enqueue(self, jobs):
        self.spent["round_trips"] += len(jobs) - 1
        return super().enqueue(jobs)


@fails("test_a_job_in_a_batch_costs_no_more_than_one_alone")
class ComparesAllJobsOfABatch(Counting):
    def enqueue(self, jobs):
        self.spent["steps"] += len(jobs) ** 2 - len(jobs)
        return super().enqueue(jobs)


@fails("test_one_exchange_settles_and_claims_a_whole_batch")
class ClaimsInSmallPortions(MemoryBackend):
    def exchange(self, request):
        return super().exchange(replace(request, want=min(request.want, 10)))


@fails("test_reading_a_job_costs_the_same_in_any_backlog")
class SearchesAllJobsForOne(Counting):
    def get(self, ids):
        self.spent["steps"] += len(self._opened().jobs)
        return super().get(ids)


# What it says of itself -------------------------------------------------------------------------


@fails("test_an_operation_is_offered_exactly_if_it_is_declared", capability="pauses")
class PausesWithoutSayingSo(MemoryBackend):
    capabilities: ClassVar[Capabilities] = replace(MemoryBackend.capabilities, pauses=False)


@fails("test_a_field_of_a_job_is_taken_exactly_if_it_is_declared", capability="unique")
class TakesKeysWithoutSayingSo(MemoryBackend):
    capabilities: ClassVar[Capabilities] = replace(MemoryBackend.capabilities, unique=False)


@fails("test_an_operation_is_offered_exactly_if_it_is_declared", capability="progress_log")
class DeclaresALogThatItHasNot(MemoryBackend):
    logs = Backend.logs


@fails("test_every_operation_of_a_closed_backend_is_refused")
class WorksOnAfterClose(MemoryBackend):
    def close(self):
        pass


# Limits -----------------------------------------------------------------------------------------


class OtherLimits(MemoryBackend):
    """A mutant that understands the limits of a worker wrongly."""

    def register(self, worker):
        limits = tuple(self.spoil(limit) for limit in worker.limits)
        super().register(replace(worker, limits=limits))

    def spoil(self, limit):
        raise NotImplementedError


@fails("test_a_rate_lets_its_burst_start_at_once_and_the_rest_evenly")
class IgnoresRates(OtherLimits):
    def spoil(self, limit):
        return replace(limit, rate=None)


@fails("test_no_window_holds_more_than_the_formula_allows")
class AllowsOneStartTooMany(OtherLimits):
    def spoil(self, limit):
        rate = limit.rate
        return limit if rate is None else replace(limit, rate=replace(rate, burst=rate.burst + 1))


@fails(
    "test_at_most_so_many_jobs_of_a_task_run_at_a_time",
    end=params.OutcomeSuccess(result=b"", serializer="json"),
)
class RunsOneTooMany(OtherLimits):
    def spoil(self, limit):
        most = limit.max_concurrent
        return limit if most is None else replace(limit, max_concurrent=most + 1)


@fails("test_a_changed_rate_is_no_gift")
class FillsTheBucketAnewWithEachWorker(MemoryBackend):
    def register(self, worker):
        super().register(replace(worker, id=uuid.uuid4().hex, limits=()))
        super().register(worker)


@fails("test_jobs_are_counted_by_their_concurrency_key")
class IgnoresConcurrencyKeys(MemoryBackend):
    def enqueue(self, jobs):
        return super().enqueue([replace(job, concurrency_key=None) for job in jobs])


@fails("test_a_key_is_counted_over_all_queues_and_a_paused_one_stops_no_other")
class CountsAKeyInEachQueueByItself(MemoryBackend):
    def enqueue(self, jobs):
        return super().enqueue(
            [
                job
                if job.concurrency_key is None
                else replace(job, concurrency_key=f"{job.queue} {job.concurrency_key}")
                for job in jobs
            ]
        )


@fails("test_a_limited_job_is_claimed_for_a_free_executor_only", fields={})
class BuffersLimitedJobs(MemoryBackend):
    def exchange(self, request):
        return super().exchange(replace(request, idle=None))


@fails(
    "test_a_claim_that_never_started_gives_its_token_back",
    outcome=params.OutcomeRelease(),
)
class KeepsTheTokensOfWhatNeverStarted(MemoryBackend):
    def exchange(self, request):
        settlements = tuple(
            replace(settlement, started_ago_ms=settlement.started_ago_ms or 0)
            for settlement in request.settlements
        )
        return super().exchange(replace(request, settlements=settlements))


@fails("test_the_slots_of_a_lost_worker_are_free_again")
class LeaksTheSlotsOfLostWorkers(MemoryBackend):
    def maintain(self, budget):
        store = self._opened()
        before = [job for worker in store.workers.values() for job in worker.running.values()]
        reply = super().maintain(budget)
        for job in before:
            if job.state is JobState.READY:
                store.workers[job.worker].running[f"ghost of {job.id}"] = job
        return reply


@fails("test_who_may_still_start_something_is_told")
class ForgetsWhatIsClaimedDuringAPause(MemoryBackend):
    def unstarted(self, queue):
        return [] if queue in self.paused() else super().unstarted(queue)


# Locks and dead letters -------------------------------------------------------------------------


@fails("test_a_lock_is_held_until_its_time_is_over_and_no_longer")
class StealsALockBeforeItsTimeIsOver(MemoryBackend):
    def acquire_lock(self, request):
        held = self._opened().locks.get(request.name)
        if held is not None and held.deadline_ms - self._opened().clock.steady_ms() < 1_000:
            del self._opened().locks[request.name]
        return super().acquire_lock(request)


@fails("test_tokens_of_locks_and_leases_only_grow")
class GivesALockTheTokenOfItsLastHolder(MemoryBackend):
    def release_lock(self, name, token):
        released = super().release_lock(name, token)
        self._opened().last_token = token - 1
        return released


@fails("test_a_lock_is_released_by_its_holder_only")
class ReleasesALockForAnybody(MemoryBackend):
    def release_lock(self, name, token):
        held = self._opened().locks.get(name)
        return super().release_lock(name, token if held is None else held.token)


@fails("test_an_earlier_holder_can_do_nothing")
class ExtendsALockForAnEarlierHolder(MemoryBackend):
    def extend_locks(self, leases):
        held = self._opened().locks
        return super().extend_locks(
            [replace(lease, token=held[lease.name].token) for lease in leases]
        )


@fails("test_a_clock_that_is_set_changes_no_lock")
class KeepsLocksOnTheWallClock(Patched):
    def patch(self, store):
        store.clock = _WallAsSteady(store.clock)


class _WallAsSteady:
    def __init__(self, clock):
        self.wall_ms = self.steady_ms = clock.wall_ms


@fails("test_a_job_that_was_given_back_unstarted_has_its_key_again")
class ForgetsAKeyThatEndedWithAClaim(Patched):
    def patch(self, store):
        move = store.move

        def move_without_key(job, event, **changes):
            move(job, event, **changes)
            if event == "release" and job.spec.unique_until_start:
                store.unique_keys.pop(job.spec.unique_key, None)

        store.move = move_without_key


@fails("test_a_key_until_the_start_is_free_from_the_claim_on")
class HoldsEveryKeyUntilTheEnd(MemoryBackend):
    def enqueue(self, jobs):
        return super().enqueue([replace(job, unique_until_start=False) for job in jobs])


@fails("test_the_newest_are_kept_in_steps_of_the_budget")
class DeletesAllSurplusDeadLettersAtOnce(MemoryBackend):
    def maintain(self, budget):
        return super().maintain(max(budget, 100))


@fails("test_who_ended_first_goes_first_whenever_it_was_enqueued")
class DeletesTheDeadLettersThatWereEnqueuedFirst(Patched):
    def patch(self, store):
        finished = store.finished

        class BySequence(dict):
            def values(self):
                jobs = sorted(super().values(), key=lambda job: job.sequence)
                for number, job in enumerate(jobs):
                    job.finished_ms = number
                return jobs

        store.finished = BySequence(finished)


# Workflows --------------------------------------------------------------------------------------


@fails("test_a_condition_decides_whether_a_job_starts", condition=Condition.ALWAYS, end="dead")
class TakesEveryConditionForSuccess(MemoryBackend):
    def enqueue(self, jobs):
        def plain(edge):
            return edge.job if isinstance(edge, Dependency) else edge

        return super().enqueue(
            [replace(job, depends_on=tuple(map(plain, job.depends_on))) for job in jobs]
        )


@fails("test_of_several_conditions_on_failure_one_is_enough_once_all_have_ended")
class StartsAtTheFirstFailure(Patched):
    def patch(self, store):
        close = store._close_edge

        def close_all(child, edge, parent):
            if edge.condition is Condition.FAILURE and parent.state is JobState.DEAD:
                child.pending = 1
            return close(child, edge, parent)

        store._close_edge = close_all


@fails("test_results_are_handed_over_in_the_order_in_which_they_were_named")
class SortsTheInputs(Patched):
    def patch(self, store):
        inputs_of = store.inputs_of
        store.inputs_of = lambda job: tuple(sorted(inputs_of(job), key=lambda item: item.id))


@fails("test_a_retried_attempt_gets_the_same_inputs")
class HandsInputsOverOnce(Patched):
    def patch(self, store):
        inputs_of = store.inputs_of
        store.inputs_of = lambda job: () if job.attempt else inputs_of(job)


@fails(
    "test_a_result_is_kept_until_the_last_job_that_needs_it_has_ended",
    kept_by=Dependency(job=0, input=True),
)
class DeletesWhatIsStillNeeded(Patched):
    def patch(self, store):
        store.is_needed = lambda job: False


@fails(
    "test_a_result_is_kept_until_the_last_job_that_needs_it_has_ended",
    kept_by=Dependency(job=0, input=True),
)
class KeepsForEverWhatWasNeededOnce(Patched):
    def patch(self, store):
        watch = store._watch_retention

        def watch_once(job):
            if job.finished_ms == store.clock.wall_ms():
                watch(job)

        store._watch_retention = watch_once


@fails("test_what_failed_runs_again_with_what_is_there_already")
class ForgetsInputsOnReplay(MemoryBackend):
    def replay(self, request):
        answers = super().replay(request)
        for answer in filter(None, answers):
            job = self._opened().jobs[answer]
            job.edges = ()
        return answers


@fails("test_the_steps_of_a_workflow_are_listed_and_counted")
class ListsEveryJobAsAStep(MemoryBackend):
    def list(self, request):
        return super().list(replace(request, workflow=None))
