"""Named locks: held until a steady time, each under a token of its own."""

from __future__ import annotations

from collections.abc import Sequence

from taskito.backends import params
from taskito.backends.memory.store import HeldLock, Store
from taskito.backends.validation import check_lock_lease, check_lock_request

__all__ = ["acquire", "extend", "forget_expired", "records", "release"]


def acquire(store: Store, request: params.LockRequest) -> params.LockAnswer:
    """Take a lock that nobody holds."""
    check_lock_request(request)
    now = store.clock.steady_ms()
    held = store.locks.get(request.name)
    if held is not None and held.deadline_ms > now:
        return params.LockAnswer(token=None, expires_in_ms=held.deadline_ms - now)
    store.last_token += 1
    store.locks[request.name] = HeldLock(store.last_token, request.owner, now + request.ttl_ms)
    return params.LockAnswer(token=store.last_token, expires_in_ms=request.ttl_ms)


def extend(store: Store, leases: Sequence[params.LockLease]) -> list[bool]:
    """Let locks last for their full time from now."""
    for lease in leases:
        check_lock_lease(lease)
    now = store.clock.steady_ms()
    extended = []
    for lease in leases:
        held = _held(store, lease.name, lease.token)
        extended.append(held is not None)
        if held is not None:
            held.deadline_ms = now + lease.ttl_ms
    return extended


def release(store: Store, name: str, token: int) -> bool:
    """Free a lock, unless its time is over."""
    if _held(store, name, token) is None:
        return False
    del store.locks[name]
    store.announce()
    return True


def records(store: Store) -> list[params.LockRecord]:
    """Return the locks that are held, by name."""
    now = store.clock.steady_ms()
    return [
        params.LockRecord(
            name=name, token=held.token, owner=held.owner, expires_in_ms=held.deadline_ms - now
        )
        for name, held in sorted(store.locks.items())
        if held.deadline_ms > now
    ]


def forget_expired(store: Store) -> None:
    """Drop what holders that died have left behind; nobody can tell the difference."""
    now = store.clock.steady_ms()
    for name in [name for name, held in store.locks.items() if held.deadline_ms <= now]:
        del store.locks[name]


def _held(store: Store, name: str, token: int) -> HeldLock | None:
    held = store.locks.get(name)
    if held is None or held.token != token or held.deadline_ms <= store.clock.steady_ms():
        return None
    return held
