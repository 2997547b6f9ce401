from __future__ import annotations

import signal
import threading

import pytest

from taskito.worker.signals import StopSignals


@pytest.fixture
def received():
    return []


@pytest.fixture
def signals(received):
    return StopSignals(
        lambda name: received.append(("first", name)), lambda name: received.append(("again", name))
    )


def test_first_and_later_signals_are_told_apart(signals, received) -> None:
    with signals:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
    assert received == [("first", "SIGTERM"), ("again", "SIGINT"), ("again", "SIGTERM")]


def test_previous_handlers_are_put_back(signals) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with signals:
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_threads_leave_the_handlers_alone(signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with signals:
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
