"""Long chains, wide chords, deep nesting: what they cost, and where the bounds are."""

from __future__ import annotations

import sys

import msgpack
import pytest

from taskito import ConfigurationError, Queue, chain, chord, group
from taskito.backends import params
from taskito.canvas.plan import plan
from taskito.canvas.signature import MAX_DEPTH


@pytest.fixture
def queue(tmp_path):
    with Queue(db_path=tmp_path / "q.db", durability="off") as queue:
        queue.task("same")(lambda value=None: value)
        yield queue


@pytest.fixture
def same(queue):
    return queue.tasks["same"]


def drain(queue, hand_worker, want=500):
    """Complete all that comes, in exchanges of many settlements; return how many steps ran."""
    worker, ran, settlements = hand_worker(queue), 0, ()
    while True:
        request = params.ExchangeRequest(worker=worker.id, settlements=settlements, want=want)
        jobs = queue.backend.exchange(request).jobs
        if not jobs:
            return ran
        ran += len(jobs)
        outcome = params.OutcomeSuccess(result=msgpack.packb(None), serializer="msgpack")
        settlements = tuple(
            params.Settlement(lease=job.lease, outcome=outcome, started_ago_ms=0) for job in jobs
        )


def test_a_chain_of_1000_steps_needs_no_recursion(queue, same, hand_worker):
    flow = same.s(1)
    for _ in range(999):
        flow |= same.s()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        job = flow.apply()
    finally:
        sys.setrecursionlimit(limit)
    assert drain(queue, hand_worker) == 1_000
    assert job.result(timeout=0) is None


def test_the_cost_of_a_member_of_a_chord_does_not_grow(tmp_path, hand_worker):
    def cost(width):
        place = tmp_path / f"{width}.db"
        with Queue(db_path=place, durability="off") as queue:
            same = queue.task("same")(lambda value=None: value)
            before = queue.backend.costs()
            chord(group([same.s(1)] * width), same.s()).apply()
            assert drain(queue, hand_worker) == width + 1
            after = queue.backend.costs()
        return {name: (after[name] - before[name]) / width for name in after}

    small, large = cost(1_000), cost(10_000)
    for name in ("statements", "instructions", "pages_written"):
        assert large[name] <= 1.2 * small[name], (name, small, large)


def test_a_chord_of_10000_has_a_small_payload(same):
    made = plan(chord(group([same.s(1)] * 10_000), same.s()))
    assert made.steps[-1].shape == 10_000
    assert len(made.steps[-1].depends_on) == 10_000


def test_nesting_is_bounded_with_a_clear_error(queue, same, hand_worker):
    flow = same.s(1)
    for _ in range(49):
        flow = chain(group(chain(flow, same.s())), same.s())
        if flow.depth > 95:
            break
    job = flow.apply()
    drain(queue, hand_worker)
    assert job.result(timeout=0) is None
    deepest = same.s()
    while deepest.depth < MAX_DEPTH:
        deepest = group(deepest)
    with pytest.raises(ConfigurationError, match="100 levels"):
        group(deepest)
