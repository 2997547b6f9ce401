"""Named locks over the store: exclusive among processes, extended in time, with a fencing token."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from taskito import config
from taskito.backends.params import LockRequest
from taskito.connection import Connection, LockKeeper
from taskito.exceptions import ConfigurationError, LockLostError, LockTimeoutError, QueueClosedError

if TYPE_CHECKING:
    from types import TracebackType

    from taskito.backends.base import Backend

__all__ = ["Lock", "Locking"]

MAX_TTL = 86_400.0
"""The longest ``ttl`` in seconds: a day."""

_LONGEST_WAIT = 1.0
"""Seconds until a waiting thread looks again without a wake-up."""

_PAUSE = 0.01
"""Seconds between two attempts, however often the store changes."""

_COROUTINE_PAUSE = 0.05
"""The same for a coroutine, which is not woken."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """A lock that was taken, and what it was taken with."""

    name: str
    token: int
    pid: int
    backend: Backend
    keeper: LockKeeper


class _Attempt:
    """Attempts of one coroutine, which may be cancelled while one is under way in a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given_up = False
        self._grant: _Grant | None = None

    def make(self, lock: Lock) -> tuple[_Grant | None, float]:
        """Try once; what is taken for somebody who has given up is released at once."""
        grant, wait = lock._try()  # noqa: SLF001 - the two belong together
        with self._lock:
            self._grant = grant
            given_up = self._given_up
        if grant is not None and given_up:
            _release(grant)
            return None, wait
        return grant, wait

    def give_up(self) -> None:
        """Release what was taken already, and what still may be, without blocking."""
        with self._lock:
            self._given_up = True
            grant = self._grant
        if grant is not None:
            threading.Thread(target=_release, args=(grant,), daemon=True).start()


