"""What commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = [
    "facts",
    "instant",
    "json_option",
    "print_json",
    "print_table",
    "print_text",
    "show",
    "table",
]

_UNBOUNDED = 10_000

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for scripts."
)
"""The option ``--json``, as the argument ``as_json``."""


def print_json(value: object) -> None:
    """Print ``value`` as JSON; what JSON does not know becomes text."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; numbers are right-aligned, and nothing in a cell is taken for markup."""
    # Imported where something is drawn: scripts that read JSON need not wait for it.
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, pad_edge=False, header_style="bold")
    cells = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numbers = bool(cells) and all(isinstance(row[index], int) for row in cells)
        result.add_column(
            column,
            justify="right" if numbers else "left",
            no_wrap=True,
            # An id has to be copied whole; of other texts the beginning tells enough.
            min_width=max((len(str(row[index])) for row in cells), default=0)
            if column == "id"
            else None,
        )
    for row in cells:
        result.add_row(*(Text(_shown(cell)) for cell in row))
    return result


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "nothing"
) -> None:
    """Print a table, or ``empty`` if it has no rows."""
    rows = list(rows)
    if not rows:
        click.echo(empty)
        return
    show(table(columns, rows))


def show(content: RenderableType) -> None:
    """Print tables as wide as the terminal, or as wide as they are into a file or a pipe."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(content)
        return
    console.width = _UNBOUNDED
    with console.capture() as captured:
        console.print(content)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def facts(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair a line, the values in a column."""
    width = max(map(len, pairs), default=0) + 2
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}{_shown(value)}".rstrip())


def print_text(text: str) -> None:
    """Print somebody's text of several lines."""
    for line in text.rstrip().splitlines():
        click.echo(_shown(line))


def instant(milliseconds: object) -> str:
    """Return milliseconds since the epoch as text in the local time zone; empty for None."""
    if not isinstance(milliseconds, (int, float)):
        return "" if milliseconds is None else str(milliseconds)
    moment = datetime.fromtimestamp(milliseconds / 1_000, UTC).astimezone()
    return moment.isoformat(sep=" ", timespec="seconds")


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    # A control character in somebody's data must not reach the terminal.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value))
