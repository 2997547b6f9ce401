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
