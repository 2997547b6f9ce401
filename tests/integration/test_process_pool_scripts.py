"""The process pool of a script: what its children import, and what is refused."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.process

SCRIPT = """
import os, sys, threading
from taskito import Queue
{extra}
queue = Queue(db_path="script.db", workers=2)

@queue.task()
def where():
    return os.getpid()

{tasks}

if __name__ == "__main__":
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    {main}
    queue.shutdown()
    thread.join(20)
    print("ended", thread.is_alive(), flush=True)
"""

RUN = """
def run():
    try:
        queue.run_worker(pool="process"{options})
    except Exception as error:
        print(f"{{type(error).__name__}}: {{error}}", flush=True)
"""


def run_script(processes, folder, *, extra="", tasks="", main="", options="", arguments=None):
    """Run a script that is its own application and return what it prints."""
    path = folder / "script.py"
    if "def run()" not in tasks:
        tasks += RUN.format(options=options)
    path.write_text(SCRIPT.format(extra=extra, tasks=tasks, main=main))
    command = [sys.executable, *(arguments or [path])]
    process = processes.start("script", command, cwd=folder, pipes=True)
    out, _ = process.popen.communicate(timeout=40)
    assert process.popen.returncode == 0, process.log()
    return out.decode().splitlines(), process


def test_a_coroutine_runs_a_worker_with_children(processes, tmp_path):
    lines, _ = run_script(
        processes,
        tmp_path,
        extra="import asyncio",
        tasks="async def both():\n"
        "    worker = asyncio.create_task(queue.arun_worker(pool='process', preload=True))\n"
        "    job = await where.adelay()\n"
        "    print(await job.aresult(timeout=20) != os.getpid())\n"
        "    queue.shutdown()\n"
        "    await worker\n"
        "def run(): pass\n",
        main="asyncio.run(both())",
    )
    assert lines == ["True", "ended False"]


@pytest.mark.parametrize("options", ["", ", preload=True"])
def test_a_script_is_imported_by_its_children(processes, tmp_path, options):
    lines, _ = run_script(
        processes,
        tmp_path,
        main="pid = where.delay().result(timeout=20); print(pid != os.getpid(), where.name)",
        options=options,
    )
    assert lines == ["True script.where", "ended False"]


def test_a_module_that_is_run_is_imported_by_its_children(processes, tmp_path):
    lines, _ = run_script(
        processes,
        tmp_path,
        main="pid = where.delay().result(timeout=20); print(pid != os.getpid(), where.name)",
        arguments=[
            "-c",
            (
                "import sys, runpy; sys.path.append('.'); "
                "runpy.run_module('script', run_name='__main__', alter_sys=True)"
            ),
        ],
    )
    assert lines == ["True script.where", "ended False"]


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (
            (
                "def make():\n    @queue.task()\n    def inner(): ...\n"
                "if __name__ == '__main__': make()\n"
            ),
            "it is defined inside a function (make.<locals>.inner)",
        ),
        (
            "if __name__ == '__main__': queue.task(name='unnamed')(lambda: 1)\n",
            "importing __main__ does not define it",
        ),
    ],
)
def test_tasks_that_children_cannot_find_are_refused_by_name(processes, tmp_path, tasks, told):
    lines, process = run_script(processes, tmp_path, tasks=tasks, main="thread.join(20)")
    assert lines[0].startswith("ConfigurationError: pool: a child process cannot find task '")
    assert told in lines[0]
    assert "worker" not in process.log()


def test_an_import_that_fails_in_a_child_is_shown(processes, tmp_path):
    lines, _ = run_script(
        processes,
        tmp_path,
        tasks="if __name__ != '__main__': raise RuntimeError('only in children')\n",
        main="thread.join(20)",
    )
    assert lines[0].startswith("WorkerError: a child process could not import the tasks")
    assert "RuntimeError: only in children" in "\n".join(lines)


def test_a_worker_at_the_top_of_a_module_does_not_start_in_a_child(processes, tmp_path):
    lines, _ = run_script(
        processes,
        tmp_path,
        tasks="if __name__ != '__main__': queue.run_worker()\n",
        main="thread.join(20)",
    )
    assert "start the worker under if __name__ == '__main__'" in "\n".join(lines)


def test_preloading_an_application_with_threads_is_refused(processes, tmp_path):
    lines, _ = run_script(
        processes,
        tmp_path,
        tasks="if __name__ != '__main__':\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        main="thread.join(20)",
        options=", preload=True",
    )
    assert lines[0].startswith("ConfigurationError: pool: with preload")


def test_of_two_queues_with_the_same_tasks_the_one_at_the_same_place_is_taken(processes, tmp_path):
    lines, _ = run_script(
        processes,
        tmp_path,
        extra="other = Queue(db_path='other.db')\nother.task(name='script.where')(lambda: 'other')",
        main="print(where.delay().result(timeout=20) != 'other')",
    )
    assert lines == ["True", "ended False"]


OBSERVED = """
import taskito.plugins
from taskito.plugins.manager import plugin_manager

class Plugin:
    @taskito.plugins.hookimpl
    def taskito_on_events(self, events):
        with open("events", "a") as file:
            for event in events:
                file.write(f"{type(event).__name__} {os.getpid()}\\n")

plugin_manager().add("observer", Plugin())
"""


def test_observers_see_each_attempt_once_and_in_the_worker(processes, tmp_path):
    lines, process = run_script(
        processes,
        tmp_path,
        extra=OBSERVED,
        tasks="@queue.task(max_retries=0, max_crashes=1)\ndef dies():\n    os._exit(3)\n"
        "@queue.task(max_retries=0, timeout=0.2)\ndef late():\n    threading.Event().wait()\n"
        "def wait(job):\n    try: job.result(timeout=20)\n    except Exception: pass\n",
        main="[wait(task.delay()) for task in (where, dies, late)]",
    )
    assert lines == ["ended False"]
    seen = [line.split() for line in (tmp_path / "events").read_text().splitlines()]
    assert {pid for _, pid in seen} == {str(process.pid)}
    ends = [name for name, _ in seen if name in {"JobFinished", "JobLost", "JobDead"}]
    assert sorted(ends) == ["JobDead", "JobFinished", "JobLost"]
    assert [name for name, _ in seen].count("JobStarted") == 3


def test_signed_payloads_of_replayed_jobs_are_read_without_opening_the_store(processes, tmp_path):
    lines, _ = run_script(
        processes,
        tmp_path,
        extra="from taskito.serializers import KeyRing, MsgpackSerializer, SignedSerializer\n"
        "keys = KeyRing({'one': bytes(32)})\n",
        tasks="signed = Queue(db_path='script.db', namespace='signed', workers=1,"
        " serializer=SignedSerializer(MsgpackSerializer(), keys))\n"
        "@signed.task()\ndef opened(n):\n"
        "    return [n, any('script.db' in os.readlink(f'/proc/self/fd/{fd}')\n"
        "            for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')"
        ")]\n"
        "def run_signed():\n    signed.run_worker(pool='process')\n",
        main="second = threading.Thread(target=run_signed); second.start(); "
        "job = opened.delay(5); print(job.result(timeout=20)); "
        "print(signed.get_job(signed.replay(job.id)).result(timeout=20)); "
        "signed.shutdown(); second.join(20)",
    )
    assert lines == ["[5, False]", "[5, False]", "ended False"]
