"""The scorecard: what was checked of each backend, and what was not and why.

It needs no plugin: the first check of the kit registers it with the running pytest. With
pytest-xdist, whose main process runs no checks, load it there, by
``-p taskito.testing.conformance.scorecard`` or, in the topmost ``conftest.py``,
``pytest_plugins = ["taskito.testing.conformance.scorecard"]``. The text appears at the end of the
run; the environment variable ``TASKITO_CONFORMANCE_SCORECARD`` names a file for the same as JSON.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import taskito
from taskito.backends import BACKEND_API, Backend
from taskito.testing.conformance.profiles import current_profile
from taskito.testing.conformance.reproduction import command_for
from taskito.testing.conformance.topic import Topic, topic_of

__all__ = ["VARIABLE", "Card", "Scorecards", "describe"]

VARIABLE = "TASKITO_CONFORMANCE_SCORECARD"
"""The environment variable that names the file for the JSON form."""

_PLACE = "taskito_conformance_place"
_FACTS = "taskito_conformance_facts"
_ITEMS = pytest.StashKey[int]()
_PLUGIN = "taskito-conformance-scorecard"


@dataclass(slots=True)
class Card:
    """The results of one class of checks, that is of one backend.

    Attributes:
        tests: The class that pytest ran.
        facts: Backend, capabilities and versions.
        checks: For each check its stage, its topic, its outcome and the reason of a skip.
    """

    tests: str
    facts: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, tuple[str, str, str, str]] = field(default_factory=dict)

    def add(self, check: str, stage: str, topic: str, outcome: str, reason: str) -> None:
        """Note the outcome of one check; one that fails in any phase has failed."""
        if check not in self.checks or outcome == "failed":
            self.checks[check] = (stage, topic, outcome, reason)

    def as_dict(self) -> dict[str, Any]:
        """Return the card in the form that is written as JSON."""
        total: Counter[str] = Counter()
        stages: dict[str, dict[str, Counter[str]]] = {}
        skipped: Counter[str] = Counter()
        failed = []
        for check, (stage, topic, outcome, reason) in self.checks.items():
            total[outcome] += 1
            stages.setdefault(stage, {}).setdefault(topic, Counter())[outcome] += 1
            if outcome == "skipped":
                skipped[reason] += 1
            elif outcome == "failed":
                failed.append(check)
        return {
            "tests": self.tests,
            **self.facts,
            "conforms": not failed,
            "total": _three(total),
            "stages": {
                stage: {topic: _three(outcomes) for topic, outcomes in sorted(topics.items())}
                for stage, topics in sorted(stages.items())
            },
            "skipped": dict(sorted(skipped.items())),
            "failed": sorted(failed),
        }

    def as_lines(self) -> list[str]:
        """Return the card as text."""
        card = self.as_dict()
        lines = [
            f"{card['backend']} ({self.tests}): {'conforms' if card['conforms'] else 'FAILS'}",
            f"  capabilities: {', '.join(card['capabilities']) or 'none'}",
            f"  liveness: {card['liveness']}",
            "  versions: " + ", ".join(f"{name} {v}" for name, v in card["versions"].items()),
            f"  profile: {card['profile']}",
        ]
        for stage, topics in card["stages"].items():
            lines.append(f"  {stage}")
            lines += [f"    {topic:<14} {_words(counts)}" for topic, counts in topics.items()]
        lines.append(f"  {'all':<16} {_words(card['total'])}")
        lines += [f"  skipped {count}: {reason}" for reason, count in card["skipped"].items()]
        lines += [f"  failed: {check}" for check in card["failed"]]
        return lines


class Scorecards:
    """The pytest plugin that fills the cards of a run and shows them at its end."""

    def __init__(self) -> None:
        self.cards: dict[str, Card] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show below a check of the kit that failed how it is played again."""
        report = yield
        if report.failed and _PLACE in dict(item.user_properties):
            command = command_for(report)
            report.sections.append(("play it again", f"{command}\n"))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of a check of the kit."""
        properties: dict[str, Any] = dict(report.user_properties)
        place, outcome = properties.get(_PLACE), _outcome(report)
        if place is None or outcome is None:
            return
        card = self.cards.setdefault(place["tests"], Card(place["tests"]))
        card.facts = properties.get(_FACTS) or card.facts
        check = report.nodeid.rpartition("::")[2]
        card.add(check, place["stage"], place["topic"], outcome, _reason(report))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show every card, and write them to the file that the environment names."""
        cards = [card for card in self.cards.values() if card.facts]
        for card in cards:
            terminalreporter.section("conformance scorecard", sep="-")
            for line in card.as_lines():
                terminalreporter.line(line)
        path = os.environ.get(VARIABLE)
        if path and cards:
            text = json.dumps([card.as_dict() for card in cards], indent=2)
            Path(path).write_text(text + "\n", encoding="utf-8")


def describe(request: pytest.FixtureRequest, backend: Backend) -> None:
    """Attach to a check what the scorecard has to know about its backend.

    The first call of a run also tells every check that is still to come where it belongs, so that
    one which is left out by a marker, and asks for no fixture, is on the card with its reason.

    Args:
        request: Of the check that is about to run.
        backend: Any backend of the kind under test; it need not be open.
    """
    facts = {
        "backend": backend.name,
        "capabilities": list(backend.capabilities.names()),
        "liveness": str(backend.capabilities.liveness),
        "profile": current_profile().name,
        "versions": {
            "taskito": taskito.__version__,
            "backend API": BACKEND_API,
            "Python": platform.python_version(),
            **_distribution_of(type(backend).__module__.partition(".")[0]),
        },
    }
    if _ITEMS not in request.config.stash:
        request.config.stash[_ITEMS] = len(request.session.items)
        for item in request.session.items:
            _place(item)
    request.node.user_properties.append((_FACTS, facts))
    pytest_configure(request.config)


def _place(item: pytest.Item) -> None:
    tests = getattr(item, "cls", None)
    if tests is None or not any(issubclass(owner, Topic) for owner in tests.__mro__):
        return
    topic = topic_of(tests, getattr(item, "originalname", None) or item.name)
    place = {
        "tests": f"{item.path.stem}::{tests.__name__}",
        "stage": topic.stage,
        "topic": topic.name,
    }
    item.user_properties.append((_PLACE, place))


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin once; pytest calls this if the module is loaded as a plugin itself."""
    if not config.pluginmanager.has_plugin(_PLUGIN):
        config.pluginmanager.register(Scorecards(), _PLUGIN)


@functools.cache
def _distribution_of(package: str) -> dict[str, str]:
    """Return the version of the distribution that a package comes from, unless it is taskito."""
    names = importlib.metadata.packages_distributions().get(package, [])
    return {name: importlib.metadata.version(name) for name in names if name != "taskito"}


def _outcome(report: pytest.TestReport) -> str | None:
    """Return what this report means for its check, None if it decides nothing."""
    if report.failed or report.skipped:
        return str(report.outcome)
    return "passed" if report.when == "call" else None


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return ""


def _three(outcomes: Mapping[str, int]) -> dict[str, int]:
    return {name: outcomes.get(name, 0) for name in ("passed", "failed", "skipped")}


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing ran"
