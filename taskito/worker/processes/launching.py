"""How child processes are started: as new interpreters, never as forks of the worker.

The worker has threads, and a fork of a process with threads copies their locks in whatever state
they are in. ``multiprocessing`` is not used: it pickles what it hands over, keeps a process of its
own for semaphores that nobody needs here, and shares its list of children with the application.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing import spawn
from pathlib import Path
from typing import Any, Protocol

from taskito.exceptions import ConfigurationError
from taskito.worker.processes.child import ChildProcess

__all__ = ["InterpreterLauncher", "Launcher", "Spawned", "check_platform", "start_interpreter"]

# The search path first: taskito itself may be where only the worker's own path leads to. Two
# ``sys.path`` entries for the same thing would import it twice, so it is replaced as a whole.
_BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "module, _, name = sys.argv[2].partition(':'); "
    "getattr(__import__(module, fromlist=[name]), name)(int(sys.argv[1]))"
)


class Launcher(Protocol):
    """Starts child processes; used by several threads at a time."""

    def launch(self, give_up: Callable[[], bool]) -> ChildProcess:
        """Start one; returns before it is ready.

        Args:
            give_up: Says that none is wanted any more.

        Raises:
            OSError: The system does not allow another process.
            StartError: What it is started from has failed.
        """

    def close(self) -> None:
        """End what is kept for starting others."""


class Spawned:
    """A process that ``subprocess`` has started, with a descriptor that tells its end.

    It leads a process group of its own: Ctrl-C in a terminal reaches the worker only, which
    decides, and what a task has started in the group is killed together with it.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._descriptor = os.pidfd_open(process.pid)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when it ends."""
        return self._descriptor

    def wait(self) -> int:
        """Wait for its end and return its status."""
        return self._process.wait()

    def kill(self) -> None:
        """Kill it and its process group."""
        # Until it was waited for, nobody else can have its number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


class InterpreterLauncher:
    """Starts each child as an interpreter of its own, which imports the application itself.

    Args:
        entry: ``module:function``, called in the child with the number of its descriptor.
        greeting: What each child is told first.
    """

    def __init__(self, entry: str, greeting: Mapping[str, Any]) -> None:
        self._entry = entry
        self._greeting = greeting

    def launch(self, give_up: Callable[[], bool]) -> ChildProcess:
        """Start one; returns before it is ready."""
        del give_up
        process, end = start_interpreter(self._entry)
        return ChildProcess(process, end, {**self._greeting, "template": False})

    def close(self) -> None:
        """Do nothing: nothing is kept."""


def start_interpreter(entry: str) -> tuple[Spawned, socket.socket]:
    """Start a Python process that calls ``entry`` and return it with this end of its pipe."""
    ours, theirs = socket.socketpair()
    try:
        flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
        # An empty entry means the current folder, at the time of each import.
        path = [folder or str(Path.cwd()) for folder in sys.path]
        process = subprocess.Popen(  # noqa: S603 - this interpreter
            [
                *(os.fsdecode(spawn.get_executable()), *flags, "-c", _BOOT),
                *(str(theirs.fileno()), entry, *path),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        return Spawned(process), ours
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()


def check_platform() -> None:
    """Refuse systems on which the end of a process cannot be waited for beside a pipe.

    Raises:
        ConfigurationError: This is one.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        raise ConfigurationError(
            "pool: 'process' needs Linux 5.3 or newer (pidfd_open); use pool='thread' here"
        ) from error
