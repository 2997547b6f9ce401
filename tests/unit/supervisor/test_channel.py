from __future__ import annotations

import os
import queue
import socket

import pytest

from taskito.supervisor.channel import NOW, STOP, VARIABLE, Channel, Report, split_lines


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_reports_arrive_as_they_were_sent(ends) -> None:
    ours, theirs = ends
    channel = Channel(theirs)
    reports = [
        Report(),
        Report(phase="ready", reason="two\nlines", worker="abc", silent=0.5, drain_timeout=30.0),
    ]
    for report in reports:
        channel.send(report)
    lines, rest = split_lines(ours.recv(4_096))
    assert [Report.decoded(line) for line in lines] == reports
    assert rest == b""


def test_a_supervisor_that_does_not_read_costs_reports_but_no_line_is_broken(ends) -> None:
    ours, theirs = ends
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    channel = Channel(theirs)
    for number in range(2_000):
        channel.send(Report(worker=str(number), reason="x" * 700))
    ours.setblocking(False)
    data = b""
    # What was left of a line follows with the next reports.
    for _ in range(3):
        try:
            while received := ours.recv(65_536):
                data += received
        except BlockingIOError:
            channel.send(Report(worker="last"))
    lines, _rest = split_lines(data)
    found = [Report.decoded(line).worker for line in lines]
    assert found[0] == "0"
    assert found[-1] == "last"
    assert len(found) < 2_000


def test_orders_are_told_and_the_end_of_the_supervisor_is_one(ends, caplog) -> None:
    ours, theirs = ends
    orders = queue.Queue()
    Channel(theirs).listen(lambda: orders.put("stop"), lambda: orders.put("now"))
    ours.send(STOP + NOW[:2])
    assert orders.get(timeout=10) == "stop"
    ours.send(NOW[2:])
    assert orders.get(timeout=10) == "now"
    ours.close()
    assert orders.get(timeout=10) == "stop"
    assert "the supervisor has died" in caplog.text


def test_the_way_to_the_supervisor_is_not_inherited(ends) -> None:
    ours, theirs = ends
    descriptor = theirs.detach()
    os.set_inheritable(descriptor, True)
    environment = {VARIABLE: f"{descriptor}:3"}
    channel = Channel.take(environment)
    assert environment == {}
    assert not os.get_inheritable(descriptor)
    assert channel.number == 3
    channel.send(Report())
    assert Report.decoded(ours.recv(4_096)) == Report()
    channel._connection.close()
    assert Channel.take({}) is None
