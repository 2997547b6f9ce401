from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest

from taskito import Queue
from taskito.logs import JobFilter, JsonFormatter, TextFormatter


@pytest.fixture
def logged():
    """Log into a list, formatted by what a test chooses."""
    logger = logging.getLogger("tests.logs")
    handlers = []

    def logged(formatter):
        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(handler.format(record))
        handler.setFormatter(formatter)
        handler.addFilter(JobFilter())
        handlers.append(handler)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        return logger, lines

    yield logged
    for handler in handlers:
        logger.removeHandler(handler)
    logger.propagate = True


def in_task(function):
    """Run a function as a task and return the id of the job."""
    with Queue(backend="memory://") as queue, queue.test_mode():
        return queue.task(name="shop.pay")(function).delay().id


def test_json_has_the_fields_of_the_record(logged) -> None:
    logger, lines = logged(JsonFormatter())
    before = datetime.now(UTC)
    logger.warning("paid %d", 3, extra={"customer": 7, "level": "mine", "where": {1}})
    line = json.loads(lines[0])
    assert 0 <= (datetime.fromisoformat(line["time"]) - before).total_seconds() + 0.001 < 10
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["logger"], line["message"]) == ("warning", "tests.logs", "paid 3")
    assert (line["customer"], line["where"]) == (7, "{1}")
    assert isinstance(line["process"], int)
    assert not {"worker", "job_id", "task", "exception"} & set(line)


def test_json_is_one_line_whatever_is_logged(logged) -> None:
    class Unspeakable:
        def __str__(self):
            raise RuntimeError("no")

    logger, lines = logged(JsonFormatter())
    try:
        [].index("two\nlines")
    except ValueError:
        logger.exception("a\nb", extra={"odd": Unspeakable()}, stack_info=True)
    assert "\n" not in lines[0]
    line = json.loads(lines[0])
    assert line["message"] == "a\nb"
    assert line["exception"].endswith("ValueError: 'two\\nlines' is not in list")
    assert line["stack"].startswith("Stack")
    assert "Unspeakable" in line["odd"]


def test_json_names_job_and_worker(logged) -> None:
    formatter = JsonFormatter()
    formatter.worker = "abc"
    logger, lines = logged(formatter)
    job_id = in_task(lambda: logger.info("in it", extra={"task": "not this"}))
    logger.info("outside", extra={"task": "mine", "attempt": 5})
    inside, outside = map(json.loads, lines)
    assert (inside["job_id"], inside["task"], inside["attempt"]) == (job_id, "shop.pay", 0)
    assert (outside["task"], outside["attempt"], outside["worker"]) == ("mine", 5, "abc")
    assert "job_id" not in outside


def test_text_names_the_job_and_the_process_if_asked(logged) -> None:
    logger, lines = logged(TextFormatter(with_process=True))
    job_id = in_task(lambda: logger.info("in it"))
    logger.info("outside")
    assert lines[0].endswith(f"INFO tests.logs: in it [shop.pay {job_id}]")
    assert lines[1].endswith("] INFO tests.logs: outside")


def test_the_filter_serves_any_formatter(logged) -> None:
    logger, lines = logged(logging.Formatter("%(job_task)s %(job_attempt)s %(message)s"))
    in_task(lambda: logger.info("in it"))
    logger.info("outside")
    assert lines == ["shop.pay 0 in it", "None None outside"]


def test_a_record_keeps_the_job_that_it_was_logged_in(logged) -> None:
    found = []
    handler = logging.Handler()
    handler.addFilter(JobFilter())
    handler.emit = found.append
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    try:
        job_id = in_task(lambda: logger.warning("in it"))
    finally:
        logger.removeHandler(handler)
    # As a listener of a QueueHandler would do it, elsewhere and later.
    assert json.loads(JsonFormatter().format(found[0]))["job_id"] == job_id
