"""What can be asked of stored jobs: cancel, replay, purge."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from taskito import config
from taskito.app.inspection import walk
from taskito.backends.params import (
    CancelRequest,
    CancelVerdict,
    JobRecord,
    JobState,
    ListRequest,
    PurgeRequest,
    ReplayRequest,
)
from taskito.connection import Connection
from taskito.exceptions import ConfigurationError, JobNotFoundError
from taskito.plugins.events import JobCancelled
from taskito.plugins.observing import Publisher
from taskito.status import is_final, last_error, public_status, retry_count

__all__ = ["Control"]

_BATCH = 500
_WAITING_STATES = (JobState.BLOCKED, JobState.SCHEDULED, JobState.READY)
_DAY = 86_400


class Control:
    """The part of ``Queue`` that changes stored jobs."""

    _connection: Connection
    _events: Publisher | None

    # One job --------------------------------------------------------------------------------------

    def cancel_job(self, id: str) -> bool:
        """Cancel a job that has not started, and with it all jobs that depend on it.

        Returns:
            Whether it was cancelled; False if it is running, has ended or does not exist.
        """
        request = CancelRequest(ids=(config.check_job_id("id", id),))
        return self._cancel(request) is CancelVerdict.DONE

    def cancel_running_job(self, id: str) -> bool:
        """Ask a running job to stop; one that has not started is cancelled at once.

        The task notices it in ``current_job.check_cancelled()``; one that never calls it runs to
        its end, and if it succeeds its result counts.

        Returns:
            Whether it was asked or cancelled; False if it has ended or does not exist.
        """
        request = CancelRequest(ids=(config.check_job_id("id", id),), running=True)
        return self._cancel(request) is not CancelVerdict.REFUSED

    def _cancel(self, request: CancelRequest) -> CancelVerdict:
        backend = self._connection.backend
        verdict = backend.cancel(request)[0]
        if self._events is not None and verdict is CancelVerdict.DONE:
            record = backend.get(request.ids)[0]
            if record is not None:
                at_ms = time.time_ns() // 1_000_000
                reason = record.reason or "cancelled"
                self._events.publish(
                    JobCancelled(at_ms, record.id, record.task, record.queue, reason)
                )
        return verdict

    def update_progress(self, id: str, n: float) -> bool:
        """Set the progress of a running job from outside; inside, ``current_job`` does it.

        Args:
            id: The job.
            n: Percent; values below 0 count as 0, values above 100 as 100, fractions are dropped.

        Returns:
            Whether it was stored; False if the job is not running.

        Raises:
            CapabilityError: The backend cannot store progress.
        """
        job_id = config.check_job_id("id", id)
        percent = config.check_percent("n", n)
        self._connection.require("progress_log", "update_progress()")
        return self._connection.backend.set_progress(job_id, None, percent)

    def replay(self, id: str) -> str:
        """Run a finished job again, as a new job with the same arguments and options.

        The old job stays as it is; ``original_job_id`` of the new one names it, ``replayed_as`` of
        the old one the new one.

        Returns:
            The id of the new job.

        Raises:
            JobNotFoundError: There is no such job.
            ConfigurationError: It has not ended.
            CapabilityError: The backend cannot replay.
        """
        job_id = config.check_job_id("id", id)
        self._connection.require("replay", "replay()")
        new_id = self._connection.backend.replay(ReplayRequest(ids=(job_id,)))[0]
        if new_id is not None:
            return new_id
        record = self._connection.backend.get([job_id])[0]
        if record is None:
            raise JobNotFoundError(f"no job has the id {job_id!r}")
        raise ConfigurationError(
            f"id: job {job_id!r} is {public_status(record.state, record.why)}; only a job that has "
            f"ended can be run again"
        )

    def requeue_job(self, id: str) -> str:
        """Do the same as ``replay``."""
        return self.replay(id)

    # Dead letters ---------------------------------------------------------------------------------

    def dead_letters(self, limit: int = 10, offset: int = 0) -> list[dict[str, Any]]:
        """Return the jobs whose attempts are used up and that were not replayed, newest first.

        Each is a dict with ``id`` (the job's), ``original_job_id`` (the same; the job that died),
        ``queue``, ``task_name``, ``error`` (one line), ``traceback`` (text or None),
        ``retry_count``, ``failed_at`` (ms since the epoch) and ``metadata``.

        Args:
            limit: At most so many.
            offset: Leave out so many at the beginning.
        """
        limit = config.check_integer("limit", limit)
        offset = config.check_integer("offset", offset)
        if not limit:
            return []
        ids = self._dead_ids(None, limit + offset)[offset:]
        return [self._dead_letter(record) for record in self._records(ids)]

    def retry_dead(self, id: str) -> str:
        """Enqueue a dead letter again as a new job, and take it off the list.

        Returns:
            The id of the new job.

        Raises:
            JobNotFoundError: No dead letter has this id, or it was replayed already.
            CapabilityError: The backend cannot replay.
        """
        job_id = config.check_job_id("id", id)
        self._connection.require("replay", "retry_dead()")
        request = ReplayRequest(ids=(job_id,), dead_only=True)
        new_id = self._connection.backend.replay(request)[0]
        if new_id is None:
            raise JobNotFoundError(self._why_no_dead_letter(job_id))
        return new_id

    def retry_all_dead(self, task_name: str | None = None) -> int:
        """Enqueue every dead letter again, or every one of a task; return how many."""
        if task_name is not None:
            task_name = config.check_name("task_name", task_name)
        self._connection.require("replay", "retry_all_dead()")
        count = 0
        for batch in _batches(self._dead_ids(task_name, config.MAX_INTEGER)):
            request = ReplayRequest(ids=tuple(batch), dead_only=True)
            count += sum(new is not None for new in self._connection.backend.replay(request))
        return count

    def delete_dead(self, id: str) -> bool:
        """Delete a dead letter for good; return whether there was one."""
        job_id = config.check_job_id("id", id)
        request = PurgeRequest(states=(JobState.DEAD,), ids=(job_id,))
        return self._connection.backend.purge(request) > 0

    # Many jobs ------------------------------------------------------------------------------------

    def purge(self, queue: str = "default") -> int:
        """Throw away all jobs of a queue that have not started or wait for a retry.

        They are cancelled, together with what depends on them, and deleted. Running and finished
        jobs stay; ``purge_completed`` and ``purge_dead`` delete the latter.

        Returns:
            How many jobs were thrown away.
        """
        queue = config.check_name("queue", queue)
        request = ListRequest(states=_WAITING_STATES, queue=queue)
        waiting = [record.id for record, _ in walk(self._connection, request, config.MAX_INTEGER)]
        backend = self._connection.backend
        cancelled: list[str] = []
        for batch in _batches(waiting):
            verdicts = backend.cancel(
                CancelRequest(ids=tuple(batch), reason=f"queue {queue!r} was purged")
            )
            cancelled += [
                job_id
                for job_id, verdict, record in zip(batch, verdicts, backend.get(batch), strict=True)
                # One that was cancelled as the dependent of another has the verdict "refused".
                if verdict is CancelVerdict.DONE
                or (record is not None and record.state is JobState.CANCELLED)
            ]
        for batch in _batches(cancelled):
            self._purge_all(PurgeRequest(states=(JobState.CANCELLED,), ids=tuple(batch)))
        return len(cancelled)

    def purge_completed(self, older_than: float = _DAY) -> int:
        """Delete completed jobs and their results.

        Args:
            older_than: Only those that ended at least so many seconds ago.

        Returns:
            How many were deleted.
        """
        return self._purge_state(JobState.COMPLETE, older_than)

    def purge_cancelled(self, older_than: float = _DAY) -> int:
        """Delete cancelled jobs; arguments and answer are those of ``purge_completed``."""
        return self._purge_state(JobState.CANCELLED, older_than)

    def purge_dead(self, older_than: float = _DAY) -> int:
        """Delete dead letters; arguments and answer are those of ``purge_completed``."""
        return self._purge_state(JobState.DEAD, older_than)

    # Parts ----------------------------------------------------------------------------------------

    def _dead_ids(self, task_name: str | None, limit: int) -> list[str]:
        request = ListRequest(states=(JobState.DEAD,), task=task_name, skip_replayed=True)
        return [record.id for record, _ in walk(self._connection, request, limit)]

    def _records(self, ids: Sequence[str]) -> Iterable[JobRecord]:
        for batch in _batches(ids):
            for record in self._connection.backend.get(batch):
                if record is not None:
                    yield record

    def _dead_letter(self, record: JobRecord) -> dict[str, Any]:
        error = last_error(record)
        return {
            "id": record.id,
            "original_job_id": record.id,
            "queue": record.queue,
            "task_name": record.task,
            "error": None if error is None else error.summary or error.kind,
            "traceback": None if error is None else error.traceback or None,
            "retry_count": retry_count(record),
            "failed_at": record.finished_ms,
            "metadata": self._connection.codec.decode_metadata(record.metadata),
        }

    def _why_no_dead_letter(self, job_id: str) -> str:
        record = self._connection.backend.get([job_id])[0]
        if record is None:
            return f"no job has the id {job_id!r}"
        if record.replayed_as is not None:
            return f"dead letter {job_id!r} runs again already, as job {record.replayed_as}"
        ended = "has ended as" if is_final(record) else "is"
        return (
            f"job {job_id!r} is no dead letter, it {ended} "
            f"{public_status(record.state, record.why)}"
        )

    def _purge_state(self, state: JobState, older_than: float) -> int:
        age = config.to_milliseconds(config.check_seconds("older_than", older_than))
        return self._purge_all(PurgeRequest(states=(state,), older_than_ms=age))

    def _purge_all(self, request: PurgeRequest) -> int:
        total = 0
        while deleted := self._connection.backend.purge(request):
            total += deleted
        return total


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
