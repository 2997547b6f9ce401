"""One worker process, as its supervisor sees it."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence

from taskito.supervisor.channel import LOADING, NOW, STOP, VARIABLE, Report, split_lines
from taskito.supervisor.health import WorkerHealth
from taskito.worker.state import WorkerPhase

__all__ = ["FORCED", "USAGE", "Child", "describe_status"]

_logger = logging.getLogger("taskito.supervisor")

USAGE = 2
"""The status of a worker that was started wrongly, or whose application cannot be imported."""
FORCED = 70
"""The status of a worker that had to be ended by force."""

# A worker ends itself 2 s after its drain time; what is still there later has to be killed.
_WATCHDOG = 2.0
_GRACE = 3.0


class Child:
    """A worker process from its start to its end.

    It runs in a session of its own, so that Ctrl-C in a terminal reaches the supervisor only.

    Args:
        number: Which worker it is, from 1.
        command: Program and arguments.
        environment: Its environment; the way to its supervisor is added.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, number: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.number = number
        self.report = Report()
        self.ready_at: float | None = None
        self.stopping = False
        self.killed = False
        self.kill_at: float | None = None
        """When it is killed if it has not ended by then."""
        self._heard_at = time.monotonic()
        self._received = b""
        self.connection, theirs = socket.socketpair()
        self.connection.setblocking(False)
        try:
            with theirs:
                descriptor = theirs.fileno()
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    command,
                    env={**environment, VARIABLE: f"{descriptor}:{number}"},
                    stdin=subprocess.DEVNULL,
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
        except BaseException:
            self.connection.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def name(self) -> str:
        """How messages name it."""
        return f"worker {self.number} (process {self.pid})"

    @property
    def loaded(self) -> bool:
        """Whether it has imported the application."""
        return self.report.phase != LOADING

    @property
    def ready(self) -> bool:
        """Whether it claims jobs."""
        return self.report.phase == WorkerPhase.READY

    def receive(self) -> bool:
        """Take in what it has sent; return whether it can still send."""
        while True:
            try:
                data = self.connection.recv(65_536)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            lines, self._received = split_lines(self._received + data)
            for line in lines:
                self._take(line)

    def poll(self) -> int | None:
        """Return its status if it has ended, negative for a signal."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to stop gracefully; does nothing the second time."""
        if not self.stopping:
            self.stopping = True
            # Before that is known it is still being imported, and runs nothing.
            self._ask(STOP, self.report.drain_timeout or 0.0)

    def stop_at_once(self) -> None:
        """Ask it to stop without letting anything end."""
        self.stopping = True
        self._ask(NOW, 0.0)

    def kill(self) -> None:
        """Kill it."""
        self.killed = True
        self.kill_at = None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def healthy_for(self) -> float:
        """Return for how many seconds it has claimed jobs."""
        return 0.0 if self.ready_at is None else time.monotonic() - self.ready_at

    def health(self) -> WorkerHealth:
        """Return how it is."""
        return WorkerHealth(
            process=self.pid,
            worker=self.report.worker,
            phase=self.report.phase,
            reason=self.report.reason,
            silent=max(self.report.silent, time.monotonic() - self._heard_at),
        )

    def close(self) -> None:
        """Let go of it after its end."""
        self.connection.close()

    def _take(self, line: bytes) -> None:
        try:
            self.report = Report.decoded(line)
        except (ValueError, TypeError):
            _logger.warning("%s sent something that is no report: %r", self.name, line)
            return
        self._heard_at = time.monotonic()
        if self.ready and self.ready_at is None:
            self.ready_at = self._heard_at

    def _ask(self, order: bytes, drain_timeout: float) -> None:
        kill_at = time.monotonic() + drain_timeout + _WATCHDOG + _GRACE
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        # It may have ended, or be stopped with its buffer full: then its time runs out.
        with contextlib.suppress(OSError):
            self.connection.send(order)


def describe_status(status: int) -> str:
    """Return how a process ended, for a message: ``was killed by SIGKILL``."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (by a person, or by the kernel when memory ran out)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
