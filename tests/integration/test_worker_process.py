"""Workers in processes of their own: how they end, and what a task can do to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from taskito import MaxRetriesExceededError, Queue, TaskCancelledError, TaskFailedError

pytestmark = pytest.mark.process

COMMAND = "from taskito.cli import main; main(prog_name='taskito')"

SAMPLE = """
import signal, sys, threading, time
from taskito import Queue, current_job

queue = Queue(db_path="tasks.db", workers=2, default_retry=0, namespace="test")
together = threading.Barrier(2, timeout=20)

def announce():
    print("started", flush=True)

@queue.task()
def add(a, b):
    return a + b

@queue.task()
def sleep(seconds):
    announce()
    time.sleep(seconds)
    return "slept"

@queue.task()
def leave(how):
    if how == "exit":
        sys.exit(3)
    raise KeyboardInterrupt

@queue.task()
def unserialisable():
    announce()
    return object()

@queue.task()
def too_slow():
    announce()
    time.sleep(60)

@queue.task()
def meet():
    together.wait()
    return current_job.id

@queue.task()
def until_cancelled():
    for percent in range(1_000_000):
        current_job.check_cancelled()
        current_job.update_progress(percent % 100)
        time.sleep(0.001)

@queue.task()
async def progress():
    for percent in range(78):
        current_job.update_progress(percent)
    current_job.log("nearly there", level="warning")
    return current_job.retry_count
"""


class Sample:
    """An application in a folder: a queue in this process and its workers in others."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "sample_app.py").write_text(SAMPLE)
        self.queue = Queue(db_path=folder / "tasks.db", default_retry=0, namespace="test")
        self.workers = []

    def enqueue(self, name, *args, **options):
        if f"sample_app.{name}" not in self.queue.tasks:
            self.queue.remote_task(f"sample_app.{name}")
        return self.queue.enqueue(f"sample_app.{name}", args, **options)

    def worker(self, *options):
        worker = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "worker", "--app", "sample_app:queue", *options],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.workers.append(worker)
        return worker

    def run(self, program):
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )

    def close(self):
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.communicate()
        self.queue.close()


@pytest.fixture
def sample(tmp_path):
    sample = Sample(tmp_path)
    yield sample
    sample.close()


def started(worker):
    assert worker.stdout.readline() == "started\n"


def ended(worker, *numbers):
    for number in numbers:
        worker.send_signal(number)
    _, errors = worker.communicate(timeout=30)
    return worker.returncode, errors


# How it ends --------------------------------------------------------------------------------------


def test_banner_names_what_is_served(sample) -> None:
    running = sample.enqueue("sleep", 0)
    worker = sample.worker("--queues", "default,mail", "--concurrency", "3")
    started(worker)
    _, errors = ended(worker, signal.SIGTERM)
    assert "tasks.db" in errors
    assert "default, mail" in errors
    assert "sample_app.add" in errors
    assert running.result(timeout=0) == "slept"


def test_interpreter_ends_beside_a_busy_daemon_worker(sample) -> None:
    done = sample.run(
        """
        import threading, time
        from taskito import Queue
        queue = Queue(db_path="busy.db")
        running = threading.Event()

        @queue.task(name="busy")
        def busy():
            running.set()
            time.sleep(60)

        job = busy.delay()
        threading.Thread(target=queue.run_worker, daemon=True).start()
        assert running.wait(20)
        print(job.id)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Queue(db_path=sample.folder / "busy.db") as queue:
        job = queue.get_job(done.stdout.strip())
        assert (job.status, job.to_dict()["retry_count"]) == ("pending", 0)


def test_signal_handlers_are_put_back(sample) -> None:
    done = sample.run(
        """
        import signal, threading, time
        from sample_app import queue

        def handler(*args): ...

        def shut_down():
            while not queue.workers():
                time.sleep(0.01)
            queue.shutdown()

        signal.signal(signal.SIGTERM, handler)
        threading.Thread(target=shut_down).start()
        queue.run_worker()
        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


# What tasks can do to it --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "interrupt"])
def test_task_that_ends_the_program_ends_its_own_job_only(sample, how) -> None:
    leaving = sample.enqueue("leave", how)
    sample.worker()
    with pytest.raises(TaskFailedError, match=r"SystemExit|KeyboardInterrupt"):
        leaving.result(timeout=20)
    assert sample.enqueue("add", 2, 3).result(timeout=20) == 5


def test_result_that_cannot_be_encoded_ends_the_job_after_one_run(sample) -> None:
    job = sample.enqueue("unserialisable", max_retries=5)
    worker = sample.worker()
    with pytest.raises(TaskFailedError, match="SerializationError") as caught:
        job.result(timeout=20)
    assert not isinstance(caught.value, MaxRetriesExceededError)
    ended(worker, signal.SIGTERM)
    assert [error["kind"] for error in job.errors] == ["rejected"]


def test_thread_of_a_task_that_ignores_its_timeout_is_replaced(sample) -> None:
    slow = sample.enqueue("too_slow", timeout=0.2)
    worker = sample.worker()
    started(worker)
    with pytest.raises(MaxRetriesExceededError, match="200 ms"):
        slow.result(timeout=20)
    # Two more at a time are possible only with a new thread.
    jobs = [sample.enqueue("meet") for _ in range(2)]
    assert [job.result(timeout=20) for job in jobs] == [job.id for job in jobs]
    status, errors = ended(worker, signal.SIGTERM)
    assert status == 0
    assert "current_job.check_timeout()" in errors


def test_worker_whose_threads_are_all_lost_says_so_and_ends(sample) -> None:
    for _ in range(2):
        sample.enqueue("too_slow", timeout=0.2)
    worker = sample.worker("--drain-timeout", "1")
    status, errors = ended(worker)
    assert status == 1
    assert "sample_app.too_slow" in errors.splitlines()[-1]


def test_cancelled_task_stops_and_its_progress_was_seen(sample) -> None:
    job = sample.enqueue("until_cancelled")
    sample.worker()
    deadline = time.monotonic() + 20
    while not job.progress:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sample.queue.cancel_running_job(job.id)
    with pytest.raises(TaskCancelledError, match="cancelled"):
        job.result(timeout=20)


def test_last_progress_and_log_lines_are_kept(sample) -> None:
    job = sample.enqueue("progress")
    sample.worker()
    assert job.result(timeout=20) == 0
    assert job.progress == 77
    [line] = sample.queue.backend.logs(job.id)
    assert (line.level, line.message) == ("warning", "nearly there")


# In a thread of this process ----------------------------------------------------------------------


def test_worker_runs_in_any_thread_until_shutdown(tmp_path) -> None:
    with Queue(db_path=tmp_path / "tasks.db", workers=2) as queue:

        @queue.task(name="double")
        def double(number):
            return number * 2

        before = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=queue.run_worker)
        thread.start()
        assert [job.result(timeout=20) for job in double.map([(n,) for n in range(20)])] == [
            n * 2 for n in range(20)
        ]
        assert signal.getsignal(signal.SIGTERM) is before
        queue.shutdown()
        thread.join(20)
        assert not thread.is_alive()


def test_retries_follow_the_policy_of_the_task(tmp_path) -> None:
    with Queue(db_path=tmp_path / "tasks.db", workers=1) as queue:
        attempts = []

        @queue.task(name="flaky", max_retries=5, retry_delays=[0, 0.01], retry_jitter=False)
        def flaky():
            attempts.append(time.monotonic())
            if len(attempts) < 4:
                raise ConnectionError("not yet")
            return len(attempts)

        threading.Thread(target=queue.run_worker, daemon=True).start()
        assert flaky.delay().result(timeout=20) == 4
