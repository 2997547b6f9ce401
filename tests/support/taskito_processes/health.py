"""What a worker or a supervisor answers to questions about its health."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from taskito_processes.processes import Process, wait_until

__all__ = ["ask_health", "wait_for_health"]

_PLACE = r"health checks are answered on 127\.0\.0\.1 port (\d+)"


def ask_health(process: Process, what: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the body for ``/health/<what>``; the process was told a free port."""
    port = int(process.wait_for_log(_PLACE)[1])
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/{what}", timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_for_health(process: Process, what: str, status: int) -> dict[str, Any]:
    """Wait until the answer has this status, and return its body."""
    found: tuple[int, dict[str, Any]] = (0, {})

    def look() -> bool:
        nonlocal found
        found = ask_health(process, what)
        return found[0] == status

    wait_until(look, 30, lambda: f"{status} of {what}: {found}")
    return found[1]
