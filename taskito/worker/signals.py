"""SIGTERM and Ctrl-C: from the first line of a command to the end of its worker.

One object owns the handlers at a time. A worker that runs in the main thread installs its own,
unless the command that it runs for owns them already: then it only says what a signal means from
now on. So a signal that comes while the application is still being imported is not lost, and none
is counted twice.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["CommandSignals", "StopSignals", "StoppedEarlyError", "repeats_count"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedEarlyError(BaseException):
    """A signal to stop came before there was a worker. No ``except Exception`` catches it."""


class _Handlers:
    """Installs one function for both signals, in the main thread only, and puts others back."""

    def __init__(self) -> None:
        self._previous: dict[signal.Signals, Any] = {}

    def install(self, handle: Callable[[int, FrameType | None], None]) -> None:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, handle)

    def restore(self) -> None:
        while self._previous:
            number, previous = self._previous.popitem()
            # None: somebody else's, not installed from Python; it cannot be put back.
            if previous is not None:
                signal.signal(number, previous)


class StopSignals:
    """A context in which the first signal stops gracefully and the second one at once.

    Python runs signal handlers in the main thread only; in any other thread this does nothing. The
    handlers that were there before are put back at the end. Inside ``CommandSignals`` no handler is
    installed: that object passes signals on, also one that came before.

    Args:
        first: Called with the signal's name at the first one.
        again: Called with the signal's name at every later one.
    """

    def __init__(self, first: Callable[[str], None], again: Callable[[str], None]) -> None:
        self._first = first
        self._again = again
        self._received = False
        self._handlers = _Handlers()
        self._owner: CommandSignals | None = None

    def __enter__(self) -> Self:
        """Install the handlers, or take the signals over from the command."""
        if threading.current_thread() is threading.main_thread():
            self._owner = CommandSignals.installed
            if self._owner is None:
                self._handlers.install(self._handle)
            else:
                self._owner.pass_to(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the previous handlers back."""
        if self._owner is not None:
            self._owner.take_back()
        self._handlers.restore()

    def receive(self, name: str) -> None:
        """Do what a signal asks for."""
        if self._received:
            self._again(name)
        else:
            self._received = True
            self._first(name)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.receive(signal.Signals(number).name)


class CommandSignals:
    """Owns the signals for as long as a command runs; enter it before the application is imported.

    Until there is a worker, the first signal raises ``StoppedEarlyError`` and the second one ends
    the process with status 1, since whoever caught the error goes on. A worker is told of them
    from its start to its end. After that they mean nothing: the process is about to end.

    Args:
        repeats: Whether a worker is told of more than one signal. Under a supervisor it is not: its
            signals may come from the terminal or from an init system that signals the whole group,
            beside what the supervisor asks for, and would be taken for "at once".
    """

    installed: CommandSignals | None = None
    """The one of this process."""

    def __init__(self, *, repeats: bool = True) -> None:
        self.repeats = repeats
        self._handlers = _Handlers()
        self._receiver: StopSignals | None = None
        self._served = False
        self._first: str | None = None

    def __enter__(self) -> Self:
        """Install the handlers."""
        CommandSignals.installed = self
        self._handlers.install(self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the previous handlers back."""
        self._handlers.restore()
        CommandSignals.installed = None

    def pass_to(self, receiver: StopSignals) -> None:
        """Pass signals on to a worker, beginning with one that somebody kept from us."""
        # Looked at first: a signal after that is either passed on or raises, never both.
        first = self._first
        self._receiver = receiver
        if first is not None:
            receiver.receive(first)

    def take_back(self) -> None:
        """The worker has ended: ignore what comes."""
        self._receiver = None
        self._served = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        first, self._first = self._first, self._first or name
        if first is not None and not self.repeats:
            return
        if self._receiver is not None:
            self._receiver.receive(name)
        elif self._served:
            return
        elif first is None:
            raise StoppedEarlyError(name)
        else:
            os._exit(1)


def repeats_count() -> bool:
    """Return whether a second signal would stop a worker of this process at once."""
    return CommandSignals.installed is None or CommandSignals.installed.repeats
