"""Real processes for tests: applications on disk, workers, producers, and the evidence they leave.

Nothing here opens a queue's database in the process of the tests: every look inside is taken by
another process. What happened is known from files that the task bodies append to, not from taskito.
"""

from __future__ import annotations

from taskito_processes.application import Application
from taskito_processes.console import Console, RemoteError
from taskito_processes.evidence import Event, Evidence
from taskito_processes.processes import Process, Processes, wait_until
from taskito_processes.report import report

__all__ = [
    "Application",
    "Console",
    "Event",
    "Evidence",
    "Process",
    "Processes",
    "RemoteError",
    "report",
    "wait_until",
]
