from __future__ import annotations

import pytest

from taskito.supervisor.child import describe_status
from taskito.supervisor.rolling import RollingRestart
from taskito.supervisor.slot import Slot


class FakeChild:
    """A worker process that does what a test says."""

    def __init__(self, number, generation):
        self.name = f"{number}.{generation}"
        self.ready = False
        self.asked = False

    def stop(self):
        self.asked = True

    def __repr__(self):
        return self.name


@pytest.fixture
def fleet():
    """Three workers of the first generation, all ready, and the restart of them."""
    started = []

    def launch(number):
        generation = 1 + sum(child.name.startswith(f"{number}.") for child in started)
        started.append(FakeChild(number, generation))
        return started[-1]

    slots = [Slot(number, launch) for number in (1, 2, 3)]
    for slot in slots:
        slot.start_now()
        slot.start_if_due()
        slot.child.ready = True
    return slots, RollingRestart(slots), started


def end_leaving(slots):
    for slot in slots:
        slot.leaving.clear()


def names(slots):
    return [slot.child.name for slot in slots]


def test_the_next_worker_is_touched_when_the_one_before_has_ended(fleet) -> None:
    slots, rolling, started = fleet
    rolling.begin()
    for number in (1, 2, 3):
        assert rolling.go_on() is None
        assert started[-1].name == f"{number}.2"
        old = slots[number - 1].child
        assert not old.asked
        started[-1].ready = True
        assert rolling.go_on() is None
        assert old.asked
        # One in excess at most, and never fewer than there should be.
        assert sum(len(slot.children) for slot in slots) == 4
        assert all(slot.child.ready for slot in slots)
        end_leaving(slots)
    assert rolling.go_on() == "all workers were restarted"
    assert names(slots) == ["1.2", "2.2", "3.2"]
    assert not rolling.under_way


def test_a_second_request_replaces_what_is_not_ready_yet_and_begins_anew(fleet) -> None:
    slots, rolling, started = fleet
    rolling.begin()
    rolling.go_on()
    early = started[-1]
    rolling.begin()
    rolling.go_on()
    assert early.asked
    assert started[-1].name == "1.3"
    end_leaving(slots)
    started[-1].ready = True
    while rolling.under_way:
        rolling.go_on()
        end_leaving(slots)
        started[-1].ready = True
    assert names(slots) == ["1.3", "2.2", "3.2"]


def test_giving_up_keeps_the_old_ones(fleet) -> None:
    slots, rolling, started = fleet
    rolling.begin()
    rolling.go_on()
    rolling.give_up()
    assert started[-1].asked
    assert names(slots) == ["1.1", "2.1", "3.1"]
    assert not any(slot.child.asked for slot in slots)
    assert not rolling.under_way


def test_a_place_that_is_empty_is_filled(fleet) -> None:
    slots, rolling, _started = fleet
    slots[0].child = None
    slots[0].wait_for_change()
    assert slots[0].start_at is None
    assert slots[0].health().ready is False
    rolling.begin()
    rolling.go_on()
    slots[0].start_if_due()
    assert slots[0].child.name == "1.2"


def test_a_process_that_cannot_be_started_is_tried_again(fleet, caplog) -> None:
    _slots, _rolling, _started = fleet

    def refuse(_number):
        raise OSError("no memory")

    slot = Slot(1, refuse)
    slot.start_now()
    slot.start_if_due()
    assert slot.child is None
    assert slot.start_at is not None
    assert "worker 1 cannot be started: no memory" in caplog.text
    other = Slot(2, refuse)
    other.child = FakeChild(2, 1)
    rolling = RollingRestart([other])
    rolling.begin()
    assert rolling.go_on() == "the restart is given up: no process can be started"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-11, "was killed by SIGSEGV"),
        (-9, "was killed by SIGKILL (by a person, or by the kernel when memory ran out)"),
        (-63, "was killed by signal 63"),
    ],
)
def test_ends_are_named(status, text) -> None:
    assert describe_status(status) == text
