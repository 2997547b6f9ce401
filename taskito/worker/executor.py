"""What a worker expects of whatever runs its tasks."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Executor"]


class Executor(Protocol):
    """Takes attempts from slots of the dispatcher and reports how they ended.

    The worker's own thread calls it; it does its work elsewhere.
    """

    broken: BaseException | None
    """What ended it against the rules, or None."""

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

        Called after the dispatcher has stopped: what still runs has been given up.
        """
