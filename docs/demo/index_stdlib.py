"""Index the Python standard library with a queue and two worker processes.

One job per `.py` file reads, hashes and tokenizes it and counts lines, tokens, functions and
classes. Files that do not tokenize fail, are tried again and end as dead letters. At the end the
same is done without the queue, in a plain loop, and every figure is compared.

Exit status: 0 everything agrees; 1 it does not, or the work could not be done; 2 wrong usage;
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

_SHOWN_DIFFERENCES = 20


def main() -> int:
    """Run the demonstration; return the exit status."""
    options = _parse_options()
    folder = Path(tempfile.mkdtemp(prefix="taskito-demo-"))
    # The tasks find the queue by it, here and in the workers.
    os.environ["INDEX_STDLIB_FOLDER"] = str(folder)
    # At the end of the path, as `taskito worker` does it: nothing here can hide a real module.
    sys.path.append(str(Path(__file__).parent))
    try:
        return _index(folder, options.workers, options.limit)
    except KeyboardInterrupt:
        print("Interrupted: nothing was verified.", file=sys.stderr)
        return 130
    finally:
        if options.keep:
            print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder)


def _index(folder: Path, worker_count: int, limit: int | None) -> int:
    import producer
    from measure import LIBRARY, library_modules
    from report import Times, print_report, progress_bar, summary
    from rich.console import Console
    from tasks import EVIDENCE, MAX_RETRIES, queue
    from verify import Starts, count_plainly, differences
    from workers import WorkerProcesses, WorkerProcessesError

    console = Console(highlight=False)
    names = library_modules(limit)
    console.print(f"{len(names):,} files of {LIBRARY}, {worker_count} worker processes")
    with WorkerProcesses(worker_count, folder) as workers, queue:
        try:
            workers.start()
            producer.wait_for_workers(worker_count, workers)
            began = time.perf_counter()
            jobs = producer.enqueue(names)
            enqueued = time.perf_counter()
            producer.wait_for_end(len(jobs), workers, console)
            ended = time.perf_counter()
            queued = producer.fetch(names, jobs)
            fetched = time.perf_counter()
            workers.stop()
        except (producer.StalledError, WorkerProcessesError) as error:
            return _fail([str(error)], workers.output())
        except Exception:
            print(workers.output(), file=sys.stderr)
            raise
    starts = Starts.read(EVIDENCE)
    times = Times(enqueued - began, ended - enqueued, fetched - ended)
    print_report(console, queued, starts, times)
    with progress_bar(console) as progress:
        bar = progress.add_task("A plain loop counts again", total=len(names), note="")
        plain = count_plainly(progress.track(names, task_id=bar))
    found = differences(queued, plain, starts, max_retries=MAX_RETRIES)
    if found:
        return _fail(found, workers.output())
    console.print(summary(plain, starts))
    return 0


def _fail(reasons: list[str], output: str) -> int:
    """Print what is wrong and what the workers said; return the exit status."""
    print(output, file=sys.stderr)
    for reason in reasons[:_SHOWN_DIFFERENCES]:
        print(f"WRONG: {reason}", file=sys.stderr)
    if len(reasons) > _SHOWN_DIFFERENCES:
        print(f"... and {len(reasons) - _SHOWN_DIFFERENCES} more", file=sys.stderr)
    return 1


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Index the Python standard library with taskito.")
    parser.add_argument(
        "--workers", type=_positive, default=2, metavar="N", help="worker processes (default: 2)"
    )
    parser.add_argument(
        "--limit", type=_positive, metavar="FILES", help="only so many files, spread over all"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with the database")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
