"""Log records of children, which the worker's process handles with its own settings.

So they look the same whatever the pool, one process writes a file, and the last words of a child
that dies arrive.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from taskito.worker.processes import messages
from taskito.worker.processes.messages import ChildPipe

__all__ = ["forward", "handle", "level"]

_PLAIN = (str, int, float, bool, type(None))


class _Forwarder(logging.Handler):
    """Sends each record to the worker."""

    def __init__(self, pipe: ChildPipe) -> None:
        super().__init__()
        self._pipe = pipe
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record as plain data: the message with its arguments, the traceback as text."""
        try:
            fields = {
                name: value
                for name, value in vars(record).items()
                if isinstance(value, _PLAIN) and name not in {"msg", "message"}
            }
            fields["msg"] = record.getMessage()
            if record.exc_info and not record.exc_text:
                fields["exc_text"] = self._formatter.formatException(record.exc_info)
            self._pipe.send([messages.RECORD, fields])
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)


def level() -> int:
    """Return from which level on the worker's process wants to see records."""
    return logging.getLogger().level


def forward(pipe: ChildPipe, threshold: int) -> None:
    """Send what is logged in this process to the worker, unless the application handles it here."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_Forwarder(pipe))
        root.setLevel(threshold)


def handle(fields: Mapping[str, Any]) -> None:
    """Handle a record of a child as if it had been made here."""
    record = logging.makeLogRecord({**fields, "args": None, "exc_info": None})
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
