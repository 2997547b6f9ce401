"""Child processes that never outlive their test, with deadlines on everything."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

__all__ = ["Process", "Processes", "wait_until"]

T = TypeVar("T")

_PR_CAPBSET_DROP = 24
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what makes file permissions mean nothing to root.
_FILE_CAPABILITIES = (1, 2)


def wait_until(
    condition: Callable[[], T], timeout: float, what: str | Callable[[], str], step: float = 0.01
) -> T:
    """Call ``condition`` until it returns something true, and return that.

    Args:
        condition: Asked every ``step`` seconds.
        timeout: Seconds after which the wait fails.
        what: What is waited for; a function can tell how far it came.
        step: Seconds between two questions.

    Raises:
        AssertionError: It has not become true in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            story = what() if callable(what) else what
            raise AssertionError(f"not within {timeout} s: {story}")
        time.sleep(step)


class Process:
    """A child process whose standard error goes to a file.

    Attributes:
        name: For messages.
        popen: The process.
    """

    def __init__(self, name: str, popen: subprocess.Popen[bytes], stderr: Path) -> None:
        self.name = name
        self.popen = popen
        self._stderr = stderr

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    def log(self) -> str:
        """Return its standard error so far."""
        return self._stderr.read_text(errors="replace")

    def wait_for_log(self, pattern: str, timeout: float = 20.0) -> re.Match[str]:
        """Wait until its standard error matches ``pattern``."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.log())
            if found is None and self.popen.poll() is not None:
                found = re.search(pattern, self.log())
                assert found, f"{self.name} ended ({self.popen.returncode}):\n{self.log()}"
            return found

        found = wait_until(look, timeout, lambda: f"{pattern!r} in {self.name}:\n{self.log()}")
        assert found is not None
        return found

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return self.popen.poll() is None

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its status; negative for a signal."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} (pid {self.pid}) has not ended within {timeout} s:\n{self.log()}"
            ) from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.popen.wait(20)

    def close(self) -> None:
        """End it and its pipes."""
        self.kill()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Processes:
    """Starts processes and ends all of them at the end.

    Args:
        folder: Where their standard error goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Process] = []
        self._strangers: list[int] = []

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        pipes: bool = False,
        obeys_permissions: bool = False,
    ) -> Process:
        """Start a process.

        Args:
            name: For messages and the name of its log.
            command: Program and arguments.
            cwd: Its current folder.
            environment: Added to that of the tests.
            pipes: Whether its standard input and output are pipes; else they are nothing.
            obeys_permissions: Whether file permissions bind it although the tests run as root.
        """
        stderr = self._folder / f"{len(self._all):03}-{name}.stderr"
        with stderr.open("wb") as stream:
            popen = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env=child_environment(environment),
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stderr=stream,
                # Ctrl-C in the terminal of the tests is not meant for it.
                start_new_session=True,
                # Calls one function of the C library, which another thread cannot have locked.
                preexec_fn=_drop_file_capabilities if obeys_permissions else None,  # noqa: PLW1509
            )
        process = Process(name, popen, stderr)
        self._all.append(process)
        return process

    def adopt(self, pid: int) -> None:
        """See to the end of a process that was started by one of ours."""
        self._strangers.append(pid)

    def close(self) -> None:
        """End every process."""
        for process in self._all:
            process.close()
        for pid in self._strangers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def child_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child: no trace of pytest, and nothing shadows the package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return {**kept, "PYTHONSAFEPATH": "1", **(more or {})}


def _drop_file_capabilities() -> None:
    # Takes effect at the exec. Without the right to do so there is nothing to give up.
    libc = ctypes.CDLL(None)
    for capability in _FILE_CAPABILITIES:
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
