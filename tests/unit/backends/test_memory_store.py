"""What is particular to the memory store: sharing by name, opening, forks."""

from __future__ import annotations

import os

import pytest

from taskito._core import VirtualClock
from taskito.backends import BackendOptions, params
from taskito.backends.memory import MemoryBackend
from taskito.exceptions import BackendError, ConfigurationError, QueueClosedError

JOB = params.NewJob(task="add")


def total(backend):
    return sum(count.count for count in backend.counts())


def test_a_store_without_a_name_is_private():
    with MemoryBackend() as one, MemoryBackend() as two:
        one.enqueue([JOB])
        assert (total(one), total(two)) == (1, 0)


def test_a_named_store_is_shared_while_somebody_has_it_open():
    one = MemoryBackend.from_url("memory://shared", BackendOptions())
    two = MemoryBackend("shared")
    one.open()
    two.open()
    one.enqueue([JOB])
    assert total(two) == 1
    one.close()
    assert total(two) == 1
    two.close()
    with MemoryBackend("shared") as three:
        assert total(three) == 0


def test_those_who_share_a_store_share_its_clock():
    clock = VirtualClock(1_800_000_000_000)
    with MemoryBackend("clocked", BackendOptions(clock=clock)), MemoryBackend("clocked"):
        other = MemoryBackend("clocked", BackendOptions(clock=VirtualClock(1_800_000_000_000)))
        with pytest.raises(ConfigurationError, match="another clock"):
            other.open()


def test_the_first_operation_opens():
    backend = MemoryBackend()
    backend.enqueue([JOB])
    assert total(backend) == 1
    backend.close()
    backend.open()
    assert total(backend) == 0
    backend.close()


def test_options_in_the_url_are_refused():
    with pytest.raises(ConfigurationError, match="memory://name"):
        MemoryBackend.from_url("memory://name?size=3", BackendOptions())


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_that_was_opened_before_a_fork_is_refused_in_the_child():
    with MemoryBackend() as backend:
        backend.enqueue([JOB])
        child = os.fork()
        if child == 0:
            status = 1
            try:
                backend.counts()
            except QueueClosedError as error:
                status = 0 if "fork" in str(error) else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_an_illegal_event_is_refused():
    from taskito.backends.transitions import next_state

    with pytest.raises(BackendError, match="'claim' is not legal"):
        next_state(params.JobState.COMPLETE, "claim")
