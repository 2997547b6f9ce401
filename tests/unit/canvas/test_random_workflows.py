"""Random workflows with failures, crashes and interleavings, against a serial reference.

The reference evaluates the canvas by itself, part by part: it knows no jobs, edges or store.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskito import Queue, StepOutcome, chain, chord, group
from taskito.backends import BackendOptions, params
from taskito.backends.memory import MemoryBackend
from taskito.backends.params import ErrorKind
from taskito.backends.sqlite import SqliteBackend
from taskito.canvas.compose import Chain, Chord, Group
from taskito.canvas.shape import first_argument
from taskito.serializers.msgpack import MsgpackSerializer
from taskito.testing import VirtualClock

NOW = 1_800_000_000_000
LEASE_MS = 1_000
SERIALIZERS = {"msgpack": MsgpackSerializer()}


# What is drawn ----------------------------------------------------------------------------------


def drawn_canvas(draw, step, fates, depth):
    """Draw a canvas; ``fates`` gets, for each step by its number, how it ends."""
    kind = draw(st.sampled_from(["step", "chain", "group", "chord"])) if depth else "step"
    if kind == "step":
        number = len(fates)
        fates.append(draw(st.sampled_from(["ok", "ok", "ok", "ok", "none", "fail"])))
        return step.si(number) if draw(st.integers(0, 5)) == 0 else step.s(number)
    size = draw(st.integers(0 if kind == "group" else 1, 3))
    parts = [drawn_canvas(draw, step, fates, depth - 1) for _ in range(size)]
    if kind == "chain":
        return chain(*parts)
    members = group(parts, max_concurrency=draw(st.sampled_from([None, None, 1, 2])))
    if kind == "group":
        return members
    callback = drawn_canvas(draw, step, fates, depth - 1)
    return chord(members, callback, allow_failures=draw(st.booleans()))


# The reference ----------------------------------------------------------------------------------


@dataclass
class End:
    """How a part ended.

    Attributes:
        ok: Whether all of it succeeded.
        value: What it hands on; for a group a list of ``End``.
        void: An empty group after a failure: there is no step whose outcome could be told.
    """

    ok: bool
    value: Any = None
    void: bool = False

    def has_void(self):
        inside = self.value if isinstance(self.value, list) else []
        return self.void or any(item.has_void() for item in inside if isinstance(item, End))


class Reference:
    """Runs a canvas; ``runs`` gets the argument of each step that ran, by its number."""

    def __init__(self, fates):
        self.fates = fates
        self.runs = {}

    def run(self, canvas, before=None):
        if isinstance(canvas, Chain):
            for part in canvas.steps:
                before = self.run(part, before)
            return before
        if isinstance(canvas, Group):
            members = [self.run(member, before) for member in canvas.members]
            # An empty group hands on an empty list, if what was before it succeeded.
            ok = all(member.ok for member in members) and (members or before is None or before.ok)
            return End(bool(ok), members, void=not members and not ok)
        if isinstance(canvas, Chord):
            header = self.run(canvas.header, before)
            if canvas.allow_failures and _has_steps(canvas.header) and not header.has_void():
                header = End(True, _as_outcomes(header).value)
            return self.run(canvas.callback, header)
        return self._step(canvas, before)

    def _step(self, signature, before):
        [number] = signature.args
        if before is not None and not before.ok:
            return End(False)
        given = before is not None and not signature.immutable
        self.runs[number] = _plain(before) if given else "nothing"
        if self.fates[number] == "fail":
            return End(False)
        return End(True, returned(number, self.fates[number], self.runs[number]))


def _has_steps(canvas):
    if isinstance(canvas, Group):
        return any(_has_steps(member) for member in canvas.members)
    return True


def _as_outcomes(end):
    if isinstance(end.value, list) and all(isinstance(item, End) for item in end.value):
        return End(True, [_as_outcomes(item) for item in end.value])
    return End(True, ["outcome", end.ok, end.value if end.ok else None])


def _plain(end):
    value = end.value if isinstance(end, End) else end
    if isinstance(value, list) and all(isinstance(item, End) for item in value):
        return [_plain(item) for item in value]
    return value


def returned(number, fate, argument):
    """Return what a step hands on: enough to tell it from every other."""
    return None if fate == "none" else {"step": number, "got": argument}


# The store --------------------------------------------------------------------------------------


class Play:
    """Plays workers that die, come too late and settle in any order."""

    def __init__(self, queue, clock, fates, draw):
        self.backend, self.clock, self.fates, self.draw = queue.backend, clock, fates, draw
        self.held = []
        self.runs = {}
        self.completed = []
        self.worker = self._register()

    def _register(self):
        worker = uuid.uuid4().hex
        self.backend.register(
            params.WorkerRegistration(
                id=worker, pid=1, host="here", tasks=("step",), lease_ms=LEASE_MS
            )
        )
        return worker

    def exchange(self, **fields):
        return self.backend.exchange(params.ExchangeRequest(worker=self.worker, **fields))

    def run(self):
        while True:
            self.held += self.exchange(want=self.draw(st.integers(1, 4))).jobs
            if not self.held:
                return
            job = self.held.pop(self.draw(st.integers(0, len(self.held) - 1)))
            accident = self.draw(st.integers(0, 9))
            if accident == 0:
                self._die()
            elif accident == 1:
                self._settle(job, params.OutcomeRelease(interrupted=True))
            else:
                self._finish(job)

    def _die(self):
        """Let everything that the worker holds be lost, before any of it had started."""
        self.clock.advance(LEASE_MS + 1)
        self.backend.maintain(1_000)
        self.held = []
        self.worker = self._register()

    def _finish(self, job):
        call = msgpack.unpackb(job.payload, ext_hook=lambda code, data: (code, data))
        number = call[0][0]
        argument = "nothing"
        if len(call) == 3:
            argument = _shown(first_argument(call[2], job.inputs, SERIALIZERS))
        self.runs[number] = argument
        if self.fates[number] == "fail":
            outcome = params.OutcomeDead(error=b"\x00no", kind=ErrorKind.FAILURE)
        else:
            self.completed.append(number)
            value = returned(number, self.fates[number], argument)
            result = SERIALIZERS["msgpack"].dumps(value)
            outcome = params.OutcomeSuccess(result=result, serializer="msgpack")
        self._settle(job, outcome)
        # Whatever is not needed any more may go at any time.
        if self.draw(st.booleans()):
            self.backend.purge(params.PurgeRequest(states=(params.JobState.COMPLETE,)))

    def _settle(self, job, outcome):
        settlement = params.Settlement(lease=job.lease, outcome=outcome, started_ago_ms=0)
        assert self.exchange(settlements=(settlement,)).verdicts == (params.Verdict.OK,)


def _shown(value):
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, StepOutcome):
        return ["outcome", value.ok, value.value]
    return value


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def make_backend(request):
    if request.param == "memory":
        return lambda options: MemoryBackend(options=options)
    return lambda options: SqliteBackend(":memory:", options)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_every_step_gets_what_a_serial_evaluation_gives_it(make_backend, data):
    clock = VirtualClock(NOW)
    fates = []
    with make_backend(BackendOptions(clock=clock)) as backend, Queue(backend=backend) as queue:
        step = queue.remote_task("step", max_retries=0)
        canvas = drawn_canvas(data.draw, step, fates, 3)
        reference = Reference(fates)
        reference.run(canvas)
        canvas.apply(queue)
        play = Play(queue, clock, fates, data.draw)
        play.run()
        assert play.runs == reference.runs
        assert len(set(play.completed)) == len(play.completed), "a step completed twice"
        waiting = [row for row in backend.counts() if row.state not in params.FINAL_STATES]
        assert waiting == [], "a step is left"
