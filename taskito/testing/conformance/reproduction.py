"""How a failure is played again: a command that does so is shown below it."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest

from taskito.testing.conformance.profiles import VARIABLE as PROFILE
from taskito.testing.conformance.profiles import current_profile

__all__ = ["VARIABLE", "command_for", "play_again"]

VARIABLE = "TASKITO_CONFORMANCE_REPRODUCE"
"""The environment variable that names the one example to play: a version of Hypothesis, a colon,
and what that version printed."""

_PRINTED = re.compile(r"@reproduce_failure\('([\w.]+)', (b'[^']*'|b\"[^\"]*\")\)")


def play_again(test: Callable[..., Any] | type) -> None:
    """Let a property or a state machine play only the example that the environment names."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    version, _, blob = wanted.partition(":")
    hypothesis.reproduce_failure(version, blob.encode())(test)


def command_for(report: pytest.TestReport) -> str:
    """Return the command that plays a failed check again, from the folder of this run."""
    words = [f"{PROFILE}={current_profile().name}"]
    if printed := _PRINTED.search(report.longreprtext):
        version, blob = printed[1], ast.literal_eval(printed[2]).decode()
        words.append(f"{VARIABLE}={shlex.quote(f'{version}:{blob}')}")
    return " ".join([*words, "pytest", shlex.quote(report.nodeid)])
