"""What a worker expects of whatever runs its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Executor"]


class Executor(Protocol):
    """Takes attempts from slots of the dispatcher and reports how they ended.

    The worker's own thread calls it; it does its work elsewhere.
    """

    broken: BaseException | None
    """What ended it against the rules, or None."""

    def prepare(self, give_up: Callable[[], bool]) -> None:
        """Get ready, before anything is claimed.

        Args:
            give_up: Says that the worker is to stop already.

        Raises:
            ConfigurationError: It cannot run the tasks; names them and says why.
            WorkerError: It cannot begin.
        """

    def start(self) -> None:
        """Begin to take attempts."""

    def owns(self, slot: int) -> bool:
        """Whether the slot of this number is one of its own."""

    def cancel(self, slot: int) -> None:
        """Stop what the slot runs, if that can be done: its cancellation was asked for."""

    def replace(self, slot: int) -> None:
        """Put another slot in the place of one whose run was abandoned, and stop that run."""

    def running(self) -> list[str]:
        """Return what runs now, as the task and the job."""

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the end of all threads; return whether it came.

        Called after the dispatcher has stopped, so that what still runs has been given up; or
        before ``start``. It may be called again.
        """
