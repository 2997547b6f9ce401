"""Check an installed release wheel, not the one with failpoints that the other tests run against.

Run by ``make smoke`` with the interpreter of a virtual environment that holds the wheel alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

QUICKSTART = """
from taskito import Queue
queue = Queue(db_path="tasks.db")

@queue.task()
def add(a: int, b: int) -> int:
    return a + b

job = add.delay(2, 3)
import threading
threading.Thread(target=queue.run_worker, daemon=True).start()
print(job.result(timeout=10))
"""


def main() -> None:
    """Run the quickstart, look at the library it brings and at what was installed."""
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            [sys.executable, "-c", QUICKSTART],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if (ended.returncode, ended.stdout, ended.stderr) != (0, "5\n", ""):
        raise SystemExit(f"the quickstart failed: {ended}")

    from taskito import _core

    if tuple(map(int, _core.SQLITE_VERSION.split("."))) < (3, 51, 3):
        raise SystemExit(f"SQLite {_core.SQLITE_VERSION} has the bug that 3.51.3 mended")
    installed = distribution("taskito")
    if installed.version != _core.ENGINE_VERSION:
        raise SystemExit(f"wheel {installed.version} brings engine {_core.ENGINE_VERSION}")
    for name in ("py.typed", "_core.pyi"):
        if not (Path(_core.__file__).parent / name).is_file():
            raise SystemExit(f"{name} is missing from the wheel")
    script = Path(sys.executable).with_name("taskito")
    subprocess.run([script, "--help"], check=True, stdout=subprocess.DEVNULL, timeout=60)
    print(f"the release wheel works: taskito {installed.version}, SQLite {_core.SQLITE_VERSION}")


if __name__ == "__main__":
    main()
