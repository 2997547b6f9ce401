"""A stored workflow, whose steps a test takes by hand: its state, its end, another try."""

from __future__ import annotations

import json
import sys

import msgpack
import pytest
from click.testing import CliRunner

from taskito import ConfigurationError, Queue, TaskCancelledError, chain, chord, group
from taskito.cli import main


@pytest.fixture(params=["memory", "sqlite"])
def queue(request, tmp_path):
    place = (
        {"backend": "memory://"} if request.param == "memory" else {"db_path": tmp_path / "q.db"}
    )
    with Queue(**place, default_retry=0, durability="off") as queue:
        for name in "abcdefg":
            queue.task(name)(lambda *args: args)
        yield queue


@pytest.fixture
def t(queue):
    return queue.tasks


@pytest.fixture
def worker(queue, hand_worker):
    return hand_worker(queue)


def play(worker, fails=()):
    """Run all that can run; return the tasks in the order of their runs."""
    ran = []
    while claimed := worker.claim():
        [job] = claimed
        ran.append(job.task)
        if job.task in fails:
            worker.bury(job, ValueError(f"{job.task} broke"))
        else:
            worker.succeed(job, msgpack.packb(job.task))
    return ran


def test_progress_and_state(queue, t, worker):
    job = chain(t["a"].s(), group(t["b"].s(), t["c"].s()), t["d"].s()).apply()
    flow = queue.get_workflow(job)
    assert queue.get_workflow(flow.id) == flow
    assert (flow.state, flow.done, flow.total) == ("running", 0, 4)
    assert [step.task_name for step in flow.steps] == ["a", "b", "c", "d"]
    assert [step.status for step in flow.steps] == ["pending"] * 4
    [claimed] = worker.claim()
    worker.succeed(claimed, msgpack.packb(1))
    assert (flow.state, flow.done) == ("running", 1)
    assert sorted(play(worker)) == ["b", "c", "d"]
    assert (flow.state, flow.done, flow.total) == ("complete", 4, 4)
    assert [found.id for found in queue.list_workflows()] == [flow.id]
    assert queue.get_workflow("unknown") is None


def test_the_graph_as_data_and_as_mermaid(queue, t, worker):
    job = chain(t["a"].s(), t["b"].si()).apply(on_error=t["e"].s())
    flow = queue.get_workflow(job)
    graph = flow.graph()
    assert [node["task"] for node in graph["nodes"]] == ["a", "b", "e"]
    a, b, e = [node["id"] for node in graph["nodes"]]
    assert graph["edges"] == [
        {"from": a, "to": b, "condition": "success", "input": False},
        {"from": b, "to": e, "condition": "failure", "input": False},
    ]
    play(worker)
    assert flow.mermaid() == (
        "flowchart TD\n"
        '    s0["a<br/>complete"]\n'
        '    s1["b<br/>complete"]\n'
        '    s2["e<br/>skipped"]\n'
        "    s0 --> s1\n"
        "    s1 -. on failure .-> s2\n"
    )
    assert flow.state == "complete"


@pytest.mark.parametrize("broken", ["a", "b", "c"])
def test_an_error_handler_runs_once_with_the_id_of_the_workflow(queue, t, worker, broken):
    flow = chain(t["a"].s(), group(t["b"].s(), t["c"].s()))
    first, _ = flow.apply(on_error=t["e"].s("more"))
    workflow = queue.get_workflow(first)
    ran = []
    while claimed := worker.claim():
        [job] = claimed
        ran.append(job.task)
        if job.task == "e":
            assert msgpack.unpackb(job.payload) == [[workflow.id, "more"], {}]
        if job.task == broken:
            worker.bury(job, ValueError())
        else:
            worker.succeed(job, msgpack.packb(None))
    assert ran.count("e") == 1
    assert ran[-1] == "e"
    assert workflow.state == "failed"
    assert [step.task_name for step in workflow.failed_steps] == [broken]


