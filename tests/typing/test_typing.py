"""The annotations say what they should: a type checker is run over two files."""

from __future__ import annotations

import re
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
