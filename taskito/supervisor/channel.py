"""How a supervisor and a worker process talk: lines over a pair of connected sockets.

The worker sends a report, one JSON object, at each change and every few seconds. The supervisor
sends ``stop`` and ``now``. It does not use signals for that: the terminal and init systems signal a
whole group of processes, and a worker could not tell their signal from that of its supervisor. When
the supervisor dies, the kernel closes its end, which the worker takes for ``stop``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import asdict, dataclass
from typing import Self

__all__ = ["HEARTBEAT", "LOADING", "NOW", "STOP", "VARIABLE", "Channel", "Report", "split_lines"]

_logger = logging.getLogger("taskito.supervisor")

HEARTBEAT = 2.0
"""Seconds between two reports when nothing changes."""

VARIABLE = "TASKITO_SUPERVISED"
"""Where a worker finds its end: the number of a descriptor, and the number of the worker."""

LOADING = "loading"
"""The phase of a worker that imports its application."""

STOP = b"stop\n"
"""Stop gracefully."""
NOW = b"now\n"
"""Stop at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker says about itself.

    Attributes:
        phase: A ``WorkerPhase``, or "loading" while the application is imported.
        reason: Why it is in this phase.
        worker: Its id, once it has one.
        silent: For how many seconds its dispatcher has not come round.
        drain_timeout: Seconds that its running attempts get, once that is known.
    """

    phase: str = LOADING
    reason: str = "the application is being imported"
    worker: str | None = None
    silent: float = 0.0
    drain_timeout: float | None = None

    def encoded(self) -> bytes:
        """Return it as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decoded(cls, line: bytes) -> Self:
        """Return the report of a line.

        Raises:
            ValueError: It is none.
            TypeError: It has other fields.
        """
        return cls(**json.loads(line))


class Channel:
    """The worker's end.

    Args:
        connection: The socket.
        number: Which of its supervisor's workers this is, from 1.
    """

    def __init__(self, connection: socket.socket, number: int = 1) -> None:
        self.number = number
        self._connection = connection
        # A report that does not fit is dropped: the next one says the same, or better.
        self._lock = threading.RLock()
        self._rest = b""

    @classmethod
    def take(cls, environment: MutableMapping[str, str] = os.environ) -> Self | None:
        """Return the end that a supervisor left to this process; None if there is none.

        The variable is removed and the descriptor closes on exec: programs that tasks start are no
        workers of this supervisor.
        """
        value = environment.pop(VARIABLE, None)
        if value is None:
            return None
        descriptor, number = map(int, value.split(":"))
        os.set_inheritable(descriptor, False)
        return cls(socket.socket(fileno=descriptor), number)

    def listen(self, stop: Callable[[], object], now: Callable[[], object]) -> None:
        """Call ``stop`` and ``now`` when the supervisor says so, from a thread of its own."""

        def work() -> None:
            for order in self._orders():
                if order == NOW:
                    now()
                else:
                    stop()

        threading.Thread(target=work, name="taskito-supervised", daemon=True).start()

    def send(self, report: Report) -> None:
        """Send a report, unless the supervisor does not read."""
        with self._lock, contextlib.suppress(OSError):
            if not self._rest:
                self._rest = report.encoded()
            # What is left of a line has to follow before the next one.
            sent = self._connection.send(self._rest, socket.MSG_DONTWAIT)
            self._rest = self._rest[sent:]

    def _orders(self) -> Iterator[bytes]:
        received = b""
        while True:
            try:
                data = self._connection.recv(1_024)
            except OSError:
                data = b""
            if not data:
                _logger.warning("the supervisor has died: this worker stops, too")
                yield STOP
                return
            lines, received = split_lines(received + data)
            yield from lines


def split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole lines, and what follows the last one."""
    *lines, rest = data.split(b"\n")
    return [line + b"\n" for line in lines], rest
