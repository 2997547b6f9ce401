"""What is shown: progress bars, and the tables at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from measure import ModuleFigures
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from verify import DeadLetter, PlainIndex, QueuedIndex, Starts

__all__ = ["LOOKS_PER_SECOND", "Times", "print_report", "progress_bar", "summary"]

LOOKS_PER_SECOND = 5
_LARGEST = 10


@dataclass(frozen=True, slots=True)
class Times:
    """How long each part took, in seconds."""

    enqueue: float
    work: float
    fetch: float


def progress_bar(console: Console) -> Progress:
    """Return a progress bar whose tasks have a field `note`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        refresh_per_second=LOOKS_PER_SECOND,
    )


def print_report(console: Console, index: QueuedIndex, starts: Starts, times: Times) -> None:
    """Print totals, the largest modules, the dead letters and how fast it went."""
    console.print(_totals(index.figures, len(index.dead_letters)))
    console.print(_largest(index.figures))
    if index.dead_letters:
        console.print(_dead_letters(index.dead_letters))
    else:
        console.print("No dead letters: this library comes without its broken test files.")
    console.print(_speed(len(index.figures) + len(index.dead_letters), starts, times))


def summary(plain: PlainIndex, starts: Starts) -> str:
    """Return the last words of a run in which everything agreed."""
    counts = ", ".join(f"{count:,} {what}" for what, count in _sums(plain.figures).items())
    return (
        f"Verified: {len(plain.figures):,} files indexed ({counts}) and {len(plain.errors):,} dead "
        f"letters in {sum(starts.by_module.values()):,} starts; the plain loop agrees on every "
        "figure, and no job ran twice."
    )


def _sums(figures: Mapping[str, ModuleFigures]) -> dict[str, int]:
    values = figures.values()
    return {
        "bytes": sum(one["bytes"] for one in values),
        "lines": sum(one["lines"] for one in values),
        "tokens": sum(one["tokens"] for one in values),
        "functions": sum(one["functions"] for one in values),
        "classes": sum(one["classes"] for one in values),
    }


def _totals(figures: Mapping[str, ModuleFigures], broken: int) -> Table:
    table = Table("Total", title="The standard library", title_justify="left")
    table.add_column("Count", justify="right")
    table.add_row("files", f"{len(figures) + broken:,}")
    table.add_row("indexed", f"{len(figures):,}")
    table.add_row("dead letters", f"{broken:,}")
    for what, count in _sums(figures).items():
        table.add_row(what, f"{count:,}")
    return table


def _largest(figures: Mapping[str, ModuleFigures]) -> Table:
    table = Table(title="The largest modules", title_justify="left")
    table.add_column("Module", overflow="fold")
    for heading in ("Lines", "Tokens", "Functions", "Classes"):
        table.add_column(heading, justify="right")
    table.add_column("SHA-256")
    by_size = sorted(figures.items(), key=lambda item: (-item[1]["lines"], item[0]))
    for name, module in by_size[:_LARGEST]:
        counts = (module["lines"], module["tokens"], module["functions"], module["classes"])
        table.add_row(escape(name), *(f"{count:,}" for count in counts), module["sha256"][:12])
    return table


def _dead_letters(dead_letters: Mapping[str, DeadLetter]) -> Table:
    table = Table(title="Dead letters", title_justify="left")
    table.add_column("File", overflow="fold")
    table.add_column("Error", overflow="fold")
    table.add_column("Attempts", justify="right")
    for name, letter in sorted(dead_letters.items()):
        table.add_row(escape(name), escape(letter.error), str(letter.attempts))
    return table


def _speed(jobs: int, starts: Starts, times: Times) -> Table:
    table = Table("Part", title="How fast it went", title_justify="left")
    for heading in ("Jobs", "Seconds", "Jobs per second"):
        table.add_column(heading, justify="right")
    parts = {"enqueue": times.enqueue, "work": times.work, "fetch the results": times.fetch}
    for part, seconds in parts.items():
        table.add_row(part, f"{jobs:,}", f"{seconds:.2f}", f"{jobs / seconds:,.0f}")
    for process, count in sorted(starts.by_process.items()):
        table.add_row(f"worker process {process}", f"{count:,} starts", "", "")
    return table
