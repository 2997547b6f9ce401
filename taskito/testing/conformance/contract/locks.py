"""Named locks: one holder until its time is over, under a token that is never given out twice."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import pytest

from taskito.backends import Backend, params
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, OpenAgain, fresh_namespace
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["LocksContract"]

TTL = 30_000


def take(backend: Backend, name: str = "l", ttl_ms: int = TTL, owner: str = "me") -> int | None:
    """Ask for a lock; return its token, or None if somebody else has it."""
    request = params.LockRequest(name=name, owner=owner, ttl_ms=ttl_ms)
    return backend.acquire_lock(request).token


def extend(backend: Backend, token: int, name: str = "l", ttl_ms: int = TTL) -> bool:
    """Extend a lock; return whether it was held."""
    [held] = backend.extend_locks([params.LockLease(name=name, token=token, ttl_ms=ttl_ms)])
    return held


def taken(backend: Backend, name: str = "l", ttl_ms: int = TTL) -> int:
    """Take a lock that must be free."""
    token = take(backend, name, ttl_ms)
    assert token is not None, f"lock {name!r} is held"
    return token


class LocksContract(Topic):
    """What ``acquire_lock``, ``extend_locks``, ``release_lock`` and ``locks`` promise."""

    topic = "locks"
    needed = ("locks",)

    def test_a_lock_has_one_holder_whoever_asks(self, backend: Backend) -> None:
        taken(backend)
        assert take(backend) is None
        assert take(backend, owner="another") is None
        assert take(backend, "other") is not None

    def test_a_released_lock_is_free_at_once(self, backend: Backend) -> None:
        token = taken(backend)
        assert backend.release_lock("l", token)
        assert taken(backend) > token

    def test_a_lock_is_released_by_its_holder_only(self, backend: Backend) -> None:
        token = taken(backend)
        assert not backend.release_lock("l", token + 1)
        assert not backend.release_lock("other", token)
        assert take(backend) is None
        assert backend.release_lock("l", token)
        assert not backend.release_lock("l", token)

    @needs("virtual_time")
    def test_a_lock_is_held_until_its_time_is_over_and_no_longer(
        self, backend: Backend, clock: VirtualClock
    ) -> None:
        first = taken(backend)
        clock.advance(TTL - 1)
        answer = backend.acquire_lock(params.LockRequest(name="l", owner="x", ttl_ms=TTL))
        assert answer == params.LockAnswer(token=None, expires_in_ms=1)
        clock.advance(1)
        assert list(backend.locks()) == []
        assert not extend(backend, first)
        assert not backend.release_lock("l", first)
        assert taken(backend) > first

    @needs("virtual_time")
    def test_what_upkeep_does_changes_nothing(self, backend: Backend, clock: VirtualClock) -> None:
        first, second = taken(backend), taken(backend, "second", 2 * TTL)
        clock.advance(TTL)
        backend.maintain(10)
        assert not extend(backend, first)
        assert extend(backend, second, "second")
        assert taken(backend) > second

    @needs("virtual_time")
    def test_an_extended_lock_lasts_from_its_extension(
        self, backend: Backend, clock: VirtualClock
    ) -> None:
        token = taken(backend)
        for _ in range(3):
            clock.advance(TTL - 1)
            assert extend(backend, token)
        clock.advance(TTL - 1)
        assert take(backend) is None
        clock.advance(1)
        assert take(backend) is not None

    @needs("virtual_time")
    def test_an_earlier_holder_can_do_nothing(self, backend: Backend, clock: VirtualClock) -> None:
        first = taken(backend)
        clock.advance(TTL)
        second = taken(backend)
        assert not extend(backend, first)
        assert not backend.release_lock("l", first)
        assert extend(backend, second)
        assert take(backend) is None

    @needs("virtual_time")
    def test_a_clock_that_is_set_changes_no_lock(
        self, backend: Backend, clock: VirtualClock
    ) -> None:
        token = taken(backend)
        clock.set_wall(clock.wall_ms() + 10 * TTL)
        assert take(backend) is None
        clock.set_wall(clock.wall_ms() - 20 * TTL)
        assert extend(backend, token)
        clock.advance(TTL)
        assert take(backend) is not None

    def test_tokens_of_locks_and_leases_only_grow(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        tokens = []
        for number in range(4):
            tokens.append(taken(backend, f"l{number % 2}"))
            backend.release_lock(f"l{number % 2}", tokens[-1])
            enqueue()
            [claimed] = worker.claim()
            tokens.append(claimed.lease.token)
        assert sorted(set(tokens)) == tokens

    def test_many_locks_are_extended_at_once(self, backend: Backend) -> None:
        leases = [
            params.LockLease(name=name, token=taken(backend, name), ttl_ms=TTL) for name in "abc"
        ]
        backend.release_lock("b", leases[1].token)
        assert list(backend.extend_locks(leases)) == [True, False, True]
        assert list(backend.extend_locks([])) == []

    def test_locks_are_listed_by_name(self, backend: Backend) -> None:
        tokens = {name: taken(backend, name) for name in ("z", "ä", "a")}
        listed = list(backend.locks())
        assert [lock.name for lock in listed] == ["a", "z", "ä"]
        assert {lock.name: lock.token for lock in listed} == tokens
        assert all(lock.owner == "me" and 0 < lock.expires_in_ms <= TTL for lock in listed)

    def test_a_release_wakes_who_waits(self, backend: Backend) -> None:
        token = taken(backend)
        before = backend.wait(0, 0)
        backend.release_lock("l", token)
        assert backend.wait(before, 5) != before

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"name": ""}, "name"),
            ({"name": "x" * 256}, "name"),
            ({"name": "a\nb"}, "name"),
            ({"owner": ""}, "owner"),
            ({"ttl_ms": 0}, "ttl_ms"),
            ({"ttl_ms": 86_400_001}, "ttl_ms"),
        ],
    )
    def test_a_lock_that_cannot_be_kept_is_refused(
        self, backend: Backend, fields: dict[str, object], named: str
    ) -> None:
        request = {"name": "l", "owner": "me", "ttl_ms": TTL, **fields}
        with pytest.raises(ConfigurationError, match=named):
            backend.acquire_lock(params.LockRequest(**request))  # type: ignore[arg-type]
        assert list(backend.locks()) == []

    def test_a_lock_belongs_to_its_namespace(self, open_again: OpenAgain) -> None:
        here, there = open_again(), open_again(namespace=fresh_namespace())
        token = taken(here)
        assert list(there.locks()) == []
        assert not there.release_lock("l", token)
        assert take(there) is not None
        assert take(here) is None

    def test_a_lock_holds_for_whoever_opens_the_store(self, open_again: OpenAgain) -> None:
        first, second = open_again(), open_again()
        token = taken(first)
        assert take(second) is None
        assert second.release_lock("l", token)
        assert taken(second) > token
