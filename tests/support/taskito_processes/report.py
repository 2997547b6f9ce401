"""Numbers for whoever reads the output of a test; pytest shows them with ``-rA``."""

from __future__ import annotations

import sys

__all__ = ["report"]


def report(line: str) -> None:
    """Write one line to the output of the test."""
    sys.stdout.write(f"{line}\n")
