"""Whether a worker, or a supervisor with its workers, is well; and HTTP for those who ask.

- *live*: restarting it would not help. The process answers, and its dispatcher is not stuck.
- *ready*: it is registered with the store and claims jobs. A worker that drains, or whose store
  does not answer, is not ready, but live.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar, Self

from taskito.worker.state import WorkerPhase

__all__ = ["STUCK_AFTER", "Health", "HealthServer", "WorkerHealth", "health_of"]

STUCK_AFTER = 30.0
"""Seconds of silence after which a dispatcher, or a whole worker process, counts as stuck.

Far beyond the ten seconds that a write waits for the lock of a database by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """How one worker process is.

    Attributes:
        process: Its id; None if there is none at present.
        worker: The worker's id; None before there is one.
        phase: A ``WorkerPhase``, or what comes before and after: "loading", "ended".
        reason: Why it is in this phase.
        silent: For how many seconds it has given no sign of life.
    """

    process: int | None
    worker: str | None
    phase: str
    reason: str
    silent: float = 0.0

    @property
    def live(self) -> bool:
        """Whether it answers."""
        return self.silent < STUCK_AFTER

    @property
    def ready(self) -> bool:
        """Whether it claims jobs."""
        return self.live and self.phase == WorkerPhase.READY

    def described(self) -> dict[str, Any]:
        """Return it as it appears in answers."""
        return {**asdict(self), "live": self.live, "ready": self.ready}


@dataclass(frozen=True, slots=True)
class Health:
    """How all of it is.

    Attributes:
        live: Whether a restart would not help.
        ready: Whether all workers claim jobs.
        reason: Why it is not, or that it is.
        workers: Each of them.
    """

    live: bool
    ready: bool
    reason: str
    workers: tuple[WorkerHealth, ...] = ()


def health_of(workers: Iterable[WorkerHealth]) -> Health:
    """Put the health of several workers together: each of them counts."""
    found = tuple(workers)
    stuck = [worker for worker in found if not worker.live]
    idle = [worker for worker in found if not worker.ready]
    if stuck:
        reason = f"{_name(stuck[0])} gave no sign of life for {stuck[0].silent:.0f} s"
    elif idle:
        reason = f"{_name(idle[0])}: {idle[0].phase}: {idle[0].reason}"
    else:
        reason = "all workers claim jobs" if len(found) != 1 else "the worker claims jobs"
    return Health(not stuck, bool(found) and not idle, reason, found)


def _name(worker: WorkerHealth) -> str:
    return "a worker" if worker.process is None else f"worker process {worker.process}"


class HealthServer:
    """Answers ``GET /health/live`` and ``GET /health/ready`` from a thread of its own.

    The status is 200 or 503; the body is JSON and gives the reason. Everything else is 404.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        ask: Returns the present health; called from the threads of the server.

    Raises:
        OSError: Nothing can listen there.
    """

    def __init__(self, host: str, port: int, ask: Callable[[], Health]) -> None:
        handler = type("_Handler", (_Handler,), {"ask": staticmethod(ask)})
        self._server = _Server((host, port), handler)
        self.port: int = self._server.server_address[1]
        """The port it listens on."""

    def __enter__(self) -> Self:
        """Begin to answer."""
        thread = threading.Thread(
            target=self._server.serve_forever, name="taskito-health", daemon=True
        )
        thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A restart must not wait until the connections of its predecessor have timed out.
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, which can take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    ask: ClassVar[Callable[[], Health]]
    server_version = "taskito"
    sys_version = ""
    # A client that sends nothing holds a thread no longer.
    timeout = 10

    def do_GET(self) -> None:
        """Answer."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: probes come every few seconds."""

    def _answer(self, *, body: bool) -> None:
        what = self.path.partition("?")[0]
        if what not in ("/health/live", "/health/ready"):
            return self._send(404, {"reason": "ask for /health/live or /health/ready"}, body=body)
        health = type(self).ask()
        well = health.live if what == "/health/live" else health.ready
        content = {
            "status": "ok" if well else "unavailable",
            "reason": health.reason,
            "live": health.live,
            "ready": health.ready,
            "workers": [worker.described() for worker in health.workers],
        }
        return self._send(200 if well else 503, content, body=body)

    def _send(self, status: int, content: dict[str, Any], *, body: bool) -> None:
        data = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if body:
            self.wfile.write(data)
