"""``taskito new-plugin``: a package that is installed, tested and changed at once."""

from __future__ import annotations

import importlib.metadata
import keyword
import re
import shutil
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import click

__all__ = ["new_plugin"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX = ".template"
_COMMON = "common"


@dataclass(frozen=True)
class _Names:
    """What stands in the files for the plugin's name.

    Attributes:
        name: As it was given, without ``taskito-``.
    """

    name: str

    def fill(self, text: str) -> str:
        """Put the names into a template."""
        title = "".join(part.capitalize() for part in self.name.split("-"))
        return Template(text).substitute(
            name=self.name,
            package=f"taskito-{self.name}",
            module=f"taskito_{self.name.replace('-', '_')}",
            title=title,
            scheme=self.name,
            variable=f"TASKITO_{self.name.replace('-', '_').upper()}_FILE",
            taskito=importlib.metadata.version("taskito"),
        )


@click.command("new-plugin")
@click.argument("name")
@click.option("--backend", "kind", flag_value="backend", help="A store for jobs.")
@click.option("--serializer", "kind", flag_value="serializer", help="A form for payloads.")
@click.option("--hooks", "kind", flag_value="hooks", help="An observer of what happens to jobs.")
@click.option("--command", "kind", flag_value="command", help="A command of `taskito`.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    help="Where the package's folder is made; the current folder by default.",
)
def new_plugin(name: str, kind: str | None, directory: Path) -> None:
    """Write the package taskito-NAME, a plugin with tests that pass, to begin with.

    Then: pip install -e 'taskito-NAME[test]' and pytest taskito-NAME.
    """
    if kind is None:
        raise click.UsageError(
            "say what the plugin offers: --backend, --serializer, --hooks or --command"
        )
    short = name.removeprefix("taskito-")
    if not _NAME.fullmatch(short) or keyword.iskeyword(short):
        raise click.BadParameter(
            f"{name!r} is no name for a package; give lower-case letters, digits and single "
            f"hyphens, a letter first",
            param_hint="'NAME'",
        )
    target = directory / f"taskito-{short}"
    if target.exists():
        raise click.ClickException(f"{target} exists already; nothing was written")
    templates = files("taskito.cli") / "templates"
    try:
        for folder in (_COMMON, kind):
            _write(templates / folder, target, _Names(short))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    for path in sorted(target.rglob("*")):
        if path.is_file():
            click.echo(str(path))


def _write(source: Traversable, target: Path, names: _Names) -> None:
    """Write a folder of templates; a name in a file's own name is put in, too."""
    for entry in source.iterdir():
        if entry.is_dir():
            _write(entry, target / names.fill(entry.name.replace("+", "$")), names)
        elif entry.name.endswith(_SUFFIX):
            target.mkdir(parents=True, exist_ok=True)
            name = names.fill(entry.name.removesuffix(_SUFFIX).replace("+", "$"))
            text = names.fill(entry.read_text(encoding="utf-8"))
            (target / name).write_text(text, encoding="utf-8")
