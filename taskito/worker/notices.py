"""What a worker logs about what its dispatcher tells it; each line says what to do about it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskito import _core

__all__ = ["log_notice"]

_logger = logging.getLogger("taskito.worker")

_LEVELS = {
    "stale": logging.WARNING,
    "lost": logging.WARNING,
    "timeout": logging.ERROR,
    "unknown_task": logging.WARNING,
    "undeclared_schedule": logging.WARNING,
    "storage": logging.ERROR,
}

_ADVICE = {
    "stale": "If this happens often, raise timeout= of the task",
    "lost": "The job runs again elsewhere; what this attempt returns is refused. This worker was "
    "stopped or starved for longer than its lease: give the machine more room",
    "timeout": "A function cannot be stopped from outside and may run on beside its own retry; a "
    "coroutine is cancelled. Raise timeout= of the task, or call current_job.check_timeout() in it",
    "storage": "This is tried again; finished work is kept until it is stored. Check that the disk "
    "has room and that no other program holds the database locked",
}


_ADVICE_KILLED = {**_ADVICE, "timeout": "Raise timeout= of the task if it needs more time"}


def log_notice(notice: _core.Notice, *, quiet: bool = False, killed: bool = False) -> None:
    """Log a notice with its advice.

    Args:
        notice: What the dispatcher says.
        quiet: The interpreter is ending: log for debugging only.
        killed: An attempt that is over is killed, so nothing of it goes on.
    """
    level = logging.DEBUG if quiet else _LEVELS.get(notice.kind, logging.INFO)
    advice = (_ADVICE_KILLED if killed else _ADVICE).get(notice.kind)
    _logger.log(level, "%s", f"{notice.message}. {advice}" if advice else notice.message)
