"""The annotations say what they should: two type checkers are run over two files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARK = re.compile(r"  # E: ([a-z-]+)$")
REPORT = re.compile(r"refused\.py:(\d+): error: .*\[([a-z-]+)\]$")

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


def check(name, cache):
    command = [
        sys.executable,
        "-P",
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        f"--cache-dir={cache}",
    ]
    # From elsewhere, so that the installed package is what is checked.
    return subprocess.run(
        [*command, str(HERE / name)], cwd=cache, capture_output=True, text=True, check=False
    )


def test_right_code_is_accepted(cache):
    done = check("accepted.py", cache)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr


def test_wrong_code_is_refused_line_by_line(cache):
    lines = (HERE / "refused.py").read_text().splitlines()
    expected = {
        (number, mark[1]) for number, line in enumerate(lines, 1) if (mark := MARK.search(line))
    }
    done = check("refused.py", cache)
    found = {
        (int(report[1]), report[2])
        for line in done.stdout.splitlines()
        if (report := REPORT.search(line))
    }
    assert found == expected, done.stdout + done.stderr


@pytest.fixture
def pyright(tmp_path):
    """Check a file with pyright and return the numbers of the lines that it refuses."""
    if shutil.which("node") is None:
        pytest.skip("pyright needs Node.js")
    settings = {"typeCheckingMode": "standard", "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))

    def check(name):
        # A copy elsewhere, so that the installed package is what is checked.
        shutil.copy(HERE / name, tmp_path)
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "pyright", "--outputjson"),
                *("--pythonpath", sys.executable, name),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        report = json.loads(done.stdout)
        assert report["summary"]["filesAnalyzed"] == 1, done.stdout
        return {found["range"]["start"]["line"] + 1 for found in report["generalDiagnostics"]}

    return check


def test_pyright_accepts_right_code(pyright):
    assert pyright("accepted.py") == set()


def test_pyright_refuses_the_same_lines_as_mypy(pyright):
    lines = (HERE / "refused.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if MARK.search(line)}
    assert pyright("refused.py") == marked
