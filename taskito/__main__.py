"""``python -m taskito``: the command ``taskito``."""

from __future__ import annotations

from taskito.cli import main

if __name__ == "__main__":
    main(prog_name="taskito")
