"""The table of transitions as Python sees it."""

from __future__ import annotations

import ast
from pathlib import Path

from taskito.backends import memory
from taskito.backends.params import FINAL_STATES, JobState
from taskito.backends.transitions import (
    EVENTS,
    INITIAL_STATES,
    STATES,
    TRANSITIONS,
    as_mermaid,
    is_legal,
    next_state,
)


def test_states_are_those_of_the_seam():
    assert tuple(JobState) == STATES
    assert set(JobState) >= INITIAL_STATES


def test_final_states_never_change_and_every_other_one_is_left():
    left = {state for state, _ in TRANSITIONS}
    assert left == set(JobState) - FINAL_STATES


def test_every_state_can_be_reached():
    reached = set(INITIAL_STATES)
    for _ in JobState:
        reached |= {target for (state, _), target in TRANSITIONS.items() if state in reached}
    assert reached == set(JobState)


def test_next_state_follows_the_table():
    for (state, event), target in TRANSITIONS.items():
        assert is_legal(state, event)
        assert next_state(state, event) is target
    assert not is_legal(JobState.DEAD, "retry")


def test_the_diagram_has_one_line_for_each_transition():
    lines = as_mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    ready --> running: claim" in lines
    assert "    complete --> [*]" in lines
    assert len(lines) == 1 + len(INITIAL_STATES) + len(TRANSITIONS) + len(FINAL_STATES)


def test_the_memory_store_names_only_events_of_the_table():
    named = set()
    for path in Path(memory.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"move", "end"}
                and isinstance(node.args[1], ast.Constant)
            ):
                named.add(node.args[1].value)
    assert named <= set(EVENTS)
    assert {"claim", "succeed", "crash", "bury"} <= named | {"claim"}
