"""Preloading: a process that imports the application once, and is forked for every child.

It runs nothing else, so it has one thread and a fork of it is whole. Children start in
milliseconds, and share the memory of everything imported until they write to it.

The worker asks with nine bytes: what to do, and a process number. A fork comes with two
descriptors, the child's end of its pipe and the writing end of a pipe for answers: first the number
of the child, later, when the worker asks for it, its status. Until then the dead child keeps its
number, so that nobody else can be killed in its place.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taskito.worker.processes.child import ChildProcess, StartError
from taskito.worker.processes.launching import start_interpreter

__all__ = ["TemplateLauncher", "fork_on_request", "other_threads"]

_REQUEST = struct.Struct("=cq")
_NUMBER = struct.Struct("=q")
_FORK = b"f"
_REAP = b"r"

_LOOK_MS = 50

_UNKNOWN = -signal.SIGKILL
"""The status of a child whose template is gone: it has gone with it."""

# In the worker's process --------------------------------------------------------------------------


class TemplateLauncher:
    """Has children forked from a template, which is started with the first one.

    Args:
        entry: ``module:function``, called in the template with the number of its descriptor.
        greeting: What the template and each child are told first.
    """

    def __init__(self, entry: str, greeting: Mapping[str, Any]) -> None:
        self._entry = entry
        self._greeting = {**greeting, "template": False}
        self._lock = threading.Lock()
        self._template: _Template | None = None

    def launch(self, give_up: Callable[[], bool]) -> ChildProcess:
        """Start one; waits for the template if that is not ready."""
        with self._lock:
            template = self._template
            if template is None:
                template = self._template = _Template(self._entry, self._greeting)
            try:
                template.wait_ready(give_up)
                forked, end = template.fork(give_up)
            except BaseException:
                self._template = None
                template.close()
                raise
        return ChildProcess(forked, end, self._greeting)

    def close(self) -> None:
        """End the template; its children have ended before."""
        with self._lock:
            if self._template is not None:
                self._template.close()
                self._template = None


class _Template:
    """The template as the worker sees it."""

    def __init__(self, entry: str, greeting: Mapping[str, Any]) -> None:
        process, end = start_interpreter(entry)
        self._end = end
        self._process = ChildProcess(process, end, {**greeting, "template": True})
        self._lock = threading.Lock()

    def wait_ready(self, give_up: Callable[[], bool]) -> None:
        if not self._process.wait_ready(give_up):
            raise StartError("the worker stops")

    def fork(self, give_up: Callable[[], bool]) -> tuple[_Forked, socket.socket]:
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            self.request(_FORK, 0, [theirs.fileno(), writing])
            os.close(writing)
            writing = -1
            answer = os.read(reading, _NUMBER.size) if _wait_for(reading, give_up) else b""
            if len(answer) != _NUMBER.size:
                raise StartError("the preloaded process could not be forked")  # noqa: TRY301
            [pid] = _NUMBER.unpack(answer)
            return _Forked(self, pid, reading), ours
        except BaseException as error:
            ours.close()
            os.close(reading)
            if isinstance(error, OSError):
                raise StartError(f"the preloaded process is gone: {error}") from None
            raise
        finally:
            theirs.close()
            if writing >= 0:
                os.close(writing)

    def request(self, what: bytes, pid: int, descriptors: list[int]) -> None:
        # Requests are small and answered at once: the pipe never fills up.
        with self._lock:
            socket.send_fds(self._end, [_REQUEST.pack(what, pid)], descriptors)

    def close(self) -> None:
        self._process.kill()
        self._process.retire(0)


class _Forked:
    """A child that a template has forked; like ``launching.Spawned``."""

    def __init__(self, template: _Template, pid: int, answers: int) -> None:
        self.pid = pid
        self._template = template
        self._answers = answers
        self._descriptor = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when it ends."""
        return self._descriptor

    def wait(self) -> int:
        """Wait for its end and return its status."""
        _wait_for(self._descriptor, lambda: False)
        with contextlib.suppress(OSError):
            self._template.request(_REAP, self.pid, [])
            answer = os.read(self._answers, _NUMBER.size)
            if len(answer) == _NUMBER.size:
                return os.waitstatus_to_exitcode(*_NUMBER.unpack(answer))
        return _UNKNOWN

    def kill(self) -> None:
        """Kill it and its process group."""
        # It may not have come to leading a group yet.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._descriptor)
        os.close(self._answers)


def _wait_for(descriptor: int, give_up: Callable[[], bool]) -> bool:
    """Wait until something can be read, or the other end is closed; False if given up."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not poll.poll(_LOOK_MS):
        if give_up():
            return False
    return True


# In the template ----------------------------------------------------------------------------------


def other_threads() -> list[str]:
    """Return the names of the threads beside the calling one, those of libraries included."""
    own = str(threading.get_native_id())
    return [
        (thread / "comm").read_text().strip()
        for thread in Path("/proc/self/task").iterdir()
        if thread.name != own
    ]


def fork_on_request(control: socket.socket) -> socket.socket | None:
    """Fork as often as the worker asks for it.

    Args:
        control: The template's end of its pipe.

    Returns:
        In each child, its end of its own pipe. In the template None, when the worker is done.
    """
    # Collections in a child do not look at the application's objects, which would copy them.
    gc.collect()
    gc.freeze()
    answers: dict[int, int] = {}
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _REQUEST.size, 2)
        if len(request) != _REQUEST.size:
            return None
        what, pid = _REQUEST.unpack(request)
        if what == _REAP:
            _answer(answers.pop(pid), os.waitpid(pid, 0)[1], last=True)
            continue
        end, answer = descriptors
        try:
            pid = os.fork()
        except OSError:
            os.close(answer)
        else:
            if pid == 0:
                for descriptor in (answer, *answers.values()):
                    os.close(descriptor)
                control.close()
                with contextlib.suppress(OSError):
                    os.setpgid(0, 0)
                return socket.socket(fileno=end)
            answers[pid] = answer
            _answer(answer, pid)
        os.close(end)


def _answer(descriptor: int, number: int, *, last: bool = False) -> None:
    # Nobody may be there to read it any more.
    with contextlib.suppress(OSError):
        os.write(descriptor, _NUMBER.pack(number))
    if last:
        os.close(descriptor)
