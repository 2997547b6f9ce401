"""What the kit says of itself: no check hides another, each has its place, the scorecard counts."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest

from taskito.backends import BackendOptions, Capabilities, params
from taskito.backends.memory import MemoryBackend
from taskito.backends.sqlite import SqliteBackend
from taskito.exceptions import StorageError
from taskito.testing import VirtualClock
from taskito.testing.conformance import BackendConformance
from taskito.testing.conformance.contract import ContractStage
from taskito.testing.conformance.fixtures import NOW, KitFixtures
from taskito.testing.conformance.profiles import PROFILES, VARIABLE, current_profile, kit_settings
from taskito.testing.conformance.stateful import StoreMachine
from taskito.testing.conformance.topic import Topic, needs, topic_of
from taskito.testing.conformance.upkeep import PLENTY

NOTHING_DONE = params.MaintainReply(
    promoted=0, rescued=0, expired=0, pruned=0, next_due_ms=None, unknown_tasks=()
)
CHECKS = [name for name in dir(BackendConformance) if name.startswith("test_")]

AUTHOR = """
import pytest
from dataclasses import replace
from taskito.backends.memory import MemoryBackend
from taskito.testing.conformance.contract import EnqueueContract, PausesContract, ReplayContract
from taskito.testing.conformance.fixtures import KitFixtures

class Plain(MemoryBackend):
    name = "plain"
    capabilities = replace(MemoryBackend.capabilities, replay=False)

    def pause(self, queue):
        pass

class TestPlain(EnqueueContract, PausesContract, ReplayContract, KitFixtures):
    @pytest.fixture
    def backend_factory(self):
        return lambda options: Plain("", options)

    @pytest.mark.skip(reason="it has no order")
    def test_a_batch_is_answered_in_order(self):
        ...
