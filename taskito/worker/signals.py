"""SIGTERM and Ctrl-C, while a worker runs in the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which the first signal stops gracefully and the second one at once.

    Python runs signal handlers in the main thread only; in any other thread this does nothing. The
    handlers that were there before are put back at the end.

    Args:
        first: Called with the signal's name at the first one.
        again: Called with the signal's name at every later one.
    """

    def __init__(self, first: Callable[[str], None], again: Callable[[str], None]) -> None:
        self._first = first
        self._again = again
        self._received = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the previous handlers back."""
        while self._previous:
            number, previous = self._previous.popitem()
            # None: somebody else's, not installed from Python; it cannot be put back.
            if previous is not None:
                signal.signal(number, previous)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._received:
            self._again(name)
        else:
            self._received = True
            self._first(name)
