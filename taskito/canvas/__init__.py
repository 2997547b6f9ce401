"""Signatures, and workflows put together from them: chains, groups, chords.

A workflow is data. ``apply()`` stores all of its steps in one atom and returns; any worker carries
it on, whoever lives or dies meanwhile.
"""

from __future__ import annotations

from taskito.canvas.compose import (
    Chain,
    Chord,
    Group,
    chain,
    chord,
    chunks,
    from_data,
    group,
    starmap,
)
from taskito.canvas.shape import StepOutcome
from taskito.canvas.signature import Canvas, Signature

__all__ = [
    "Canvas",
    "Chain",
    "Chord",
    "Group",
    "Signature",
    "StepOutcome",
    "chain",
    "chord",
    "chunks",
    "from_data",
    "group",
    "starmap",
]
