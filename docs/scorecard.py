"""Run the conformance kit on the SQLite store and write its scorecard into reference/scorecard.md.

``make scorecard`` runs it; it needs what the tests need. What changes from machine to machine, such
as the version of Python, is left out. A test compares the page with the checks that there are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "scorecard.md"
TESTS = "conformance/test_sqlite_file.py::TestSqliteFile"
BEGIN = "<!-- begin: made by docs/scorecard.py -->\n"
END = "<!-- end: made by docs/scorecard.py -->\n"


def run_kit(profile: str) -> dict[str, Any]:
    """Run the kit on one SQLite file and return its scorecard."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "card.json")
        environment = {
            "TASKITO_CONFORMANCE_PROFILE": profile,
            "TASKITO_CONFORMANCE_SCORECARD": str(path),
            "PYTHONSAFEPATH": "1",
        }
        pytest = [sys.executable, "-m", "pytest", "--config-file=../pyproject.toml", "--rootdir=.."]
        subprocess.run(  # noqa: S603 - the tests of this tree
            [*pytest, "-q", "-n", "2", TESTS],
            cwd=ROOT / "tests",
            env={**os.environ, **environment},
            check=True,
        )
        [card] = json.loads(path.read_text(encoding="utf-8"))
        return dict(card)


def generated(card: dict[str, Any]) -> str:
    """Return what stands between the two marks."""
    lines = [
        "",
        f"- backend: {card['backend']}, one file",
        f"- capabilities: {', '.join(card['capabilities'])}",
        f"- liveness: {card['liveness']}",
        f"- backend API: {card['versions']['backend API']}",
        f"- conforms: {'yes' if card['conforms'] else 'NO'}",
        "",
        "| stage | topic | passed | failed | skipped |",
        "| --- | --- | --- | --- | --- |",
    ]
    for stage, topics in card["stages"].items():
        if stage == "own":
            continue
        lines += [_row(stage, topic, counts) for topic, counts in topics.items()]
    lines += ["", *(f"- skipped {n}: {reason}" for reason, n in card["skipped"].items()), ""]
    return "\n".join(lines) + "\n"


def renewed(page: str, card: dict[str, Any]) -> str:
    """Return the page with what stands between the marks made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{generated(card)}{END}{after}"


def _row(stage: str, topic: str, counts: dict[str, int]) -> str:
    return f"| {stage} | {topic} | {counts['passed']} | {counts['failed']} | {counts['skipped']} |"


if __name__ == "__main__":
    made = run_kit(sys.argv[1] if len(sys.argv) > 1 else "quick")
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
