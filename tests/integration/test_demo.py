"""`make demo`: a short run as a real process, and that its verification finds what is wrong."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

# Pure computation for the most part, so the load of the machine counts.
pytestmark = pytest.mark.timeout(120)

DEMO = Path(__file__).parents[2] / "docs" / "demo"
FIGURES = ("bytes", "lines", "tokens", "functions", "classes")
MAX_RETRIES = 2


@pytest.fixture(scope="module")
def demo() -> Iterator[dict[str, ModuleType]]:
    """Return the modules of the demonstration that need no queue."""
    names = ("measure", "verify")
    sys.path.append(str(DEMO))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(DEMO))
        for name in names:
            del sys.modules[name]


def run_demo(*options, folder, demo=DEMO):
    environment = os.environ | {"TMPDIR": str(folder), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, demo / "index_stdlib.py", *options],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.process
def test_a_short_run_indexes_fails_what_is_broken_and_verifies_itself(demo, tmp_path):
    names = demo["measure"].library_modules(150)
    plain = demo["verify"].count_plainly(names)
    assert len(names) == 150
    assert len(plain.figures) + len(plain.errors) == 150

    run = run_demo("--limit", "150", folder=tmp_path)

    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    summary = re.search(
        r"Verified: (\S+) files indexed \((.*?)\) and (\S+) dead letters in (\S+) starts",
        " ".join(run.stdout.split()),
    )
    assert summary, run.stdout
    indexed, figures, dead, starts = summary.groups()
    assert int(indexed) == len(plain.figures)
    assert int(dead) == len(plain.errors)
    assert int(starts) == len(plain.figures) + len(plain.errors) * (1 + MAX_RETRIES)
    assert figures == ", ".join(
        f"{sum(module[figure] for module in plain.figures.values()):,} {figure}"
        for figure in FIGURES
    )
    for name, error in plain.errors.items():
        line = next(line for line in run.stdout.splitlines() if name in line)
        assert error in line
        assert str(1 + MAX_RETRIES) in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_keep_leaves_the_folder_with_the_database(tmp_path):
    run = run_demo("--limit", "3", "--workers", "1", "--keep", folder=tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
    (folder,) = tmp_path.iterdir()
    assert f"Kept: {folder}" in run.stdout
    assert {"tasks.db", "starts.txt", "worker-1.log"} <= {file.name for file in folder.iterdir()}


@pytest.mark.process
@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            "return measure_module(name)",
            'return measure_module(name) | {"tokens": 1_234_567}',
            r"WRONG: \S+\.py: the queue's figures are .*1234567.*, the plain loop's",
        ),
        (
            "    _record_start(name)\n",
            "    _record_start(name)\n    _record_start(name)\n",
            r"WRONG: \S+\.py: the task started 2 times; expected 1",
        ),
        (
            "MAX_RETRIES = 2",
            'import sys\nif "worker" in sys.argv:\n    sys.exit("no work today")\nMAX_RETRIES = 2',
            r"(?s)no work today.*WRONG: worker process \d+ ended with exit code 1 before",
        ),
    ],
    ids=["wrong figure", "doubled start", "worker that dies"],
)
def test_a_demonstration_whose_tasks_go_wrong_fails(right, wrong, message, tmp_path):
    copy, folder = tmp_path / "demo", tmp_path / "run"
    folder.mkdir()
    shutil.copytree(DEMO, copy)
    tasks = (copy / "tasks.py").read_text()
    assert right in tasks
    (copy / "tasks.py").write_text(tasks.replace(right, wrong))

    run = run_demo("--limit", "12", folder=folder, demo=copy)

    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(message, run.stderr), run.stderr
    assert "Verified" not in run.stdout
    assert list(folder.iterdir()) == []


class TestDifferences:
    """The verification, with results in which one thing is wrong."""

    @pytest.fixture
    def module(self):
        return {
            "sha256": "ab",
            "bytes": 10,
            "lines": 2,
            "tokens": 5,
            "functions": 1,
            "classes": 0,
        }

    @pytest.fixture
    def plain(self, demo, module):
        return demo["verify"].PlainIndex({"a.py": module}, {"bad.py": "SyntaxError: no"})

    @pytest.fixture
    def queued(self, demo, module):
        stats = {"pending": 0, "running": 0, "completed": 1, "failed": 0, "dead": 1, "cancelled": 0}
        dead = {"bad.py": demo["verify"].DeadLetter("SyntaxError: no", 1 + MAX_RETRIES)}
        return demo["verify"].QueuedIndex({"a.py": dict(module)}, dead, stats)

    @pytest.fixture
    def starts(self, read_starts):
        return read_starts(["a.py", "bad.py", "bad.py", "bad.py"])

    @pytest.fixture
    def read_starts(self, tmp_path, demo):
        def read_starts(names):
            lines = [f"{71 + index % 2} {name}\n" for index, name in enumerate(names)]
            evidence = tmp_path / "starts.txt"
            evidence.write_text("".join(lines))
            return demo["verify"].Starts.read(evidence)

        return read_starts

    @pytest.fixture
    def differences(self, demo):
        def differences(queued, plain, starts):
            return demo["verify"].differences(queued, plain, starts, max_retries=MAX_RETRIES)

        return differences

    def test_none_if_everything_agrees(self, differences, queued, plain, starts):
        assert differences(queued, plain, starts) == []

    @pytest.mark.parametrize("figure", ["sha256", *FIGURES])
    def test_each_wrong_figure(self, figure, differences, queued, plain, starts):
        queued.figures["a.py"][figure] *= 2
        queued.figures["a.py"][figure] += "c" if figure == "sha256" else 1
        (found,) = differences(queued, plain, starts)
        assert found.startswith("a.py: the queue's figures are")

    def test_a_missing_result(self, differences, queued, plain, starts):
        del queued.figures["a.py"]
        (found,) = differences(queued, plain, starts)
        assert found == "a.py: its figures are missing in the queue's results"

    def test_a_result_of_an_unknown_module(self, differences, queued, plain, starts):
        queued.figures["b.py"] = queued.figures["a.py"]
        (found,) = differences(queued, plain, starts)
        assert found == "b.py: its figures are missing in the plain loop's"

    def test_a_missing_dead_letter(self, differences, queued, plain, starts):
        del queued.dead_letters["bad.py"]
        (found,) = differences(queued, plain, starts)
        assert found == "bad.py: it is broken (SyntaxError: no), but no dead letter"

    def test_a_dead_letter_of_a_good_module(self, differences, queued, plain, starts):
        queued.dead_letters["a.py"] = queued.dead_letters["bad.py"]
        (found,) = differences(queued, plain, starts)
        assert found == "a.py: it is a dead letter (SyntaxError: no), but not broken"

    @pytest.mark.parametrize("wrong", [{"error": "SyntaxError: yes"}, {"attempts": 2}])
    def test_a_wrong_dead_letter(self, wrong, differences, queued, plain, starts):
        letter = dataclasses.replace(queued.dead_letters["bad.py"], **wrong)
        queued.dead_letters["bad.py"] = letter
        (found,) = differences(queued, plain, starts)
        assert found.startswith(f"bad.py: the dead letter has {letter.attempts} attempts")

    @pytest.mark.parametrize("status", ["pending", "completed", "dead", "cancelled"])
    def test_a_wrong_count(self, status, differences, queued, plain, starts):
        queued.stats[status] += 1
        (found,) = differences(queued, plain, starts)
        assert found.startswith(f"stats: {queued.stats[status]} jobs are {status}; expected")

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["a.py", "a.py", *["bad.py"] * 3], "a.py: the task started 2 times; expected 1"),
            (["bad.py"] * 3, "a.py: the task started 0 times; expected 1"),
            (["a.py", *["bad.py"] * 4], "bad.py: the task started 4 times; expected 3"),
            (["a.py", *["bad.py"] * 2], "bad.py: the task started 2 times; expected 3"),
            (["a.py", "b.py", *["bad.py"] * 3], "b.py: the task started 1 times; expected 0"),
        ],
    )
    def test_a_wrong_number_of_starts(self, names, expected, read_starts, differences, request):
        queued, plain = request.getfixturevalue("queued"), request.getfixturevalue("plain")
        assert differences(queued, plain, read_starts(names)) == [expected]

    def test_no_evidence_at_all(self, demo, tmp_path, differences, queued, plain):
        starts = demo["verify"].Starts.read(tmp_path / "absent.txt")
        assert len(differences(queued, plain, starts)) == 2
