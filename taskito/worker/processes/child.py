"""A child process as its worker sees it."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from taskito.worker.processes import logs, messages
from taskito.worker.processes.messages import Message, WorkerPipe

__all__ = ["ChildProcess", "Launched", "StartError", "describe_status"]

_LOOK = 0.05
"""Seconds between two looks at what nobody is woken for."""

_END_GRACE = 0.5
"""Seconds between the end of a child's pipe and its own, at most."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class StartError(Exception):
    """A child process did not become ready.

    Attributes:
        refused: Whether trying again cannot help, since the application is not made for it.
        missing: The tasks that it could not find, if that was the reason.
    """

    def __init__(
        self, message: str, *, refused: bool = False, missing: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.refused = refused
        self.missing = missing


class Launched(Protocol):
    """A process that was started; how is up to the launcher."""

    @property
    def pid(self) -> int:
        """Its number."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when it ends."""

    def wait(self) -> int:
        """Wait for its end and return its status: an exit code, or a negative signal number."""

    def kill(self) -> None:
        """Kill it and what it has started in its process group; ``wait`` has to follow."""

    def close(self) -> None:
        """Give the descriptor back, after the end."""


class ChildProcess:
    """One child process: started, given attempts one at a time, and ended. Belongs to one thread.

    Args:
        process: The process.
        end: The worker's end of its pipe.
        greeting: What it has to know before anything else.
    """

    def __init__(self, process: Launched, end: socket.socket, greeting: Mapping[str, Any]) -> None:
        self.pid = process.pid
        self.attempts = 0
        """How many it was given."""
        self.ready = False
        """Whether it has imported the application and takes attempts."""
        self.status: int | None = None
        """How it ended: an exit code, or a negative signal number; None while it lives."""
        self._process = process
        self._statm = Path(f"/proc/{process.pid}/statm")
        self._pipe = WorkerPipe(end)
        self._poll = select.poll()
        self._poll.register(process.fileno(), select.POLLIN)
        self._poll.register(self._pipe.fileno(), select.POLLIN)
        self._pipe.send([messages.START, dict(greeting)])

    @property
    def broken(self) -> bool:
        """Whether it cannot be talked to any more, dead or not."""
        return self.status is not None or self._pipe.broken

    def wait_ready(self, give_up: Callable[[], bool]) -> bool:
        """Wait until it takes attempts; False if ``give_up`` said so before.

        Raises:
            StartError: It has ended, or cannot find the tasks.
        """
        while not self.ready:
            if give_up():
                return False
            for message in self.exchange(_LOOK):
                match message:
                    case [messages.READY]:
                        self.ready = True
                    case [messages.REFUSED, text, names]:
                        raise StartError(text, refused=True, missing=tuple(names))
                    case [messages.BROKEN, text]:
                        raise StartError(text)
                    case [messages.RECORD, record]:
                        logs.handle(record)
            if not self.ready and self.broken:
                self.end_soon()
                raise StartError(
                    f"child process {self.pid} {describe_status(self.status)} before it was ready"
                )
        return True

    def send(self, message: Message) -> None:
        """Send a message; what the child does not take yet follows with ``exchange``."""
        self._pipe.send(message)

    def exchange(self, timeout: float) -> list[Message]:
        """Wait up to ``timeout`` seconds for messages, or for the end of the process."""
        self._poll.modify(
            self._pipe.fileno(), select.POLLIN | (select.POLLOUT if self._pipe.unsent else 0)
        )
        happened = dict(self._poll.poll(max(0, round(timeout * 1000))))
        if self._pipe.unsent:
            self._pipe.flush()
        ended = self._process.fileno() in happened
        received = self._pipe.receive() if self._pipe.fileno() in happened or ended else []
        if ended and self.status is None:
            # What it said before it ended is in the pipe, which nobody fills any more.
            while more := self._pipe.receive():
                received += more
            self._end()
        return received

    def is_alive(self) -> bool:
        """Whether it can be given an attempt."""
        if self.status is None and self.ready:
            for message in self.exchange(0):
                if message[0] == messages.RECORD:
                    logs.handle(message[1])
        return not self.broken

    def memory(self) -> int:
        """Return the resident memory in bytes; 0 once it has ended."""
        try:
            return int(self._statm.read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0

    def end_soon(self) -> bool:
        """Wait for the end of a child that has closed its pipe; kill it if that does not come.

        Returns:
            Whether it has ended by itself.
        """
        if self.status is None and not self._ends_within(_END_GRACE):
            self.kill()
            return False
        if self.status is None:
            self._end()
        return True

    def kill(self) -> None:
        """Kill it, with what it has started in its process group, and wait for its end."""
        if self.status is None:
            self._process.kill()
            self._end()

    def retire(self, grace: float) -> None:
        """Let it end by itself, within ``grace`` seconds, and give everything back."""
        self._pipe.close()
        if self.status is None:
            if not self._ends_within(grace):
                self._process.kill()
            self._end()
        self._process.close()

    def _ends_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._process.fileno(), select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _end(self) -> None:
        self.status = self._process.wait()


def describe_status(status: int | None) -> str:
    """Say how a process ended: "exited with status 3", "was killed by SIGSEGV"."""
    if status is None:
        return "goes on"
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"