"""


def test_no_check_has_the_name_of_another():
    owners = Counter(
        name
        for owner in BackendConformance.__mro__
        if issubclass(owner, Topic)
        for name in vars(owner)
        if name.startswith("test_")
    )
    assert [name for name, count in owners.items() if count > 1] == []
    assert len(CHECKS) == len(owners)


def test_every_check_has_a_stage_a_topic_and_real_capabilities():
    flags = {field.name for field in fields(Capabilities)}
    for check in CHECKS:
        topic = topic_of(BackendConformance, check)
        assert topic.stage != "own", check
        assert topic.name, check
        assert set(topic.needs) <= flags, check


def test_a_replaced_check_stays_in_its_topic_and_keeps_its_needs():
    class Mine(ContractStage, KitFixtures):
        def test_a_pause_holds_within_its_namespace(self): ...

        @needs("unique")
        def test_of_my_own(self): ...

    assert topic_of(Mine, "test_a_pause_holds_within_its_namespace").name == "namespaces"
    assert topic_of(Mine, "test_of_my_own").needs == ("unique",)


@pytest.mark.parametrize("name", list(PROFILES))
def test_the_environment_chooses_the_profile(monkeypatch, name):
    monkeypatch.setenv(VARIABLE, name)
    assert current_profile().name == name
    assert kit_settings(share=0.5).max_examples == PROFILES[name].examples // 2


def test_an_unknown_profile_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "slow")
    with pytest.raises(ValueError, match="'slow' is not one of quick, ci, thorough"):
        current_profile()


@pytest.mark.process
def test_an_author_gets_a_scorecard_without_any_plugin(tmp_path):
    (tmp_path / "test_plain.py").write_text(textwrap.dedent(AUTHOR))
    path = tmp_path / "card.json"
    # The profile of this run is not the author's.
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**environment, "TASKITO_CONFORMANCE_SCORECARD": str(path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    [card] = json.loads(path.read_text())
    assert (card["backend"], card["conforms"], card["profile"]) == ("plain", False, "quick")
    assert card["versions"]["backend API"] == 1
    assert "replay" not in card["capabilities"]
    topics = card["stages"]["contract"]
    assert topics["replay"]["passed"] == topics["replay"]["failed"] == 0
    assert card["skipped"]["needs the capability replay"] == topics["replay"]["skipped"] > 0
    assert card["skipped"]["needs the fixture shared_backend_factory or open_elsewhere"] == 1
    assert card["skipped"]["it has no order"] == 1
    assert topics["enqueue"]["failed"] == 0
    assert topics["pauses"]["failed"] > 0
    assert "test_a_paused_queue_yields_nothing_until_it_is_resumed" in card["failed"]
    total = card["total"]
    assert sum(total.values()) == sum(sum(counts.values()) for counts in topics.values())
    assert "conformance scorecard" in run.stdout
    assert "plain (test_plain::TestPlain): FAILS" in run.stdout
    assert "failed: test_a_paused_queue" in run.stdout


def test_an_example_of_the_stateful_stage_leaves_nothing_to_do_for_the_next(tmp_path):
    factory = functools.partial(SqliteBackend, str(tmp_path / "tasks.db"))
    machine = StoreMachine(factory, SqliteBackend.capabilities)
    machine._enqueue([params.NewJob(task="add", expires_in_ms=10, result_ttl_ms=5)])
    machine._enqueue([params.NewJob(task="add", delay_ms=60_000, expires_in_ms=10_000_000)])
    machine.set_wall_clock(milliseconds=-3_600_000, budget=None)
    machine.teardown()
    clock = VirtualClock(NOW + 365 * 86_400_000)
    with factory(BackendOptions(namespace="next", clock=clock)) as backend:
        assert backend.maintain(1).next_due_ms is None


def test_a_failed_step_is_reported_even_if_the_store_cannot_be_cleared_after_it():
    class Stuck(MemoryBackend):
        def cancel(self, request):
            raise StorageError("stuck")

    def fail_and_tear_down(machine):
        try:
            raise AssertionError("the step")
        finally:
            machine.teardown()

    def machine():
        return StoreMachine(lambda options: Stuck("", options), Stuck.capabilities)

    with pytest.raises(AssertionError, match="the step"):
        fail_and_tear_down(machine())
    with pytest.raises(StorageError, match="stuck"):
        machine().teardown()


def test_upkeep_that_is_never_done_fails_a_check_with_a_message():
    class NeverDone(MemoryBackend):
        def maintain(self, budget):
            return replace(NOTHING_DONE, next_due_ms=0)

    machine = StoreMachine(lambda options: NeverDone("", options), NeverDone.capabilities)
    machine._enqueue([params.NewJob(task="add", delay_ms=1)])
    with pytest.raises(AssertionError, match="something is left to do after 10 steps"):
        machine.advance(milliseconds=60_000, budget=PLENTY)
    machine.teardown()


FORGETFUL = """
import pytest
from dataclasses import replace
from taskito.backends.memory import MemoryBackend
from taskito.testing.conformance import BackendConformance

class Forgetful(MemoryBackend):
    def enqueue(self, jobs):
        return super().enqueue([replace(job, priority=min(job.priority, 50)) for job in jobs])

    def counts(self):
        return [count for count in super().counts() if count.state != "cancelled"]

class TestForgetful(BackendConformance):
    @pytest.fixture
    def backend_factory(self):
        return lambda options: Forgetful("", options)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("check", "complaint"),
    [
        ("test_a_job_comes_back_as_it_was_handed_in", "priority"),
        ("test_any_interleaving_leaves_the_store_like_the_model", "(priority|counts)"),
    ],
)
def test_a_failure_shows_a_command_that_plays_it_again(tmp_path, check, complaint):
    (tmp_path / "test_forgetful.py").write_text(FORGETFUL)
    options = ["-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(command):
        return subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env={**environment, "PYTEST_ADDOPTS": " ".join(options)},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    first = run(f"pytest test_forgetful.py -k {check}")
    assert first.returncode == 1, first.stdout
    assert re.search(f"E .*{complaint}", first.stdout)
    [command] = re.findall(r"^TASKITO_CONFORMANCE_PROFILE=.*$", first.stdout, re.MULTILINE)
    assert "TASKITO_CONFORMANCE_REPRODUCE=" in command
    shutil.rmtree(tmp_path / ".hypothesis", ignore_errors=True)
    again = run(f"{command} --hypothesis-show-statistics")
    assert again.returncode == 1, again.stdout + again.stderr
    assert re.search(f"E .*{complaint}", again.stdout)
    assert "1 failed" in again.stdout
