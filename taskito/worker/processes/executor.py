"""Threads that take attempts from the dispatcher and have a child process each."""

from __future__ import annotations

import functools
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from taskito.exceptions import ConfigurationError, WorkerError
from taskito.task import Task
from taskito.worker.config import WorkerConfig
from taskito.worker.processes import logs
from taskito.worker.processes.application import Application
from taskito.worker.processes.child import ChildProcess, StartError, describe_status
from taskito.worker.processes.launching import InterpreterLauncher, Launcher, check_platform
from taskito.worker.processes.runner import ProcessRunner
from taskito.worker.processes.template import TemplateLauncher

if TYPE_CHECKING:
    from taskito import _core

__all__ = ["ProcessExecutor"]

_logger = logging.getLogger("taskito.worker")

_RETIRE_GRACE = 1.0
"""Seconds that a child gets for its exit handlers."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_MOST_FAILURES = 6
"""So many starts in a row may fail, with growing pauses between them: about three seconds."""

_PATIENCE = 5.0
_LOOK = 0.05


class _Seat:
    """One thread's child and what it runs; written by that thread only."""

    __slots__ = ("child", "failures", "run", "slot")

    def __init__(self, slot: int, child: ChildProcess | None) -> None:
        self.slot = slot
        self.child = child
        self.run: _core.Run | None = None
        self.failures = 0
        """How many starts in a row have failed."""


