"""One exchange, held against what the model says a worker may get and be told."""

from __future__ import annotations

from taskito.backends import Backend, params
from taskito.backends.params import JobState, LimitedBy, Verdict
from taskito.testing.conformance.model import Model, ModelJob, ModelWorker
from taskito.testing.conformance.observation import Observer
from taskito.testing.conformance.timetable import Timetable

__all__ = ["ExchangeCheck"]


class ExchangeCheck:
    """Makes exchanges and brings the model up to their replies.

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
        self._last_token: dict[str, int] = {}

    def register(self, registration: params.WorkerRegistration) -> None:
        """Note a worker that the store has accepted."""
        self.model.workers[registration.id] = ModelWorker(registration=registration)
        self.model.allowances.announce(registration)
        self.model.dead_letter_limit = registration.dead_letters

    def run(self, request: params.ExchangeRequest) -> params.ExchangeReply:
        """Make one exchange and check everything in its reply."""
        reply = self.backend.exchange(request)
        worker = request.worker
        self.model.workers[worker].partly_rescued = False
        self._start(request)
        self._settle(request, reply)
        self._renew(request, reply)
        requested = {job.id for job in self.model.held_by(worker) if job.cancel_reason is not None}
        self.observer.look()
        self._claim(request, reply)
        self.observer.take_over(prune=False)
        assert set(reply.cancel_requests) == requested, (
            f"cancel_requests: {sorted(reply.cancel_requests)}, not {sorted(requested)}"
        )
        assert list(reply.paused) == sorted(self.model.paused), f"paused: {reply.paused}"
        self._check_next_due(request, reply)
        return reply

    # Attempts -----------------------------------------------------------------------------------

    def _start(self, request: params.ExchangeRequest) -> None:
        for start in request.starts:
            if self.model.holds(request.worker, start.lease):
                self.model.start(self.model.jobs[start.lease.id], start.ago_ms)

    def _settle(self, request: params.ExchangeRequest, reply: params.ExchangeReply) -> None:
        assert len(reply.verdicts) == len(request.settlements), "one verdict per settlement"
        for settlement, verdict in zip(request.settlements, reply.verdicts, strict=True):
            expected = self.model.verdict(request.worker, settlement.lease)
            assert verdict is expected, f"{settlement.lease}: {verdict}, not {expected}"
            if verdict is not Verdict.OK:
                continue
            job = self.model.jobs[settlement.lease.id]
            if settlement.started_ago_ms is not None:
                self.model.start(job, settlement.started_ago_ms)
            self.model.settle(job, settlement.outcome)

    def _renew(self, request: params.ExchangeRequest, reply: params.ExchangeReply) -> None:
        live = [lease for lease in request.renewals if self.model.holds(request.worker, lease)]
        lost = set(request.renewals) - set(live)
        assert set(reply.lost) == lost, f"lost: {reply.lost}, not {lost}"
        for lease in live:
            self.model.renew(self.model.jobs[lease.id])

    # Claims -------------------------------------------------------------------------------------

    def _claim(self, request: params.ExchangeRequest, reply: params.ExchangeReply) -> None:
        """Check that the reply has the first of all jobs that could be claimed, in order."""
        assert len(reply.jobs) <= request.want, f"{len(reply.jobs)} jobs, wanted {request.want}"
        claimed = [job.lease.id for job in reply.jobs]
        for job in self.model.candidates(request.worker, promote=True):
            if job.due_ms is None and (record := self.observer.records.get(job.id)) is not None:
                job.due_ms = record.due_ms
        both = [self.model.candidates(request.worker, promote=promote) for promote in (True, False)]
        fitting = [jobs for jobs in both if self._in_order(request, reply, jobs)]
        assert fitting, (
            f"claimed {claimed}; in order, the jobs that may be claimed are "
            f"{[(job.id, job.suspect) for job in both[0]]}"
        )
        for position, taken in enumerate(reply.jobs):
            before = reply.jobs[:position]
            self._take(request.worker, self.model.jobs[taken.lease.id], taken, before)

    def _in_order(
        self,
        request: params.ExchangeRequest,
        reply: params.ExchangeReply,
        candidates: list[ModelJob],
    ) -> bool:
        """Walk down the candidates: each is claimed, unless a limit or a second suspect forbids it.

        A job under a limit that no idle executor could start ends the walk. Those of one key may
        keep their line, and so wait behind a suspect that is passed over.
        """
        idle = request.want if request.idle is None else request.idle
        occupied = any(job.suspect for job in self.model.held_by(request.worker))
        expected = list(reply.jobs)
        taken: list[ModelJob] = []
        held_back: set[tuple[str, str | None]] = set()
        for job in candidates:
            if len(taken) == request.want:
                break
            if request.tasks is not None and job.spec.task not in request.tasks:
                continue
            if self.model.allowances.limited_by(job, taken) is not None:
                if expected and expected[0].lease.id == job.id:
                    return False
                continue
            waits = self.model.allowances.is_limited(job) and len(taken) >= idle
            if not waits and expected and expected[0].lease.id == job.id:
                if expected[0].suspect and occupied:
                    return False
                occupied = expected.pop(0).suspect or occupied
                taken.append(job)
                continue
            if job.suspect is not False and occupied:
                # A second suspect is passed over; whether it is one may be open.
                if job.suspect is None and waits and not expected:
                    break
                if job.spec.concurrency_key is not None:
                    held_back.add((job.spec.task, job.spec.concurrency_key))
                continue
            if (job.spec.task, job.spec.concurrency_key) in held_back:
                continue
            return waits and not expected
        return not expected

    def _take(
        self,
        worker: str,
        job: ModelJob,
        claimed: params.ClaimedJob,
        before: tuple[params.ClaimedJob, ...],
    ) -> None:
        spec, token = job.spec, claimed.lease.token
        assert token > self._last_token.get(job.id, 0), f"token {token} of job {job.id} is not new"
        assert all(other.lease.token != token for other in before), f"token {token} twice"
        self._last_token[job.id] = token
        assert job.suspect in (None, claimed.suspect), f"suspect: {claimed.suspect}"
        job.suspect = claimed.suspect
        expires_in_ms = None
        if job.expires_ms is not None and not job.ever_started:
            expires_in_ms = job.expires_ms - self.model.clock.wall_ms()
        expected = params.ClaimedJob(
            lease=claimed.lease,
            task=spec.task,
            queue=spec.queue,
            payload=spec.payload,
            serializer=spec.serializer,
            metadata=spec.metadata,
            priority=spec.priority,
            attempt=job.attempt,
            max_retries=spec.max_retries,
            timeout_ms=spec.timeout_ms,
            expires_in_ms=expires_in_ms,
            schedule=job.schedule,
            fire_ms=job.fire_ms,
            suspect=claimed.suspect,
            inputs=self.model.inputs_of(job, claimed.inputs),
        )
        assert claimed == expected, f"claimed {claimed}, not {expected}"
        self.model.claim(job, worker, token)

    def _check_next_due(self, request: params.ExchangeRequest, reply: params.ExchangeReply) -> None:
        now = self.model.clock.wall_ms()
        waits = [
            max(0, (job.due_ms or now) - now) for job in self.model.in_state(JobState.SCHEDULED)
        ]
        waits += self.timetable.waits_ms()
        if request.want:
            allowances = self.model.allowances
            waits += [
                allowances.wait_ms(job)
                for job in self.model.candidates(request.worker, promote=False)
                if allowances.limited_by(job) is LimitedBy.RATE
            ]
        # It may be less: a store with several namespaces may speak of all of them.
        assert not waits or (reply.next_due_ms is not None and reply.next_due_ms <= min(waits)), (
            f"next_due_ms: {reply.next_due_ms}, but a job is due in {min(waits)} ms"
        )
