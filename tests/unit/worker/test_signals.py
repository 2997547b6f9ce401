from __future__ import annotations

import contextlib
import signal
import threading

import pytest

from taskito.worker.signals import CommandSignals, StoppedEarlyError, StopSignals, repeats_count


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


# A command that owns them -------------------------------------------------------------------------


def test_a_signal_before_there_is_a_worker_raises() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(StoppedEarlyError, match="SIGTERM"), CommandSignals():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert not issubclass(StoppedEarlyError, Exception)


def test_a_worker_is_told_of_a_signal_that_was_kept_from_it(signals, received) -> None:
    with CommandSignals():
        with contextlib.suppress(StoppedEarlyError):
            signal.raise_signal(signal.SIGINT)
        with signals:
            assert received == [("first", "SIGINT")]
            signal.raise_signal(signal.SIGTERM)
        # It has ended; the process is about to.
        signal.raise_signal(signal.SIGTERM)
    assert received == [("first", "SIGINT"), ("again", "SIGTERM")]


def test_repeated_signals_can_be_left_to_a_supervisor(signals, received) -> None:
    assert repeats_count()
    with CommandSignals(repeats=False), signals:
        assert not repeats_count()
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert received == [("first", "SIGTERM")]
