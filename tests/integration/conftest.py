"""The fixtures of the tests with real processes, from ``tests/support``."""

from __future__ import annotations

import sys
from pathlib import Path

# At the end: nothing there can shadow an installed module.
_SUPPORT = str(Path(__file__).resolve().parents[1] / "support")
if _SUPPORT not in sys.path:
    sys.path.append(_SUPPORT)

from taskito_processes.fixtures import application, processes, thorough  # noqa: E402

__all__ = ["application", "processes", "thorough"]
