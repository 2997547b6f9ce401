"""A package that `taskito new-plugin` has written is built, installed and passes its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
BIN = Path(sys.executable).parent


def run(*command, where, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=where,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["serializer", "hooks", "command", "backend"])
def test_a_new_plugin_passes_its_own_tests(tmp_path, kind):
    run(BIN / "taskito", "new-plugin", f"my-{kind}", f"--{kind}", where=tmp_path)
    package = tmp_path / f"taskito-my-{kind}"
    build = ("build", "--quiet", "--offline", "--wheel", "--python", sys.executable)
    run(BIN / "uv", *build, "--out-dir", tmp_path / "wheels", package, where=tmp_path)
    [wheel] = (tmp_path / "wheels").glob("*.whl")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", tmp_path / "site", wheel, where=tmp_path)
    site = {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    pytest_run = (sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-W", "error")
    selected = ("-k", "queue_finds or contract") if kind == "backend" else ()
    assert " passed" in run(*pytest_run, *selected, where=package, **site)
    assert "plugins are well" in run(BIN / "taskito", "plugins", "check", where=tmp_path, **site)
    help_text = run(BIN / "taskito", "--help", where=tmp_path, **site)
    assert (f"Commands of taskito-my-{kind}:" in help_text) == (kind == "command")


@pytest.mark.parametrize("arguments", [["x"], ["X!", "--hooks"], ["there", "--hooks"]])
def test_a_refused_call_writes_nothing(tmp_path, arguments):
    (tmp_path / "taskito-there").mkdir()
    command = [BIN / "taskito", "new-plugin", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    assert "Error: " in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["taskito-there"]
