"""A suite of tests that takes longer than its budget fails, and one that fails says so itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

WITHIN = Path(__file__).resolve().parents[2] / ".ci" / "within"


@pytest.mark.parametrize(
    ("seconds", "scale", "command", "status", "said"),
    [
        ("60", "1", "exit 0", 0, "of 60 s"),
        ("60", "1", "exit 3", 3, ""),
        ("0", "1", "sleep 1.1", 1, "its budget is 0 s"),
        ("1", "60", "sleep 1.1", 0, "of 60 s"),
    ],
)
def test_a_suite_has_to_end_within_its_budget(seconds, scale, command, status, said):
    done = subprocess.run(
        [str(WITHIN), "the suite", seconds, "bash", "-c", command],
        env={**os.environ, "BUDGET_SCALE": scale},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == status
    assert said in done.stdout + done.stderr
