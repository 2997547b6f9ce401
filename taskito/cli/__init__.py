"""The command ``taskito``.

Its commands come from plugins: ``taskito.cli.commands`` offers those that taskito ships, through
the same hook as a stranger's plugin offers its own.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from taskito.exceptions import TaskitoError

__all__ = ["main"]

_OWN = "taskito"


class _PluginGroup(click.Group):
    """A group whose commands are those of the plugins; errors of taskito are shown in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return sorted(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        del ctx
        return _commands().get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands under the names of the packages that they come from."""
        from taskito.plugins.manager import plugin_manager

        offers = plugin_manager().commands()
        sections: dict[str, list[tuple[str, str]]] = {_OWN: []}
        limit = formatter.width - 6 - max(map(len, offers), default=0)
        for name in sorted(offers):
            offer = offers[name]
            if not offer.item.hidden:
                rows = sections.setdefault(offer.distribution, [])
                rows.append((name, offer.item.get_short_help_str(limit)))
        del ctx
        for distribution, rows in sorted(sections.items(), key=lambda item: item[0] != _OWN):
            if rows:
                title = "Commands" if distribution == _OWN else f"Commands of {distribution}"
                with formatter.section(title):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what taskito raises becomes a message and exit status 1."""
        try:
            return super().invoke(ctx)
        except TaskitoError as error:
            raise click.ClickException(_explain(error)) from error


def _commands() -> dict[str, click.Command]:
    from taskito.plugins.manager import plugin_manager

    return {name: offer.item for name, offer in plugin_manager().commands().items()}


def _explain(error: TaskitoError) -> str:
    return f"{type(error).__name__}: {error}"


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        python = ".".join(map(str, sys.version_info[:3]))
        click.echo(f"taskito {version('taskito')} (Python {python})")
        ctx.exit()


@click.group(
    cls=_PluginGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def main() -> None:
    """Run and look after background jobs.

    Most commands work on the queue of an application, which --app names: 'module:attribute'.

    Exit status: 0 done; 1 it could not be done, with the reason on standard error; 2 wrong usage.
    """
