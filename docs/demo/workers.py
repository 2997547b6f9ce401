"""The worker processes: `taskito worker` as anybody starts it."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["WorkerProcesses", "WorkerProcessesError"]

_COMMAND = Path(sysconfig.get_path("scripts"), "taskito")
_STOP_TIMEOUT = 40.0


class WorkerProcessesError(Exception):
    """A worker ended when it should not have, or not as it should have."""


class WorkerProcesses:
    """Several `taskito worker` processes; leaving the block ends those that still run.

    Args:
        count: How many.
        folder: Where the output of each is kept, in a file of its own.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self._outputs = [folder / f"worker-{number}.log" for number in range(1, count + 1)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def start(self) -> None:
        """Start them."""
        arguments = [
            str(_COMMAND),
            "worker",
            "--app=tasks:queue",
            f"--app-dir={Path(__file__).parent}",
            "--concurrency=2",
        ]
        for output in self._outputs:
            with output.open("wb") as file:
                process = subprocess.Popen(  # noqa: S603 - the command of this environment
                    arguments, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
                )
            self._processes.append(process)

    def check(self) -> None:
        """Make sure that all of them run.

        Raises:
            WorkerProcessesError: One has ended.
        """
        for process in self._processes:
            if process.poll() is not None:
                raise WorkerProcessesError(
                    f"worker process {process.pid} ended with exit code {process.returncode} "
                    "before the work was done"
                )

    def stop(self) -> None:
        """Send SIGTERM to all of them and wait until each has ended.

        Raises:
            WorkerProcessesError: An exit code is not 0, or one did not end in time.
        """
        self.check()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                code = process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                raise WorkerProcessesError(
                    f"worker process {process.pid} has not ended {_STOP_TIMEOUT:.0f} s after "
                    "SIGTERM"
                ) from None
            if code != 0:
                raise WorkerProcessesError(
                    f"worker process {process.pid} ended with exit code {code} after SIGTERM; "
                    "expected 0"
                )

    def output(self) -> str:
        """Return what the workers have printed."""
        return "\n".join(
            f"--- {path.name} ---\n{path.read_text(errors='replace')}"
            for path in self._outputs
            if path.exists()
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End at once those that still run."""
        for process in self._processes:
            process.kill()
            process.wait()