class ProcessExecutor:
    """As many child processes as attempts may run at a time, one thread of the worker for each.

    Args:
        dispatcher: Gives out attempts.
        runner: Runs one in a child.
        config: How many, and when they are replaced.
        tasks: Those that every child has to find.
        backend: The name of the store, and whether it keeps progress and logs.
        worker: The id of the worker.
        daemon: Whether the interpreter may end while the threads are busy.
    """

    def __init__(
        self,
        dispatcher: _core.Dispatcher,
        runner: ProcessRunner,
        config: WorkerConfig,
        tasks: Mapping[str, Task[..., Any]],
        *,
        backend: tuple[str, bool],
        worker: str,
        daemon: bool,
    ) -> None:
        assert config.application is not None  # noqa: S101 - the configuration has been checked
        self._dispatcher = dispatcher
        self._runner = runner
        self._config = config
        self._tasks = tasks
        self._application: Application = config.application
        self._daemon = daemon
        name, keeps_progress = backend
        greeting = {
            "application": self._application.packed(),
            "argv": sys.argv,
            "backend": name,
            "progress_log": keeps_progress,
            "log_level": logs.level(),
            "worker": worker,
        }
        self._launcher = _launcher(config, greeting)
        self._numbers = itertools.count()
        self._seats: dict[threading.Thread, _Seat] = {}
        self._prepared: list[ChildProcess] = []
        self._ending = threading.Event()
        self.broken: BaseException | None = None
        """What ended a thread against the rules, or None."""

    def prepare(self, give_up: Callable[[], bool]) -> None:
        """Start the children and wait for the first one, before anything is claimed.

        Args:
            give_up: Says that the worker is to stop already.

        Raises:
            ConfigurationError: A child cannot find the tasks; names them and says why.
            WorkerError: It cannot be started; the message has its traceback.
        """
        check_platform()
        try:
            for _ in range(self._config.concurrency):
                self._prepared.append(self._launcher.launch(give_up))
            self._prepared[0].wait_ready(give_up)
        except (StartError, OSError) as error:
            self._discard()
            if give_up():
                return
            raise self._explained(error) from None
        except BaseException:
            self._discard()
            raise

    def start(self) -> None:
        """Start the threads."""
        for _ in range(self._config.concurrency):
            self._add()

    def owns(self, slot: int) -> bool:
        """Whether the slot of this number is that of one of the threads."""
        return any(seat.slot == slot for seat in list(self._seats.values()))

    def cancel(self, slot: int) -> None:
        """Do nothing: each thread sees by itself that its attempt is to end."""

    def replace(self, slot: int) -> None:
        """Start one more thread, for one whose attempt is over and whose child is being killed."""
        del slot
        self._add()

    def running(self) -> list[str]:
        """Return what runs now: the task and the job of each busy child."""
        runs = [seat.run for thread, seat in self._seats.items() if thread.is_alive()]
        return [f"{run.task} (job {run.id})" for run in runs if run is not None]

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for all threads and children to end; say if they did.

        No child is left, whatever its task is doing.
        """
        self._ending.set()
        deadline = time.monotonic() + timeout + _RETIRE_GRACE
        for thread in self._seats:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._discard()
        return not any(thread.is_alive() for thread in self._seats)

    # One thread -----------------------------------------------------------------------------------

    def _add(self) -> None:
        # The threads that were replaced have ended, or will.
        for thread in [thread for thread in self._seats if not thread.is_alive()]:
            del self._seats[thread]
        slot = self._dispatcher.slot()
        seat = _Seat(slot.index, self._prepared.pop() if self._prepared else None)
        thread = threading.Thread(
            target=self._work,
            args=(slot, seat),
            name=f"taskito-child-{next(self._numbers)}",
            daemon=self._daemon,
        )
        # The slot belongs to the thread, and its number ends with it.
        del slot
        thread.start()
        self._seats[thread] = seat

    def _work(self, slot: _core.Slot, seat: _Seat) -> None:
        outcome = None
        try:
            while (
                self._have_child(seat)
                and (run := slot.next(outcome, functools.partial(self._look_after, seat)))
                is not None
            ):
                seat.run = run
                outcome = self._perform(seat, run)
                seat.run = None
                if seat.child is None:
                    # Nothing can start here before another child is ready, if one is needed at all.
                    if not slot.report(outcome):
                        return
                    outcome = None
                # Not kept alive while the thread waits for the next one.
                del run
        except BaseException as error:
            # A thread must not vanish without a word.
            self.broken = error
            _logger.critical("an executor thread ended unexpectedly", exc_info=error)
            self._dispatcher.stop(0)
            # A run that never reached a child is given back and not charged.
            _wait_until_abandoned(seat.run)
        finally:
            _retire(seat, kill=self._ending.is_set() and seat.run is not None)

    def _perform(self, seat: _Seat, run: _core.Run) -> Any:
        self._look_after(seat, run)
        child = seat.child
        if child is None:
            return None
        outcome = self._runner.run(run, child)  # type: ignore[arg-type] # a child in place of a loop
        if self._is_worn(child):
            _retire(seat)
        return outcome

    def _look_after(self, seat: _Seat, run: _core.Run | None = None) -> None:
        """Replace a child that has died, or grown too large, while it had nothing to do."""
        child = seat.child
        if child is not None:
            if child.is_alive():
                if not self._is_too_large(child):
                    return
            else:
                child.end_soon()
                _logger.error(
                    "child process %d %s while it had nothing to do",
                    *(child.pid, describe_status(child.status)),
                )
            _retire(seat)
        self._have_child(seat, run)

    def _is_worn(self, child: ChildProcess) -> bool:
        most = self._config.max_tasks_per_child
        return (
            child.broken
            or (most is not None and child.attempts >= most)
            or self._is_too_large(child)
        )

    def _is_too_large(self, child: ChildProcess) -> bool:
        limit = self._config.max_memory_per_child
        if limit is None or (used := child.memory()) <= limit:
            return False
        _logger.info(
            "child process %d is replaced: it uses %d MiB of memory, max_memory_per_child is "
            "%d MiB",
            *(child.pid, used >> 20, limit >> 20),
        )
        return True

    # Children -------------------------------------------------------------------------------------

    def _have_child(self, seat: _Seat, run: _core.Run | None = None) -> bool:
        """See to it that there is a child that takes attempts; False if none is wanted any more.

        Args:
            seat: Where it is wanted.
            run: What already waits for it.

        Raises:
            WorkerError: Too many starts in a row have failed.
        """

        def give_up() -> bool:
            return self._ending.is_set() or (run is not None and run.abandoned())

        while True:
            if seat.child is not None and seat.child.ready:
                return True
            if give_up() or self._paused(seat.failures, give_up):
                return False
            try:
                if seat.child is None:
                    seat.child = self._launcher.launch(give_up)
                if not seat.child.wait_ready(give_up):
                    return False
            except (StartError, OSError) as error:
                _retire(seat, kill=True)
                seat.failures += 1
                if seat.failures >= _MOST_FAILURES:
                    raise WorkerError(
                        f"child processes cannot be started any more: {error}"
                    ) from None
                _logger.error("a child process could not be started: %s", error)  # noqa: TRY400 - it has no traceback here
            else:
                seat.failures = 0

    def _paused(self, failures: int, give_up: Callable[[], bool]) -> bool:
        """Wait before another start and return whether none is wanted any more."""
        if failures == 0:
            return False
        end = time.monotonic() + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (failures - 1))
        while time.monotonic() < end:
            if give_up() or self._ending.wait(_LOOK):
                return True
        return False

    def _discard(self) -> None:
        while self._prepared:
            child = self._prepared.pop()
            child.kill()
            child.retire(0)
        self._launcher.close()

    def _explained(self, error: StartError | OSError) -> ConfigurationError | WorkerError:
        if not isinstance(error, StartError) or not error.refused:
            return WorkerError(str(error))
        if not error.missing:
            return ConfigurationError(f"pool: {error}")
        names = error.missing
        name = names[0]
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        why = self._application.why_missing(self._tasks[name])
        return ConfigurationError(f"pool: a child process cannot find task {name!r}{others}: {why}")


def _launcher(config: WorkerConfig, greeting: Mapping[str, Any]) -> Launcher:
    assert config.application is not None  # noqa: S101 - as above
    launcher = TemplateLauncher if config.preload else InterpreterLauncher
    return launcher(config.application.entry, greeting)


def _retire(seat: _Seat, *, kill: bool = False) -> None:
    child, seat.child = seat.child, None
    if child is not None:
        if kill:
            child.kill()
        child.retire(_RETIRE_GRACE)


def _wait_until_abandoned(run: _core.Run | None) -> None:
    end = time.monotonic() + _PATIENCE
    while run is not None and not run.abandoned() and time.monotonic() < end:
        time.sleep(_LOOK)