class Lock:
    """A named lock, made by ``Queue.lock``; a context manager, ``with`` or ``async with``.

    Attributes:
        name: Its name.

    Example:
        >>> with queue.lock("nightly-report") as lock:
        ...     for part in parts:
        ...         lock.check()
        ...         write(part, fence=lock.token)
    """

    def __init__(
        self, connection: Connection, name: str, ttl: float, timeout: float | None
    ) -> None:
        self.name = name
        self._connection = connection
        self._ttl_ms = config.to_milliseconds(ttl)
        self._timeout = timeout
        self._grant: _Grant | None = None
        self._entering = threading.Lock()

    @property
    def token(self) -> int:
        """The fencing token of this holding: greater than that of every holding before.

        Hand it to whatever the lock protects, and let that refuse a smaller one than it has seen.

        Raises:
            RuntimeError: The lock is not held.
        """
        return self._held().token

    def check(self) -> None:
        """Return if the lock is still held; call it before each step that needs it.

        Asks this process only, so it costs next to nothing.

        Raises:
            LockLostError: It is not; the message says why. Stop what needs it.
            RuntimeError: The block was not entered, or was left.
        """
        grant = self._held()
        if grant.pid != os.getpid():
            raise LockLostError(
                f"lock {self.name!r} belongs to process {grant.pid}, which forked this one"
            )
        reason = grant.keeper.lost(grant.token)
        if reason is not None:
            raise LockLostError(f"lock {self.name!r} was lost: {reason}")

    # Plain code -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Wait until the lock is free and take it."""
        self._begin()
        try:
            self._grant = self._wait()
        finally:
            if self._grant is None:
                self._entering.release()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the lock; raise ``LockLostError`` if it had been lost and nothing else raises."""
        _report(self.name, _release(self._leave()), error)

    # Coroutines -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Do the same without blocking the event loop."""
        import asyncio

        self._begin()
        deadline = _Deadline(self._timeout)
        try:
            while True:
                attempt = _Attempt()
                try:
                    grant, wait = await self._connection.run(attempt.make, self)
                except asyncio.CancelledError:
                    attempt.give_up()
                    raise
                if grant is not None:
                    self._grant = grant
                    return self
                self._refuse_after(deadline)
                await asyncio.sleep(deadline.shorten(min(wait, _COROUTINE_PAUSE)))
        finally:
            if self._grant is None:
                self._entering.release()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do the same without blocking the event loop."""
        grant = self._leave()
        try:
            reason = await self._connection.run(_release, grant)
        except QueueClosedError:
            reason = _release(grant)
        _report(self.name, reason, error)

    # Parts ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._entering.acquire(blocking=False):
            raise ConfigurationError(
                f"lock {self.name!r}: this object is in use already; make another one with "
                f"queue.lock({self.name!r})"
            )

    def _leave(self) -> _Grant:
        grant = self._held()
        self._grant = None
        self._entering.release()
        return grant

    def _held(self) -> _Grant:
        grant = self._grant
        if grant is None:
            raise RuntimeError(f"lock {self.name!r} is not held; use it inside its with block")
        return grant

    def _wait(self) -> _Grant:
        deadline = _Deadline(self._timeout)
        backend = self._connection.backend
        # Before the first attempt, so that a release right after it is not missed.
        seen = backend.wait(0, 0)
        while True:
            grant, wait = self._try()
            if grant is not None:
                return grant
            self._refuse_after(deadline)
            seen = backend.wait(seen, deadline.shorten(min(wait, _LONGEST_WAIT)))
            time.sleep(deadline.shorten(_PAUSE))

    def _try(self) -> tuple[_Grant | None, float]:
        """Take the lock if it is free; otherwise tell for how many seconds it is not, at most."""
        backend, keeper = self._connection.backend, self._connection.keeper
        before = time.monotonic()
        answer = backend.acquire_lock(
            LockRequest(name=self.name, owner=_owner(), ttl_ms=self._ttl_ms)
        )
        if answer.token is None:
            return None, answer.expires_in_ms / 1_000
        age_ms = int((time.monotonic() - before) * 1_000) + 1
        keeper.hold(self.name, answer.token, self._ttl_ms, age_ms)
        return _Grant(self.name, answer.token, os.getpid(), backend, keeper), 0.0

    def _refuse_after(self, deadline: _Deadline) -> None:
        if deadline.is_over():
            raise LockTimeoutError(
                f"lock {self.name!r} was not free within {self._timeout:g} s; somebody else holds "
                f"it, see queue.locks()"
            )

    def __repr__(self) -> str:
        grant = self._grant
        return f"<Lock {self.name!r}{'' if grant is None else f' held, token {grant.token}'}>"


class Locking:
    """The part of ``Queue`` for named locks."""

    _connection: Connection

    def lock(self, name: str, ttl: float = 30.0, timeout: float | None = None) -> Lock:
        """Make a lock that one holder at a time has, among all processes and threads.

        Entering the block waits until it is free. It is extended in the background for as long as
        the block runs, also while the interpreter is busy with something else; so ``ttl`` only
        bounds how long the lock of a holder that died or stopped keeps others out. Nobody can take
        it before that.

        A holder that was stopped for longer than ``ttl`` has lost the lock. ``lock.check()`` tells,
        and leaving the block raises ``LockLostError`` (unless another exception is on its way).
        What must not be done twice in that case checks ``lock.token``, which only grows.

        Waiters are not served in order. A block may not be entered twice by one ``Lock`` object,
        and a second lock of the same name waits for the first, also in the same thread.

        Args:
            name: 1 to 255 characters; isolated by ``namespace``.
            ttl: Seconds, more than 0, at most a day.
            timeout: How many seconds to wait for it; 0 tries once, None waits for ever.

        Raises:
            ConfigurationError: A value is not allowed.
            CapabilityError: The backend has no locks.
            LockTimeoutError: On entering: it was not free in time (a ``TimeoutError``).

        Example:
            >>> with queue.lock("nightly-report", timeout=5):
            ...     make_report()
        """
        name = config.check_name("name", name)
        ttl = config.check_seconds("ttl", ttl, positive=True)
        if ttl > MAX_TTL:
            raise ConfigurationError(f"ttl: {ttl:g} is not allowed; give at most {MAX_TTL:g} s")
        if timeout is not None:
            timeout = config.check_seconds("timeout", timeout)
        self._connection.require("locks", "lock()")
        return Lock(self._connection, name, ttl, timeout)

    def locks(self) -> list[dict[str, Any]]:
        """Return the locks that are held, by name.

        Each is a dict with ``name``, ``token``, ``owner`` (host and process) and ``expires_in``,
        the seconds until it is free unless it is extended.

        Raises:
            CapabilityError: The backend has no locks.
        """
        self._connection.require("locks", "locks()")
        return [
            {
                "name": lock.name,
                "token": lock.token,
                "owner": lock.owner,
                "expires_in": lock.expires_in_ms / 1_000,
            }
            for lock in self._connection.backend.locks()
        ]


class _Deadline:
    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else time.monotonic() + timeout

    def is_over(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at

    def shorten(self, seconds: float) -> float:
        """Return ``seconds``, or what is left if that is less."""
        return seconds if self._at is None else max(0.0, min(seconds, self._at - time.monotonic()))


def _owner() -> str:
    return f"{socket.gethostname()} pid {os.getpid()}"


def _release(grant: _Grant) -> str | None:
    """Release a lock; return why it was lost before, if it was."""
    if grant.pid != os.getpid():
        return None  # A copy of the block in a forked child: the lock is the parent's.
    reason = grant.keeper.drop(grant.token)
    try:
        released = grant.backend.release_lock(grant.name, grant.token)
    except QueueClosedError:
        return reason or "the queue was closed while it was held"
    if released or reason is not None:
        return reason
    return "its time was over before it was released"


def _report(name: str, reason: str | None, error: BaseException | None) -> None:
    if reason is None:
        return
    message = f"lock {name!r} was lost before the end of its block: {reason}"
    if error is None:
        raise LockLostError(message)
    error.add_note(message)
