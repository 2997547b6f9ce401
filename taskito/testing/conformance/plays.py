"""What the stateful stage draws: small pools, so that things meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from taskito.backends import Capabilities, params
from taskito.backends.params import ErrorKind
from taskito.testing.conformance.model import ModelJob

__all__ = [
    "DEAD_LETTER_LIMITS",
    "LIMITS",
    "NO_JOB",
    "QUEUES",
    "TASKS",
    "batches",
    "outcomes",
    "settlements_of",
    "subsets",
]

T = TypeVar("T")

QUEUES = ("default", "übersicht")
TASKS = ("add", "報告")
KEYS = ("a", "b")
LIMITS = st.builds(
    params.TaskLimit,
    task=st.sampled_from(TASKS),
    rate=st.sampled_from(
        [
            None,
            params.Rate(count=1, period_ms=1_000, burst=1),
            params.Rate(count=3, period_ms=5_000, burst=2),
        ]
    ),
    max_concurrent=st.sampled_from([None, 1, 2]),
)
"""What a worker may say of a task."""
DEAD_LETTER_LIMITS = st.sampled_from(
    [
        params.DeadLetterLimit(),
        params.DeadLetterLimit(),
        params.DeadLetterLimit(most=1),
        params.DeadLetterLimit(ttl_ms=5_000),
        params.DeadLetterLimit(ttl_ms=1_000, most=2),
    ]
)
"""What a worker may say of the dead letters."""
NO_JOB = "00000000-0000-7000-8000-ffffffffffff"
GIVEN_IDS = (
    "0189f7ab-5c10-7cc3-98c4-dc0c0c07398f",
    "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    # Shaped like the ids that stores make themselves, for row numbers that are used early on.
    *(f"01a31824-1400-7000-8000-{number << 34:012x}" for number in (1, 2, 5)),
)


def subsets(values: Sequence[T], limit: int) -> st.SearchStrategy[list[T]]:
    """Draw up to ``limit`` different values, in any order."""
    if not values:
        return st.just([])
    return st.lists(st.sampled_from(values), max_size=limit, unique=True)


def batches(
    capabilities: Capabilities, ids: list[str], now_ms: int
) -> st.SearchStrategy[list[params.NewJob]]:
    """Draw a batch of jobs that no store may refuse.

    Args:
        capabilities: What may be used.
        ids: Jobs that are stored already.
        now_ms: The present wall time.
    """
    return st.composite(_batch)(capabilities, ids, now_ms)


def _batch(
    draw: st.DrawFn, capabilities: Capabilities, ids: list[str], now_ms: int
) -> list[params.NewJob]:
    size = draw(st.integers(1, 5))
    return [_item(draw, capabilities, ids, now_ms, index) for index in range(size)]


def _item(
    draw: st.DrawFn, capabilities: Capabilities, ids: list[str], now_ms: int, index: int
) -> params.NewJob:
    fields: dict[str, object] = {
        "task": draw(st.sampled_from(TASKS)),
        "queue": draw(st.sampled_from(QUEUES)),
        "payload": draw(st.sampled_from([b"", b"\x00payload"])),
        "priority": draw(st.sampled_from([0, 0, 0, 5, -128, 127])),
        "max_retries": draw(st.integers(0, 2)),
        "max_crashes": draw(st.integers(0, 2)),
        "result_ttl_ms": draw(st.sampled_from([None, None, 1, 5_000])),
    }
    fields |= draw(
        st.sampled_from(
            [
                {},
                {},
                {},
                {"delay_ms": 1_000},
                {"delay_ms": 60_000},
                {"eta_ms": now_ms + 1_000},
                {"eta_ms": max(0, now_ms - 1_000)},
            ]
        )
    )
    fields |= draw(
        st.sampled_from(
            [
                {},
                {},
                {},
                {"expires_in_ms": 1_500},
                {"expires_at_ms": now_ms + 99},
                {"expires_in_ms": 0},
            ]
        )
    )
    if capabilities.unique:
        fields["unique_key"] = draw(st.sampled_from([None, None, *KEYS]))
        fields["unique_until_start"] = draw(st.booleans())
        fields["idempotency_key"] = draw(st.sampled_from([None, None, None, *KEYS]))
    if capabilities.limits:
        fields["concurrency_key"] = draw(st.sampled_from([None, None, *KEYS]))
    if capabilities.given_ids:
        fields["id"] = draw(st.sampled_from([None, None, None, None, *GIVEN_IDS]))
    if capabilities.dependencies:
        choices: list[str | int] = [*range(index), *ids[-8:]]
        chosen: list[str | int | params.Dependency] = []
        chosen += draw(st.just([]) | subsets(choices, 3))
        if capabilities.workflows:
            chosen = [_edge(draw, target) for target in chosen]
            fields["workflow"] = draw(st.sampled_from([None, None, "w", "\N{WHITE SUN}"]))
        fields["depends_on"] = tuple(chosen)
    return params.NewJob(**fields)  # type: ignore[arg-type]


def _edge(draw: st.DrawFn, target: str | int | params.Dependency) -> str | int | params.Dependency:
    if isinstance(target, params.Dependency) or draw(st.booleans()):
        return target
    return params.Dependency(
        job=target,
        condition=draw(st.sampled_from(params.Condition)),
        input=draw(st.booleans()),
    )


def outcomes(job: ModelJob | None) -> st.SearchStrategy[params.Outcome]:
    """Draw how an attempt of this job ends; what is used up is not tried again.

    That a job whose retries are used up ends is the decision of its worker, which this plays.
    """
    kinds = [ErrorKind.CRASH]
    if job is None or job.attempt < job.spec.max_retries:
        kinds += [ErrorKind.FAILURE, ErrorKind.TIMEOUT]
    ends = [ErrorKind.FAILURE, ErrorKind.TIMEOUT, ErrorKind.REJECTED]
    delays = st.sampled_from([0, 1_000, 60_000])
    return st.one_of(
        st.just(params.OutcomeSuccess(result=b"5", serializer="json")),
        st.builds(
            params.OutcomeRetry, error=st.just(b"why"), kind=st.sampled_from(kinds), delay_ms=delays
        ),
        st.builds(params.OutcomeDead, error=st.just(b"why"), kind=st.sampled_from(ends)),
        st.builds(params.OutcomeCancelled, reason=st.sampled_from(["stopped", "expired"])),
        st.builds(params.OutcomeSnooze, delay_ms=delays),
        st.builds(params.OutcomeRelease, interrupted=st.booleans()),
    )


def settlements_of(
    lease: params.Lease, job: ModelJob | None
) -> st.SearchStrategy[params.Settlement]:
    """Draw a settlement; only an attempt that is given back or cancelled may not have started."""
    untouched = st.sampled_from(
        [params.OutcomeRelease(), params.OutcomeCancelled(reason="cancelled before its start")]
    )
    return st.one_of(
        st.builds(
            params.Settlement,
            lease=st.just(lease),
            outcome=outcomes(job),
            started_ago_ms=st.sampled_from([0, 7]),
        ),
        st.builds(params.Settlement, lease=st.just(lease), outcome=untouched),
    )
