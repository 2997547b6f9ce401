"""Log lines that say which job they belong to, as text or as JSON.

The command ``taskito worker`` uses these by itself. An application that sets up logging on its own
gives them to its handlers.

Example:
    >>> import logging
    >>> from taskito.logs import JobFilter, JsonFormatter
    >>> handler = logging.StreamHandler()
    >>> handler.setFormatter(JsonFormatter())
    >>> handler.addFilter(JobFilter())
    >>> logging.basicConfig(handlers=[handler], level="INFO")
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from taskito import context

__all__ = ["JobFilter", "JsonFormatter", "TextFormatter"]

# The attributes of a record, and the names of their fields.
_JOB_FIELDS = {"job_id": "job_id", "job_task": "task", "job_attempt": "attempt"}
# What every record has; anything else was given with ``extra=``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}


class JobFilter(logging.Filter):
    """Lets every record pass, and notes the job on those that were logged inside a task.

    A record gets the attributes ``job_id``, ``job_task`` and ``job_attempt`` (from 0), which any
    formatter can use: ``%(job_id)s``. Outside a task they are None. Give it to handlers rather than
    loggers: a logger's filters do not see what its children log.

    The job is found where the line is logged, so it is right also for handlers that write from
    another thread (``logging.handlers.QueueHandler``), as long as the filter is on the first one.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the job; always True."""
        _bind(record)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line.

    Its fields are ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message`` and ``process``;
    ``worker`` where one runs; ``job_id``, ``task`` and ``attempt`` inside a task; ``exception`` and
    ``stack`` as text; and whatever was given with ``extra=``, unless the name is taken. What JSON
    does not know becomes text.

    Attributes:
        worker: The id of the worker of this process, if it has one.
    """

    worker: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        _bind(record)
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if self.worker is not None:
            fields["worker"] = self.worker
        for attribute, name in _JOB_FIELDS.items():
            value = getattr(record, attribute)
            if value is not None:
                fields[name] = value
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in _JOB_FIELDS:
                fields.setdefault(name, value)
        return json.dumps(fields, default=_as_text, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Lines for people: time, level, logger, message, and inside a task its name and the job.

    Args:
        with_process: Whether the number of the process is shown, for where several write.
    """

    def __init__(self, *, with_process: bool = False) -> None:
        process = "[%(process)d] " if with_process else ""
        super().__init__(f"%(asctime)s {process}%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of logging
        """Return the line, without exception and stack, which follow it."""
        _bind(record)
        line = super().formatMessage(record)
        job_id = getattr(record, "job_id", None)
        if job_id is None:
            return line
        return f"{line} [{getattr(record, 'job_task', '')} {job_id}]"


def _bind(record: logging.LogRecord) -> None:
    """Note the job of the calling code on a record, unless it was noted before."""
    if hasattr(record, "job_id"):
        return
    job = context.present()
    record.job_id = None if job is None else job.id
    record.job_task = None if job is None else job.task_name
    record.job_attempt = None if job is None else job.retry_count


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not lose the line
        return f"<{type(value).__name__}: {error!r}>"
