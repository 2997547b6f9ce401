"""An application of taskito on disk: a module with a queue and tasks, and those who run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskito_processes.console import PROGRAM, Console
from taskito_processes.evidence import Evidence
from taskito_processes.processes import Process, Processes, child_environment, wait_until

__all__ = ["TASKITO", "Application"]

TASKITO = Path(sys.executable).with_name("taskito")
"""The command of the installed package."""

# Every application begins with this. What is noted survives any death of the process: one write to
# a file opened for appending per line.
_HEADER = """
import ctypes, os, signal, sys, threading, time
from taskito import Queue, Retry, current_job
from taskito.context import _current

FOLDER = {folder!r}
DATABASE = {database!r}

def _open(name):
    return os.open(os.path.join(FOLDER, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

_evidence = _open("evidence")
_acknowledged = _open("acknowledged")

def note(event, key):
    job = _current.get(None)
    token = 0 if job is None else job._run.token
    line = f"{{event}} {{key}} {{os.getpid()}} {{time.monotonic_ns()}} {{token}}\\n"
    os.write(_evidence, line.encode())

def acknowledge(*ids):
    os.write(_acknowledged, "".join(f"{{id}}\\n" for id in ids).encode())

def exists(name):
    return os.path.exists(os.path.join(FOLDER, name))

def create(name):
    os.close(_open(name))

def wait_for_file(name, timeout=120):
    deadline = time.monotonic() + timeout
    while not exists(name):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the file {{name}} has not appeared")
        time.sleep(0.005)

def is_first(key):
    # True for exactly one caller, whatever dies.
    try:
        os.close(os.open(os.path.join(FOLDER, f"first-{{key}}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

queue = Queue({arguments})
"""


class Application:
    """A module ``tasks`` with a ``queue``, in a folder of its own.

    Its code finds ``note(event, key)``, ``acknowledge(*ids)``, ``create(name)``,
    ``wait_for_file(name)``, ``exists(name)``, ``is_first(key)`` and ``queue``.

    Args:
        processes: Starts its processes.
        folder: Made if it does not exist.
        source: The tasks.
        database: Where the file is; ``tasks.db`` in the folder by default.
        module: The name of the module.
        options: Of the queue.
    """

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        source: str,
        *,
        database: Path | None = None,
        module: str = "tasks",
        **options: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.processes = processes
        self.folder = folder
        self.module = module
        self.database = folder / "tasks.db" if database is None else database
        self.evidence = Evidence(folder / "evidence")
        self._inspector: Console | None = None
        arguments = {"db_path": str(self.database), **options}
        header = _HEADER.format(
            folder=str(folder),
            database=str(self.database),
            arguments=", ".join(f"{name}={value!r}" for name, value in arguments.items()),
        )
        (folder / f"{module}.py").write_text(header + textwrap.dedent(source))

    # Processes ------------------------------------------------------------------------------------

    def worker(
        self,
        *options: str,
        name: str = "worker",
        concurrency: int | None = 1,
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
    ) -> Process:
        """Start ``taskito worker`` and wait until it claims jobs."""
        command = [TASKITO, "worker", *self._app(), *options]
        if concurrency is not None:
            command += ["--concurrency", str(concurrency)]
        process = self.processes.start(name, command, cwd=self.folder, environment=environment)
        if ready:
            process.wait_for_log(r"taskito\.worker: worker \w+ started")
        return process

    def console(
        self,
        name: str = "console",
        *,
        environment: Mapping[str, str] | None = None,
        obeys_permissions: bool = False,
    ) -> Console:
        """Start a process that has imported the module and does what it is told."""
        process = self.processes.start(
            name,
            [sys.executable, "-c", PROGRAM, self.module],
            cwd=self.folder,
            environment={"PYTHONPATH": str(self.folder), **(environment or {})},
            pipes=True,
            obeys_permissions=obeys_permissions,
        )
        return Console(process)

    def stranger(self, name: str = "stranger") -> Console:
        """Start such a process without taskito, to disturb the others."""
        command = [sys.executable, "-c", PROGRAM]
        return Console(self.processes.start(name, command, cwd=self.folder, pipes=True))

    def script(self, source: str, *, name: str = "script") -> Process:
        """Start a process that runs ``source``, to which the module's names are known."""
        code = f"from {self.module} import *\n" + textwrap.dedent(source)
        return self.processes.start(
            name,
            [sys.executable, "-c", code],
            cwd=self.folder,
            environment={"PYTHONPATH": str(self.folder)},
        )

    def cli(self, *arguments: str, status: int = 0) -> Any:
        """Run a command of ``taskito`` with ``--json`` and return what it says."""
        words = [*arguments, *self._app(), "--json"]
        done = subprocess.run(
            [str(TASKITO), *words],
            cwd=self.folder,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"taskito {words}: {done.returncode}\n{done.stderr}"
        return json.loads(done.stdout)

    # Ground truth ---------------------------------------------------------------------------------

    def acknowledged(self) -> list[str]:
        """Return the ids that producers wrote down after the enqueue had returned."""
        path = self.folder / "acknowledged"
        # The last line may have been cut off by a kill only if the write itself was.
        return path.read_text().split() if path.exists() else []

    def create(self, name: str) -> None:
        """Create a file that a task waits for."""
        (self.folder / name).touch()

    # Looks at the store, by another process -------------------------------------------------------

    def ask(self, code: str, *, timeout: float = 30.0, **values: Any) -> Any:
        """Evaluate an expression in a process that is there for looking only."""
        if self._inspector is None:
            self._inspector = self.console("inspector")
        return self._inspector.ask(code, timeout=timeout, **values)

    def stats(self) -> dict[str, int]:
        """Return ``queue.stats()``."""
        found: dict[str, int] = self.ask("queue.stats()")
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        """Return everything about one job, with ``errors`` and ``interruptions``."""
        found: dict[str, Any] = self.ask(
            "dict(queue.get_job(id).to_dict(), errors=queue.get_job(id).errors,"
            " interruptions=[entry for entry in queue.job_errors(id, interruptions=True)"
            " if entry['kind'] == 'interrupted'],"
            " waiting_on=queue.get_job(id).waiting_on)",
            id=job_id,
        )
        return found

    def result(self, job_id: str) -> Any:
        """Return the result of a job that is complete."""
        return self.ask("queue.get_job(id).result(timeout=0)", id=job_id)

    def missing(self, ids: list[str]) -> list[str]:
        """Return those of ``ids`` that the store does not know."""
        lost: list[str] = []
        for first in range(0, len(ids), 2_000):
            part = ids[first : first + 2_000]
            code = "[id for id, job in zip(ids, queue.backend.get(ids)) if job is None]"
            lost += self.ask(code, ids=part)
        return lost

    def wait_for_status(self, job_id: str, status: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until a job has a status and return everything about it."""
        wait_until(
            lambda: self.ask("queue.get_job(id).status", id=job_id) == status,
            timeout,
            lambda: f"{status}; it is {self.job(job_id)}",
        )
        return self.job(job_id)

    def wait_for_stats(self, timeout: float = 30.0, **wanted: int) -> dict[str, int]:
        """Wait until ``queue.stats()`` has these numbers."""

        def look() -> bool:
            stats = self.stats()
            return all(stats[name] == number for name, number in wanted.items())

        wait_until(look, timeout, lambda: f"{wanted}; there are {self.stats()}", step=0.03)
        return self.stats()

    def _app(self) -> list[str]:
        return ["--app", f"{self.module}:queue", "--app-dir", os.fspath(self.folder)]
