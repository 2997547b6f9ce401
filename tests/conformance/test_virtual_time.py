"""A store on a virtual clock does what that clock says, however the machine is doing."""

from __future__ import annotations

import subprocess
import sys

from taskito.backends import BackendOptions, params
from taskito.backends.sqlite import SqliteBackend
from taskito.testing.clock import VirtualClock

LEASE = 5_000
HOLDER = """
import sqlite3, sys, threading
connection = sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)
connection.execute("PRAGMA wal_autocheckpoint = 0")
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
threading.Timer(0.5, connection.execute, ["ROLLBACK"]).start()
"""


def test_a_lease_ends_in_virtual_time_although_the_lock_was_away_in_real_time(tmp_path):
    path = tmp_path / "tasks.db"
    clock = VirtualClock(1_800_000_000_000)
    registration = params.WorkerRegistration(
        id="0" * 32, pid=1, host="here", queues=None, tasks=("add",), lease_ms=LEASE, concurrency=1
    )
    with SqliteBackend(str(path), BackendOptions(clock=clock)) as backend:
        backend.register(registration)
        [job] = backend.enqueue([params.NewJob(task="add")])
        assert backend.exchange(params.ExchangeRequest(worker=registration.id, want=1)).jobs

        with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE) as held:
            assert held.stdout.readline() == b"held\n"
            # Waits for the lock, for longer than what counts as an outage.
            backend.enqueue([params.NewJob(task="add", queue="other")])

        clock.advance(LEASE)
        assert backend.maintain(10).rescued == 1
        [record] = backend.get([job.id])
        assert record.state is params.JobState.READY
