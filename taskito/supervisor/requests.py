"""What the supervisor is asked for, by signals and by other threads, in the order of arrival."""

from __future__ import annotations

import collections
import contextlib
import enum
import os
import signal
import socket
from types import FrameType
from typing import Any, Self

__all__ = ["Request", "Requests"]


class Request(enum.Enum):
    """One thing that the supervisor is asked for."""

    STOP = "stop"
    RESTART = "restart"


_MEANINGS = {
    signal.SIGTERM: Request.STOP,
    signal.SIGINT: Request.STOP,
    signal.SIGHUP: Request.RESTART,
}


class Requests:
    """Wakes a loop that sleeps in ``select``; a context in which it owns the signals.

    The end of a child wakes it, too. A hang-up of the terminal that the supervisor was started from
    is a request to stop: nobody could stop it with Ctrl-C any more.
    """

    def __init__(self) -> None:
        self._pending: collections.deque[tuple[Request, str]] = collections.deque()
        self._previous: dict[signal.Signals, Any] = {}
        self._had_terminal = _has_terminal()
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> Self:
        """Install the handlers."""
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _MEANINGS:
            self._previous[number] = signal.signal(number, self._handle)
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _woken)
        return self

    def __exit__(self, *_exception: object) -> None:
        """Put the previous handlers back."""
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        signal.set_wakeup_fd(-1)
        self.reader.close()
        self._writer.close()

    def add(self, request: Request, reason: str) -> None:
        """Ask for something; from any thread."""
        self._pending.append((request, reason))
        # Full: it is awake. Closed: it has ended.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def take(self) -> list[tuple[Request, str]]:
        """Return what was asked for since the last call, with the reasons."""
        with contextlib.suppress(BlockingIOError):
            while self.reader.recv(1_024):
                pass
        found = []
        while self._pending:
            found.append(self._pending.popleft())
        return found

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        found = signal.Signals(number)
        meaning = _MEANINGS[found]
        if found is signal.SIGHUP and self._had_terminal and not _has_terminal():
            meaning = Request.STOP
        self._pending.append((meaning, found.name))


def _woken(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: that the signal came has woken the loop."""


def _has_terminal() -> bool:
    """Return whether the process has a terminal from which it can be controlled."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
