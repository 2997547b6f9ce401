"""``TASKITO_TRACE_PLUGINS``: each step of loading and each call of a hook, on standard error."""

from __future__ import annotations

import os
import reprlib
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["TRACE_VARIABLE", "trace", "traced", "tracing"]

TRACE_VARIABLE = "TASKITO_TRACE_PLUGINS"
"""Set to anything but the empty text and 0, it turns tracing on."""

_REPR = reprlib.Repr()
_REPR.maxother = _REPR.maxstring = 200


def tracing() -> bool:
    """Return whether plugins are to be traced."""
    return os.environ.get(TRACE_VARIABLE, "") not in {"", "0"}


def trace(message: str) -> None:
    """Write one line, if tracing is on."""
    if tracing():
        print(f"taskito plugins: {message}", file=sys.stderr, flush=True)  # noqa: T201


def traced(title: str, hook: str, call: Callable[[], Any]) -> Any:
    """Call a hook; if tracing is on, say of whom, how long it took and what it returned."""
    if not tracing():
        return call()
    start = time.perf_counter()
    try:
        result = call()
    except BaseException as error:
        trace(f"{hook} of {title} raised {type(error).__name__} after {_since(start)}")
        raise
    trace(f"{hook} of {title} returned {_REPR.repr(result)} after {_since(start)}")
    return result


def _since(start: float) -> str:
    return f"{(time.perf_counter() - start) * 1000:.1f} ms"
