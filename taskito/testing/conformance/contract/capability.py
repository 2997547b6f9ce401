"""Capabilities: what is declared works; what is not is refused by name and changes nothing."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from taskito.backends import Backend, Capabilities, Liveness, params
from taskito.backends.params import NewJob
from taskito.exceptions import CapabilityError
from taskito.testing.conformance.fixtures import Enqueue
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic

__all__ = ["CapabilityContract"]

_SCHEDULE = params.NewSchedule(name="s", line="@daily", job=NewJob(task="add"))
_OPERATIONS: dict[str, dict[str, Callable[[Backend, params.Lease], object]]] = {
    "pauses": {
        "pause": lambda backend, _: backend.pause("default"),
        "resume": lambda backend, _: backend.resume("default"),
        "paused": lambda backend, _: backend.paused(),
        "unstarted": lambda backend, _: backend.unstarted("default"),
    },
    "limits": {
        "limit_rate": lambda backend, _: backend.limit_rate("default", None),
        "limit_concurrency": lambda backend, _: backend.limit_concurrency("default", None),
        "limits": lambda backend, _: backend.limits(),
    },
    "locks": {
        "acquire_lock": lambda backend, _: backend.acquire_lock(
            params.LockRequest(name="l", owner="me", ttl_ms=1_000)
        ),
        "extend_locks": lambda backend, _: backend.extend_locks([]),
        "release_lock": lambda backend, _: backend.release_lock("l", 1),
        "locks": lambda backend, _: backend.locks(),
    },
    "replay": {
        "replay": lambda backend, lease: backend.replay(params.ReplayRequest(ids=(lease.id,))),
    },
    "schedules": {
        "put_schedules": lambda backend, _: backend.put_schedules([_SCHEDULE]),
        "schedules": lambda backend, _: backend.schedules(),
        "set_schedules_paused": lambda backend, _: backend.set_schedules_paused(["s"], True),
        "delete_schedules": lambda backend, _: backend.delete_schedules(["s"]),
        "trigger_schedules": lambda backend, _: backend.trigger_schedules(["s"]),
    },
    "workflows": {
        "workflows": lambda backend, _: backend.workflows(params.WorkflowsRequest()),
        "workflow": lambda backend, _: backend.workflow("w"),
    },
    "progress_log": {
        "set_progress": lambda backend, lease: backend.set_progress(lease.id, lease.token, 5),
        "append_log": lambda backend, lease: backend.append_log(lease, "info", "line"),
        "logs": lambda backend, lease: backend.logs(lease.id),
    },
}
_FIELDS: dict[str, list[dict[str, Any]]] = {
    "unique": [{"unique_key": "k"}, {"idempotency_key": "k"}],
    "dependencies": [{"depends_on": (0,)}],
    "workflows": [
        {"depends_on": (params.Dependency(job=0, condition=params.Condition.ALWAYS),)},
        {"depends_on": (params.Dependency(job=0, input=True),)},
        {"workflow": "w"},
    ],
    "limits": [{"concurrency_key": "k"}],
    "given_ids": [{"id": str(uuid.UUID(int=7))}],
}


class CapabilityContract(Topic):
    """What ``Capabilities`` promises."""

    topic = "capabilities"

    def test_capabilities_are_declared_on_the_class(
        self, backend: Backend, capabilities: Capabilities
    ) -> None:
        assert type(backend).capabilities == backend.capabilities == capabilities
        for field in fields(capabilities):
            expected = Liveness if field.name == "liveness" else bool
            assert isinstance(getattr(capabilities, field.name), expected), field.name

    @pytest.mark.parametrize("capability", list(_OPERATIONS))
    def test_an_operation_is_offered_exactly_if_it_is_declared(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, capability: str
    ) -> None:
        enqueue()
        [claimed] = worker.claim()
        declared = getattr(backend.capabilities, capability)
        for operation in _OPERATIONS[capability].values():
            if declared:
                operation(backend, claimed.lease)
                continue
            before = observe(backend)
            with pytest.raises(CapabilityError, match=f"'{capability}'"):
                operation(backend, claimed.lease)
            assert observe(backend) == before

    def test_limits_of_a_worker_are_taken_exactly_if_they_are_declared(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        limits = (params.TaskLimit(task="add", max_concurrent=1),)
        if backend.capabilities.limits:
            start_worker(limits=limits)
            return
        before = observe(backend)
        with pytest.raises(CapabilityError, match="'limits'"):
            start_worker(limits=limits)
        assert observe(backend) == before

    def test_limits_of_dead_letters_are_taken_exactly_if_they_are_declared(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        limit = params.DeadLetterLimit(most=1)
        if backend.capabilities.dead_letter_limits:
            start_worker(dead_letters=limit)
            return
        before = observe(backend)
        with pytest.raises(CapabilityError, match="'dead_letter_limits'"):
            start_worker(dead_letters=limit)
        assert observe(backend) == before

    @pytest.mark.parametrize("capability", list(_FIELDS))
    def test_a_field_of_a_job_is_taken_exactly_if_it_is_declared(
        self, backend: Backend, capability: str
    ) -> None:
        declared = getattr(backend.capabilities, capability)
        for used in _FIELDS[capability]:
            batch = [NewJob(task="add"), NewJob(task="add", **used)]
            if declared:
                assert [answer.duplicate for answer in backend.enqueue(batch)] == [False, False]
                continue
            before = observe(backend)
            # Where two capabilities are missing, either may be named.
            needed = {capability, "dependencies"} if "depends_on" in used else {capability}
            missing = "|".join(name for name in needed if not getattr(backend.capabilities, name))
            with pytest.raises(CapabilityError, match=f"'({missing})'"):
                backend.enqueue(batch)
            assert observe(backend) == before
