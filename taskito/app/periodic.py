"""Periodic tasks: functions with a schedule, and what can be asked of stored schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from taskito import config
from taskito.app.enqueueing import Enqueueing
from taskito.backends.params import CatchUp, NewSchedule, Overlap, ScheduleRecord
from taskito.exceptions import ScheduleNotFoundError
from taskito.result import JobResult
from taskito.schedule import Schedule, zone_name
from taskito.task import Task, TaskOptions

if TYPE_CHECKING:
    from taskito.app.queue import TaskDecorator

__all__ = ["Periodic"]


class Periodic(Enqueueing):
    """The part of ``Queue`` about schedules."""

    _schedules: dict[str, NewSchedule]

    if TYPE_CHECKING:

        def _register(
            self, function: Callable[..., Any], name: str | None, options: TaskOptions
        ) -> Task[..., Any]: ...

    def periodic(
        self,
        cron: str,
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        queue: str = "default",
        *,
        timezone: str | tzinfo | None = None,
        catch_up: str = "once",
        overlap: str = "allow",
        **options: Any,
    ) -> TaskDecorator:
        """Register a function as a task that runs on a schedule; a decorator.

        The schedule is stored when a worker with this code starts, and fires while such a worker
        runs: each fire makes exactly one job, however many workers there are. Its last and next run
        and its pause survive restarts; a changed line is taken over. A fire that is at most ten
        seconds late counts as on time.

        Args:
            cron: Minute, hour, day of month, month, day of week; with six fields, seconds come
                first; or ``@hourly`` and its like. ``taskito.schedule`` has the details.
            name: The name of the task and of its schedule; None means ``module.qualname``.
            args: Positional arguments of each run.
            kwargs: Keyword arguments of each run.
            queue: The queue that its jobs go to.
            timezone: The zone whose clock the line is about, a name or a ``ZoneInfo``; None is UTC.
            catch_up: What becomes of runs that were missed because no worker was up: "once" makes
                them good by one, "all" makes each good, of very many the newest 1,000, and "none"
                forgets them.
            overlap: What becomes of a run while the job of an earlier one has not ended: "allow"
                makes it all the same, "skip" leaves it out, "queue" lets it wait for the end.
            options: The options of ``task``, for each of its jobs.

        Returns:
            A decorator that makes the ``Task``, which can also be called and enqueued as any other.

        Raises:
            ConfigurationError: A value is not allowed, or the name is taken; names the field.
            CapabilityError: The backend has no schedules.

        Example:
            >>> @queue.periodic("30 4 * * mon-fri", timezone="Europe/Paris", max_retries=5)
            ... def send_report() -> None: ...
        """
        zone = zone_name(timezone)
        line = Schedule(cron, zone).line
        caught_up = CatchUp(config.check_choice("catch_up", catch_up, CatchUp))
        overlapping = Overlap(config.check_choice("overlap", overlap, Overlap))
        checked_args = config.check_arguments("args", args)
        checked_kwargs = config.check_keywords("kwargs", kwargs)
        checked = TaskOptions.checked({**options, "queue": queue})
        self._connection.require("schedules", "periodic()")

        def decorate(function: Callable[..., Any]) -> Task[..., Any]:
            task = self._register(function, name, checked)
            self._schedules[task.name] = NewSchedule(
                name=task.name,
                line=line,
                timezone=zone,
                catch_up=caught_up,
                overlap=overlapping,
                job=self._new_job(task, checked_args, checked_kwargs, {}),
            )
            return task

        return decorate  # type: ignore[return-value] # overloads tell more than one function can

    def list_periodic(self) -> list[dict[str, Any]]:
        """Return the schedules in the store and those of this code, by name.

        Each is a dict with ``name``, ``cron``, ``timezone``, ``task_name``, ``queue``,
        ``catch_up``, ``overlap``, ``paused``, ``declared`` (whether the code of a running worker
        has it; otherwise it does not fire), ``next_run`` and ``last_run`` (ms since the epoch, or
        None), ``last_job_id``, ``runs`` (jobs made), ``skipped`` and ``waiting`` (runs that were
        left out or wait because of an earlier one).

        Raises:
            CapabilityError: The backend has no schedules.
        """
        self._connection.require("schedules", "list_periodic()")
        stored = {record.name: record for record in self._connection.backend.schedules()}
        own = {
            name: ScheduleRecord(
                name=name,
                line=one.line,
                timezone=one.timezone,
                catch_up=one.catch_up,
                overlap=one.overlap,
                task=one.job.task,
                queue=one.job.queue,
            )
            for name, one in self._schedules.items()
        }
        return [_as_dict(record) for _, record in sorted({**own, **stored}.items())]

    def pause_periodic(self, name: str) -> None:
        """Let a schedule make no jobs until it is resumed; jobs that it made are not touched.

        Raises:
            ScheduleNotFoundError: There is none of this name.
            CapabilityError: The backend has no schedules.
        """
        self._of_stored(name, "pause_periodic()", self._pause, True)

    def resume_periodic(self, name: str) -> None:
        """Undo ``pause_periodic``. It goes on with the next run; none of the pause is made good."""
        self._of_stored(name, "resume_periodic()", self._pause, False)

    def delete_periodic(self, name: str) -> None:
        """Delete a schedule and its history; its jobs stay.

        A worker whose code still has it stores it again when it starts.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        checked = self._check(name, "delete_periodic()")
        if not self._connection.backend.delete_schedules([checked])[0]:
            raise self._unknown(checked)

    def trigger_periodic(self, name: str) -> JobResult[Any]:
        """Run a periodic task now, besides its schedule, also if that is paused.

        Returns:
            The job; the one that holds the unique key if the task is ``idempotent``.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        job_id = self._of_stored(name, "trigger_periodic()", self._trigger)
        return JobResult(self._connection, job_id)

    # Parts ----------------------------------------------------------------------------------------

    def _of_stored(self, name: str, feature: str, operation: Callable[..., Any], *args: Any) -> Any:
        """Do something to a schedule; one that only this code knows yet is stored first."""
        checked = self._check(name, feature)
        answer = operation(checked, *args)
        if not answer and checked in self._schedules:
            self._connection.backend.put_schedules([self._schedules[checked]])
            answer = operation(checked, *args)
        if not answer:
            raise self._unknown(checked)
        return answer

    def _pause(self, name: str, paused: bool) -> bool:
        return self._connection.backend.set_schedules_paused([name], paused)[0]

    def _trigger(self, name: str) -> str | None:
        return self._connection.backend.trigger_schedules([name])[0]

    def _check(self, name: str, feature: str) -> str:
        checked = config.check_name("name", name)
        self._connection.require("schedules", feature)
        return checked

    def _unknown(self, name: str) -> ScheduleNotFoundError:
        known = [record.name for record in self._connection.backend.schedules()]
        return ScheduleNotFoundError(
            f"no schedule has the name {name!r}; there are: {', '.join(known) or 'none'}"
        )


def _as_dict(record: ScheduleRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "cron": record.line,
        "timezone": record.timezone,
        "task_name": record.task,
        "queue": record.queue,
        "catch_up": str(record.catch_up),
        "overlap": str(record.overlap),
        "paused": record.paused,
        "declared": record.declared,
        "next_run": record.next_ms,
        "last_run": record.last_ms,
        "last_job_id": record.last_job,
        "runs": record.fired,
        "skipped": record.skipped,
        "waiting": record.waiting,
    }
