"""Write the state diagram and the table of transitions into explanation/job-lifecycle.md.

They come from the table that the engine enforces. Run it after a change of the engine:
``python docs/lifecycle.py``. A test compares the page with what this makes.
"""

from __future__ import annotations

from pathlib import Path

from taskito.backends.transitions import TRANSITIONS, as_mermaid

PAGE = Path(__file__).parent / "explanation" / "job-lifecycle.md"
BEGIN = "<!-- begin: made by docs/lifecycle.py -->\n"
END = "<!-- end: made by docs/lifecycle.py -->\n"


def generated() -> str:
    """Return what stands between the two marks."""
    rows = [
        f"| `{state}` | {event} | `{target}` |\n" for (state, event), target in TRANSITIONS.items()
    ]
    return (
        f"\n```mermaid\n{as_mermaid()}```\n\n"
        f"| in this state | this event | leads to |\n| --- | --- | --- |\n{''.join(rows)}\n"
    )


def renewed(page: str) -> str:
    """Return the page with what stands between the marks made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{generated()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