def test_cancelling_leaves_no_step_pending_and_sets_off_no_handler(queue, t, worker):
    members = group(*[t["b"].s()] * 5, max_concurrency=1)
    job = chain(t["a"].s(), members, t["d"].s()).apply(on_error=t["e"].s())
    flow = queue.get_workflow(job)
    [claimed] = worker.claim()
    assert flow.cancel() is True
    assert [step.status for step in flow.steps] == ["running", *["cancelled"] * 7]
    worker.succeed(claimed, msgpack.packb(None))
    assert play(worker) == []
    assert flow.state == "cancelled"
    assert flow.cancel() is False
    with pytest.raises(TaskCancelledError, match=flow.id):
        job.result(timeout=0)


def test_only_what_failed_runs_again(queue, t, worker):
    header = group(chain(t["a"].s(), t["b"].s()), t["c"].s())
    job = chain(chord(header, t["d"].s()), t["f"].s()).apply(on_error=t["e"].s())
    flow = queue.get_workflow(job)
    with pytest.raises(ConfigurationError, match="running"):
        flow.retry()
    assert sorted(play(worker, fails={"b"})) == ["a", "b", "c", "e"]
    assert flow.state == "failed"
    jobs = flow.retry()
    assert flow.state == "running"
    assert (flow.total, flow.done) == (6, 2)
    assert play(worker) == ["b", "d", "f"]
    assert flow.state == "complete"
    assert {step.status for step in flow.steps} == {"complete", "skipped"}
    assert jobs[-2].result(timeout=0) == "f"
    with pytest.raises(ConfigurationError, match="no step"):
        flow.retry()


def test_a_second_failure_runs_the_handler_again(queue, t, worker):
    flow = queue.get_workflow(chain(t["a"].s(), t["b"].s()).apply(on_error=t["e"].s()))
    for _ in range(3):
        assert play(worker, fails={"b"})[-2:] == ["b", "e"]
        flow.retry()
    assert play(worker) == ["b"]
    assert flow.state == "complete"


def test_a_cancelled_workflow_goes_on_after_a_retry(queue, t, worker):
    flow = queue.get_workflow(chain(t["a"].s(), t["b"].s(), t["c"].s()).apply())
    [claimed] = worker.claim()
    worker.succeed(claimed, msgpack.packb(None))
    flow.cancel()
    flow.retry()
    assert play(worker) == ["b", "c"]
    assert flow.state == "complete"


def test_a_handled_failure_is_no_failure_of_the_workflow(queue, t, worker):
    job = chord(group(t["a"].s(), t["b"].s()), t["c"].s(), allow_failures=True).apply()
    assert play(worker, fails={"a"}) == ["a", "b", "c"]
    assert queue.get_workflow(job).state == "complete"


def test_no_more_than_max_concurrency_run_at_a_time(t, worker):
    group([t["a"].s()] * 6, max_concurrency=2).apply()
    running = worker.claim(10)
    seen = 0
    while running:
        assert len(running) <= 2
        worker.bury(running.pop(), ValueError())
        seen += 1
        running += worker.claim(10)
    assert seen == 6


@pytest.mark.parametrize("queue", ["sqlite"], indirect=True)
def test_the_command_line(queue, t, worker, tmp_path, monkeypatch):
    flow = queue.get_workflow(chain(t["a"].s(), t["b"].s()).apply())
    play(worker, fails={"a"})
    run = CliRunner()
    text = f"from taskito import Queue\nqueue = Queue(db_path={str(tmp_path / 'q.db')!r})\n"
    (tmp_path / "flow_application.py").write_text(text)
    monkeypatch.setattr("sys.path", list(sys.path))

    def call(*arguments):
        # A command closes its queue, and so it has to be imported anew.
        sys.modules.pop("flow_application", None)
        where = ["--app", "flow_application:queue", "--app-dir", str(tmp_path)]
        return run.invoke(main, ["workflows", *arguments, *where])

    assert flow.id in call("list").output
    [listed] = json.loads(call("list", "--json").output)
    assert (listed["id"], listed["state"], listed["done"]) == (flow.id, "failed", 2)
    shown = call("show", flow.id).output
    assert "a broke" in shown
    assert "flowchart TD" in call("show", flow.id, "--mermaid").output
    assert len(call("retry", flow.id).output.split()) == 2
    assert call("cancel", flow.id).exit_code == 0
    assert call("cancel", flow.id).exit_code == 1
    assert "no workflow" in call("show", "nobody").output
