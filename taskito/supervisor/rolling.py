"""A restart of all workers, one by one, while the others go on."""

from __future__ import annotations

import collections
import logging
from collections.abc import Sequence

from taskito.supervisor.slot import Slot

__all__ = ["RollingRestart"]

_logger = logging.getLogger("taskito.supervisor")


class RollingRestart:
    """Replaces the workers in the order of their numbers.

    For each of them a new process is started; when it claims jobs, the old one is asked to stop,
    and when that has ended the next worker's turn comes. So no more than one process is there in
    excess, and never fewer than usual. If a new process does not come up, the restart is given up
    and the old ones go on.

    Args:
        slots: The workers.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._waiting: collections.deque[Slot] = collections.deque()
        self._current: Slot | None = None

    @property
    def under_way(self) -> bool:
        """Whether it has not come to its end."""
        return self._current is not None or bool(self._waiting)

    def begin(self) -> None:
        """Begin, or begin anew: what is not ready yet may have been made of older code."""
        self._waiting = collections.deque(self._slots)
        if self._current is not None and self._current.successor is not None:
            self._current.dismiss_successor()
            self._current = None

    def give_up(self) -> None:
        """Replace no more workers."""
        self._waiting.clear()
        if self._current is not None:
            self._current.dismiss_successor()
        self._current = None

    def go_on(self) -> str | None:
        """Do what can be done at present; return how it ended, if it did."""
        while self.under_way:
            if self._current is None:
                slot = self._waiting.popleft()
                if slot.child is None:
                    # Nothing to replace: what is started here runs the present code.
                    slot.start_now()
                elif slot.replace():
                    self._current = slot
                else:
                    self.give_up()
                    return "the restart is given up: no process can be started"
            elif not self._finished(self._current):
                return None
        return "all workers were restarted"

    def _finished(self, slot: Slot) -> bool:
        if slot.successor is not None and slot.successor.ready:
            _logger.info("%s is ready and takes over", slot.successor.name)
            slot.promote()
        if slot.successor is not None or slot.leaving:
            return False
        self._current = None
        return True
