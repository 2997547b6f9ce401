from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from taskito.supervisor.health import STUCK_AFTER, Health, HealthServer, WorkerHealth, health_of


def worker(phase="ready", silent=0.0, process=7):
    return WorkerHealth(
        process=process, worker="abc", phase=phase, reason="so it is", silent=silent
    )


def test_a_silent_worker_is_neither_live_nor_ready() -> None:
    assert (worker().live, worker().ready) == (True, True)
    silent = worker(silent=STUCK_AFTER)
    assert (silent.live, silent.ready) == (False, False)


@pytest.mark.parametrize("phase", ["loading", "starting", "storage failing", "draining", "ended"])
def test_a_worker_that_does_not_claim_is_live_but_not_ready(phase) -> None:
    found = health_of([worker(), worker(phase, process=8)])
    assert (found.live, found.ready) == (True, False)
    assert found.reason == f"worker process 8: {phase}: so it is"


def test_each_worker_counts() -> None:
    found = health_of([worker(), worker(silent=STUCK_AFTER + 1, process=8)])
    assert (found.live, found.ready) == (False, False)
    assert "worker process 8 gave no sign of life for 31 s" in found.reason
    assert health_of([worker(), worker()]).ready
    assert not health_of([]).ready
    assert health_of([worker("ended", process=None)]).reason == "a worker: ended: so it is"


@pytest.fixture
def asked():
    """Start a server for some health and ask it."""
    servers = []

    def asked(health, path, method="GET"):
        server = HealthServer("127.0.0.1", 0, lambda: health)
        servers.append(server.__enter__())
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    yield asked
    for server in servers:
        server.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("live", "ready", "path", "status"),
    [
        (True, True, "/health/live", 200),
        (True, True, "/health/ready?verbose", 200),
        (True, False, "/health/live", 200),
        (True, False, "/health/ready", 503),
        (False, False, "/health/live", 503),
    ],
)
def test_answers_have_a_status_and_a_reason(asked, live, ready, path, status) -> None:
    code, body = asked(Health(live, ready, "so it is", (worker(),)), path)
    answer = json.loads(body)
    assert code == status
    assert answer["status"] == ("ok" if status == 200 else "unavailable")
    assert (answer["live"], answer["ready"], answer["reason"]) == (live, ready, "so it is")
    assert answer["workers"] == [
        {
            "process": 7,
            "worker": "abc",
            "phase": "ready",
            "reason": "so it is",
            "silent": 0.0,
            "live": True,
            "ready": True,
        }
    ]


def test_other_paths_and_methods(asked) -> None:
    well = Health(live=True, ready=True, reason="")
    code, body = asked(well, "/")
    assert code == 404
    assert "/health/live" in json.loads(body)["reason"]
    assert asked(well, "/health/live", "HEAD") == (200, b"")
    assert asked(well, "/health/live", "POST")[0] == 501


def test_an_ipv6_address_can_be_listened_on() -> None:
    # Mapped IPv4 works on machines without an IPv6 address, too.
    well = Health(live=True, ready=True, reason="")
    with (
        HealthServer("::ffff:127.0.0.1", 0, lambda: well) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health/live") as answer,
    ):
        assert answer.status == 200
