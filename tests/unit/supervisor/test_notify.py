from __future__ import annotations

import os
import socket
import time

import pytest

from taskito.supervisor.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def init(request, tmp_path):
    """The socket of an init system, and the address that it gives to services."""
    if request.param == "path":
        address = bound = str(tmp_path / "notify")
    else:
        address, bound = f"@taskito-{os.getpid()}", f"\0taskito-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(bound)
        listener.settimeout(10)
        yield address, lambda: listener.recv(4_096).decode()


def test_messages_are_lines_of_assignments(init) -> None:
    address, receive = init
    notifier = Notifier(address)
    notifier.ready("2 of 2 workers")
    assert receive() == "READY=1\nSTATUS=2 of 2 workers"
    notifier.status("two\nlines")
    assert receive() == "STATUS=two lines"
    notifier.alive()
    assert receive() == "WATCHDOG=1"
    notifier.stopping("soon")
    assert receive() == "STOPPING=1\nSTATUS=soon"


def test_a_reload_says_when_it_began(init) -> None:
    address, receive = init
    before = time.monotonic_ns() // 1_000
    Notifier(address).reloading("one by one")
    first, second, third = receive().splitlines()
    assert (first, third) == ("RELOADING=1", "STATUS=one by one")
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.monotonic_ns() // 1_000


def test_the_environment_is_taken_so_that_nobody_else_finds_it() -> None:
    environment = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/root",
    }
    assert Notifier.take(environment).interval == 1.5
    assert environment == {"HOME": "/root"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "3000000"},
        {"NOTIFY_SOCKET": "/run/notify"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
    ],
)
def test_without_a_watchdog_nobody_waits_for_a_sign_of_life(variables) -> None:
    assert Notifier.take(dict(variables)).interval is None


def test_an_init_system_that_is_gone_does_no_harm(tmp_path) -> None:
    Notifier(str(tmp_path / "nobody")).ready("well")
    Notifier(None).ready("well")
