"""The graph of a stored workflow, and what follows from how its steps ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from taskito.backends.params import (
    FINAL_STATES,
    SKIPPED,
    Condition,
    Dependency,
    JobRecord,
    JobState,
)
from taskito.status import public_status

__all__ = ["Graph"]

_ARROWS = {
    Condition.SUCCESS: "-->",
    Condition.FAILURE: "-. on failure .->",
    Condition.ALWAYS: "-. always .->",
}


class Graph:
    """The steps of one workflow as of one moment.

    Args:
        records: The whole records of its jobs, oldest first, without those that were replayed.
    """

    def __init__(self, records: Sequence[JobRecord]) -> None:
        self.records = tuple(records)
        self._by_id = {record.id: record for record in records}
        # What runs again is named by its older self in the edges of steps that did not.
        self._current = {record.original_id: record.id for record in records if record.original_id}
        self._children: dict[str, list[tuple[Dependency, JobRecord]]] = defaultdict(list)
        for record in records:
            for edge in record.waits_for:
                self._children[self._current_id(edge)].append((edge, record))
        self._skipped = self._find_skipped()

    @property
    def done(self) -> int:
        """How many steps have ended."""
        return sum(record.state in FINAL_STATES for record in self.records)

    @property
    def state(self) -> str:
        """Return "running", "complete", "failed" or "cancelled"."""
        if self.done < len(self.records):
            return "running"
        ends = {record.state for record in self._bad_ends()}
        if not ends:
            return "complete"
        if any(record.state is JobState.DEAD for record in self.records):
            return "failed"
        return "cancelled"

    def is_skipped(self, record: JobRecord) -> bool:
        """Whether a step was to run after a failure that did not come, or depended on such."""
        return record.id in self._skipped

    def needs_retry(self) -> tuple[str, ...]:
        """Return the ids of the steps that have to run again, each behind those it waits for.

        The last steps that did not complete, what they are missing, and what was to run on a
        failure of one of those.
        """
        chosen: set[str] = set()
        look = self._bad_ends()
        while look:
            record = look.pop()
            if record.id in chosen or record.state is JobState.COMPLETE:
                continue
            chosen.add(record.id)
            for edge in record.waits_for:
                parent = self._by_id.get(self._current_id(edge))
                has_run = record.state is JobState.DEAD
                counts = edge.condition is Condition.SUCCESS or (edge.input and not has_run)
                if parent is not None and counts:
                    look.append(parent)
        for record in self.records:
            handles = any(
                edge.condition is Condition.FAILURE and self._current_id(edge) in chosen
                for edge in record.waits_for
            )
            waits = any(self._current_id(edge) in chosen for edge in record.waits_for)
            if handles or (waits and record.state is not JobState.COMPLETE):
                chosen.add(record.id)
        return tuple(record.id for record in self.records if record.id in chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return nodes and edges as plain values."""
        return {
            "nodes": [
                {"id": record.id, "task": record.task, "status": self._status(record)}
                for record in self.records
            ],
            "edges": [
                {
                    "from": self._current_id(edge),
                    "to": record.id,
                    "condition": str(edge.condition),
                    "input": edge.input,
                }
                for record in self.records
                for edge in record.waits_for
            ],
        }

    def to_mermaid(self) -> str:
        """Return a Mermaid flowchart, a line for each step and edge."""
        names = {record.id: f"s{number}" for number, record in enumerate(self.records)}
        lines = ["flowchart TD"]
        for record in self.records:
            label = record.task.replace('"', "#quot;")
            lines.append(f'    {names[record.id]}["{label}<br/>{self._status(record)}"]')
        drawn: set[tuple[str, str, Condition]] = set()
        for record in self.records:
            for edge in record.waits_for:
                parent = self._current_id(edge)
                if parent in names and (parent, record.id, edge.condition) not in drawn:
                    drawn.add((parent, record.id, edge.condition))
                    arrow = _ARROWS[edge.condition]
                    lines.append(f"    {names[parent]} {arrow} {names[record.id]}")
        return "\n".join(lines) + "\n"

    # Parts ----------------------------------------------------------------------------------------

    def _current_id(self, edge: Dependency) -> str:
        job_id = str(edge.job)
        while job_id not in self._by_id and job_id in self._current:
            job_id = self._current[job_id]
        return job_id

    def _status(self, record: JobRecord) -> str:
        return "skipped" if self.is_skipped(record) else public_status(record.state, record.why)

    def _find_skipped(self) -> set[str]:
        """Return the steps that were skipped, and those cancelled because of them."""
        found: set[str] = set()
        for record in self.records:
            reason = record.reason or ""
            if reason == SKIPPED or any(
                job_id in reason for job_id in record.dependencies if job_id in found
            ):
                found.add(record.id)
        return found

    def _bad_ends(self) -> list[JobRecord]:
        """Return the last steps that did not end well.

        A step is a last one unless another one goes on from it: takes how it ended as input, or
        follows its success.
        """
        return [
            record
            for record in self.records
            if record.state is not JobState.COMPLETE
            and not self.is_skipped(record)
            and not any(
                edge.condition is Condition.SUCCESS or edge.input
                for edge, child in self._children[record.id]
                if not self.is_skipped(child)
            )
        ]
