"""What crosses the pipe between a worker and a child process.

A message is a msgpack array whose first item says what it is. Nothing is ever pickled: a job's
payload, metadata and result are the bytes that the store holds, errors are stored errors.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from typing import Any, TypeAlias

__all__ = ["ChildPipe", "Message", "WorkerPipe"]

Message: TypeAlias = list[Any]

# From the worker.
START = "start"
RUN = "run"
CANCEL = "cancel"
# Both ways: a question and its answer.
ORIGINALS = "originals"
# From the child.
READY = "ready"
REFUSED = "refused"
BROKEN = "broken"
PROGRESS = "progress"
LOG = "log"
RECORD = "record"
SUCCESS = "success"
FAILURE = "failure"
SNOOZED = "snoozed"
ABORTED = "aborted"

OUTCOMES = frozenset({SUCCESS, FAILURE, SNOOZED, ABORTED})
"""The messages that end an attempt."""

_CHUNK = 65_536
# So much is read from one child before its worker looks at anything else.
_CHUNKS_AT_ONCE = 64


def _pack(message: Message) -> bytes:
    from msgpack import packb  # type: ignore[import-untyped]

    # What a task logs may hold lone surrogates.
    packed: bytes = packb(message, unicode_errors="surrogatepass")
    return packed


def _unpacker() -> Any:
    from msgpack import Unpacker

    # 0: as large as it comes; the queue's own limit has been checked before.
    return Unpacker(max_buffer_size=0, strict_map_key=False, unicode_errors="surrogatepass")


class WorkerPipe:
    """The worker's end; never blocks, so that a child which is stopped holds nobody up.

    Belongs to one thread.

    Args:
        end: A connected socket; closed by ``close``.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._unpacker = _unpacker()
        self._unsent = bytearray()
        self.broken = False
        """Whether the other end is closed, or sent what is no message."""

    def fileno(self) -> int:
        """Return the descriptor, for ``poll``."""
        return self._end.fileno()

    @property
    def unsent(self) -> bool:
        """Whether something waits until the child reads."""
        return bool(self._unsent)

    def send(self, message: Message) -> None:
        """Send a message, now or with the calls of ``flush`` that follow."""
        self._unsent += _pack(message)
        self.flush()

    def flush(self) -> None:
        """Send as much as the child takes without waiting for it."""
        try:
            while self._unsent:
                sent = self._end.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            return
        except OSError:
            # What the child said before it closed its end can still be read.
            self._unsent.clear()

    def receive(self) -> list[Message]:
        """Return the messages that have arrived completely."""
        try:
            for _ in range(_CHUNKS_AT_ONCE):
                data = self._end.recv(_CHUNK)
                if not data:
                    self.broken = True
                    break
                self._unpacker.feed(data)
        except BlockingIOError:
            pass
        except OSError:
            self.broken = True
        messages: list[Message] = []
        try:
            for message in self._unpacker:
                if not isinstance(message, list) or not message:
                    raise ValueError("not a message")  # noqa: TRY301 - as if it were unreadable
                messages.append(message)
        except Exception:  # noqa: BLE001 - whatever a decoder may raise
            self.broken = True
        return messages

    def close(self) -> None:
        """Close this end, which tells the child to end."""
        self._end.close()


class ChildPipe:
    """The child's end. Any thread may send; one at a time receives.

    Once the worker's end is closed the child has no purpose: then it ends, at once if it is in the
    middle of a task.

    Args:
        end: A connected socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._owner = os.getpid()
        self._unpacker = _unpacker()
        self._inbox: list[Message] = []
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._cancelled: set[int] = set()
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def send(self, message: Message) -> None:
        """Send a message; waits while the worker does not read."""
        # A fork that a task made must not talk to the worker.
        if os.getpid() != self._owner:
            return
        with self._sending:
            try:
                self._end.sendall(_pack(message))
            except (BrokenPipeError, ConnectionError):
                os._exit(0)

    def receive(self, *kinds: str) -> Message | None:
        """Wait for the next message of one of these kinds; None: the worker is done with it."""
        with self._receiving:
            while True:
                for position, message in enumerate(self._inbox):
                    if message[0] in kinds:
                        return self._inbox.pop(position)
                if not self._read():
                    return None

    def cancelled(self, token: int) -> bool:
        """Whether the worker has asked for the cancellation of this run; never blocks."""
        if token in self._cancelled:
            return True
        if os.getpid() != self._owner:
            return False
        with self._receiving:
            while self._poll.poll(0):
                if not self._read():
                    os._exit(0)
        return token in self._cancelled

    def _read(self) -> bool:
        try:
            data = self._end.recv(_CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            return False
        self._unpacker.feed(data)
        for message in self._unpacker:
            if message[0] == CANCEL:
                self._cancelled = {message[1]}
            else:
                self._inbox.append(message)
        return True

    def close(self) -> None:
        """Close this end."""
        with contextlib.suppress(OSError):
            self._end.close()
