"""The round-trip stage: whatever a store accepts comes back equal, byte for byte."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito.backends import Backend, params
from taskito.plugins.manager import plugin_manager
from taskito.plugins.serializers import get_serializer
from taskito.testing.conformance.played_worker import StartWorker
from taskito.testing.conformance.profiles import kit_settings
from taskito.testing.conformance.topic import Topic, needs
from taskito.testing.conformance.values import PLAIN, fingerprint

__all__ = ["RoundTripStage"]

MAX_MILLISECONDS = (1 << 47) - 1
"""The longest duration and the latest instant that a store has to take."""

DURATIONS = st.sampled_from([0, 1, 1_000, 1 << 31, 1 << 32, MAX_MILLISECONDS]) | st.integers(
    0, MAX_MILLISECONDS
)
COUNTS = st.sampled_from([0, 1, 1 << 31, MAX_MILLISECONDS]) | st.integers(0, 1_000)
CHARACTERS = st.characters(exclude_categories=["Cc", "Cs"])
ANY_CHARACTERS = st.characters(exclude_categories=["Cs"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=255) | st.sampled_from(
    ["x" * 255, "😀" * 255, "é", "e\N{COMBINING ACUTE ACCENT}", "'; DROP TABLE job; --", "%s", " "]
)
KEYS = st.text(ANY_CHARACTERS, min_size=1, max_size=255) | st.sampled_from(
    ["k" * 1_024, "\0", "nul\0inside", "'", " "]
)
BYTES = st.binary(max_size=300) | st.sampled_from(
    [b"", b"\x00", bytes(range(256)), b"\xff" * 4_096, b"text with \x00 zero"]
)
LARGE = (0, 1, 4_095, 4_096, 65_536, 1_048_577)


class RoundTripStage(Topic):
    """Arbitrary payloads, names, metadata, unicode, sizes, extreme times and priorities."""

    stage = "round trip"
    topic = "round trip"

    @kit_settings(share=2)
    @given(
        task=NAMES,
        queue=NAMES,
        serializer=NAMES,
        payload=BYTES,
        metadata=st.none() | BYTES,
        priority=st.integers(params.MIN_PRIORITY, params.MAX_PRIORITY),
        max_retries=COUNTS,
        max_crashes=COUNTS,
        timeout_ms=DURATIONS,
        result_ttl_ms=st.none() | DURATIONS,
    )
    def test_a_job_comes_back_as_it_was_handed_in(self, backend: Backend, **fields: object) -> None:
        spec = params.NewJob(**fields)  # type: ignore[arg-type]
        [answer] = backend.enqueue([spec])
        [record] = backend.get([answer.id])
        assert record is not None
        assert {name: getattr(record, name) for name in fields if name != "result_ttl_ms"} == {
            name: value for name, value in fields.items() if name != "result_ttl_ms"
        }
        assert record.state is params.JobState.READY

    @kit_settings()
    @given(
        task=NAMES,
        queue=NAMES,
        serializer=NAMES,
        payload=BYTES,
        metadata=st.none() | BYTES,
        priority=st.integers(params.MIN_PRIORITY, params.MAX_PRIORITY),
        result=BYTES,
        result_serializer=NAMES,
    )
    def test_a_worker_gets_what_was_handed_in_and_the_result_what_it_gave(
        self,
        backend: Backend,
        start_worker: StartWorker,
        result: bytes,
        result_serializer: str,
        **fields: object,
    ) -> None:
        spec = params.NewJob(**fields)  # type: ignore[arg-type]
        worker = start_worker(queues=(spec.queue,), tasks=(spec.task,))
        [answer] = backend.enqueue([spec])
        [claimed] = worker.claim(2)
        assert claimed.lease.id == answer.id
        assert {name: getattr(claimed, name) for name in fields} == fields
        outcome = params.OutcomeSuccess(result=result, serializer=result_serializer)
        assert worker.settle(claimed.lease, outcome) is params.Verdict.OK
        [record] = backend.get([answer.id])
        assert record is not None
        assert (record.result, record.result_serializer) == (result, result_serializer)
        worker.leave()

    @kit_settings()
    @given(error=BYTES, kind=st.sampled_from([params.ErrorKind.FAILURE, params.ErrorKind.TIMEOUT]))
    def test_an_error_comes_back_as_the_worker_gave_it(
        self, backend: Backend, start_worker: StartWorker, error: bytes, kind: params.ErrorKind
    ) -> None:
        worker = start_worker()
        [answer] = backend.enqueue([params.NewJob(task="add")])
        [claimed] = worker.claim()
        worker.settle(claimed.lease, params.OutcomeDead(error=error, kind=kind))
        [record] = backend.get([answer.id])
        assert record is not None
        [entry] = record.errors
        assert (entry.detail, entry.kind, entry.run) == (error, kind, claimed.lease.token)
        worker.leave()

    @kit_settings(share=2)
    @given(data=st.data(), arguments=PLAIN, result=PLAIN)
    def test_values_come_back_through_every_serializer(
        self,
        backend: Backend,
        start_worker: StartWorker,
        data: st.DataObject,
        arguments: object,
        result: object,
    ) -> None:
        name = data.draw(st.sampled_from(sorted(plugin_manager().serializers())))
        serializer = get_serializer(name)
        worker = start_worker()
        payload = serializer.dumps(arguments)
        spec = params.NewJob(task="add", payload=payload, serializer=name)
        [answer] = backend.enqueue([spec])
        [claimed] = worker.claim()
        assert claimed.serializer == name
        assert fingerprint(serializer.loads(claimed.payload)) == fingerprint(arguments)
        outcome = params.OutcomeSuccess(result=serializer.dumps(result), serializer=name)
        assert worker.settle(claimed.lease, outcome) is params.Verdict.OK
        [record] = backend.get([answer.id])
        assert record is not None
        assert record.result is not None
        assert record.result_serializer == name
        assert fingerprint(serializer.loads(record.result)) == fingerprint(result)
        worker.leave()

    @pytest.mark.parametrize("size", LARGE)
    def test_large_values_come_back_whole(
        self, backend: Backend, start_worker: StartWorker, size: int
    ) -> None:
        worker = start_worker()
        payload = (bytes(range(251)) * (size // 251 + 1))[:size]
        [answer] = backend.enqueue([params.NewJob(task="add", payload=payload, metadata=payload)])
        [claimed] = worker.claim()
        assert (claimed.payload, claimed.metadata) == (payload, payload)
        outcome = params.OutcomeSuccess(result=payload, serializer="msgpack")
        assert worker.settle(claimed.lease, outcome) is params.Verdict.OK
        [record] = backend.get([answer.id])
        assert record is not None
        assert (record.payload, record.result) == (payload, payload)

    @kit_settings()
    @given(eta_ms=DURATIONS, expires_at_ms=DURATIONS)
    def test_instants_come_back_exactly(
        self, backend: Backend, eta_ms: int, expires_at_ms: int
    ) -> None:
        spec = params.NewJob(task="add", eta_ms=eta_ms, expires_at_ms=expires_at_ms)
        [answer] = backend.enqueue([spec])
        [record] = backend.get([answer.id])
        assert record is not None
        assert record.expires_ms == expires_at_ms
        if record.state is params.JobState.SCHEDULED:
            assert record.due_ms == eta_ms
        else:
            assert eta_ms <= record.created_ms

    @kit_settings()
    @given(delay_ms=DURATIONS, expires_in_ms=DURATIONS)
    def test_durations_count_from_the_enqueue(
        self, backend: Backend, delay_ms: int, expires_in_ms: int
    ) -> None:
        delay_ms = max(1, delay_ms)
        spec = params.NewJob(task="add", delay_ms=delay_ms, expires_in_ms=expires_in_ms)
        [answer] = backend.enqueue([spec])
        [record] = backend.get([answer.id])
        assert record is not None
        assert record.state is params.JobState.SCHEDULED
        assert record.expires_ms == record.created_ms + expires_in_ms
        # Later than any instant that a store can keep is as late as it can say.
        assert record.due_ms in (record.created_ms + delay_ms, *LATEST)

    @needs("unique")
    @kit_settings()
    @given(key=KEYS, other=KEYS)
    def test_keys_are_compared_exactly(self, backend: Backend, key: str, other: str) -> None:
        first, second, third = backend.enqueue(
            [
                params.NewJob(task="add", unique_key=key),
                params.NewJob(task="add", unique_key=key),
                params.NewJob(task="add", unique_key=other),
            ]
        )
        assert (second.duplicate, second.id) == (True, first.id)
        assert third.duplicate == (other == key)
        backend.cancel(params.CancelRequest(ids=(first.id, third.id)))

    @needs("pauses")
    @kit_settings()
    @given(queue=NAMES)
    def test_any_queue_name_can_be_paused(self, backend: Backend, queue: str) -> None:
        backend.pause(queue)
        assert list(backend.paused()) == [queue]
        backend.resume(queue)
        assert list(backend.paused()) == []

    @needs("progress_log")
    @kit_settings()
    @given(lines=st.lists(st.tuples(NAMES, st.text(ANY_CHARACTERS))))
    def test_log_lines_come_back_in_order(
        self, backend: Backend, start_worker: StartWorker, lines: list[tuple[str, str]]
    ) -> None:
        worker = start_worker()
        [answer] = backend.enqueue([params.NewJob(task="add")])
        [claimed] = worker.claim()
        for level, message in lines:
            assert backend.append_log(claimed.lease, level, message)
        kept = [(line.run, line.level, line.message) for line in backend.logs(answer.id)]
        assert kept == [(claimed.lease.token, level, message) for level, message in lines]
        worker.leave()
        backend.cancel(params.CancelRequest(ids=(answer.id,)))

    @kit_settings()
    @given(
        queues=st.none() | st.lists(NAMES, max_size=5, unique=True).map(tuple),
        tasks=st.lists(NAMES, max_size=5, unique=True).map(tuple),
        host=st.text(CHARACTERS, min_size=1, max_size=255),
        pid=st.integers(1, 1 << 22),
    )
    def test_a_worker_is_listed_as_it_registered(
        self,
        backend: Backend,
        queues: tuple[str, ...] | None,
        tasks: tuple[str, ...],
        host: str,
        pid: int,
    ) -> None:
        worker = params.WorkerRegistration(
            id="0123456789abcdef0123456789abcdef", pid=pid, host=host, queues=queues, tasks=tasks
        )
        backend.register(worker)
        [record] = backend.workers()
        shown = (record.id, record.pid, record.host, record.queues, record.tasks)
        # A name may be kept in any order, but none may be lost, joined or split.
        assert shown[:3] == (worker.id, pid, host)
        assert _as_set(record.queues) == _as_set(queues)
        assert set(record.tasks) == set(tasks)
        backend.unregister(worker.id)


LATEST = (MAX_MILLISECONDS, MAX_MILLISECONDS + 1)
"""What a due time beyond the latest instant may be shown as."""


def _as_set(names: tuple[str, ...] | None) -> set[str] | None:
    return None if names is None else set(names)
