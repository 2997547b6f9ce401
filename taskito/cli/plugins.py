"""``taskito plugins``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from taskito.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from taskito.plugins.types import PluginInfo

__all__ = ["plugins"]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def plugins(context: click.Context, *, as_json: bool) -> None:
    """See which plugins there are, and what is wrong with them; without a subcommand, list them.

    TASKITO_DISABLED_PLUGINS, a list of names with commas, leaves plugins out.
    TASKITO_TRACE_PLUGINS=1 writes each call of a hook to standard error.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_plugins, as_json=as_json)


@plugins.command("list")
@json_option
def list_plugins(*, as_json: bool) -> None:
    """List the plugins: where they come from, what they implement, what became of them."""
    from taskito.plugins.manager import plugin_manager

    found = plugin_manager().plugins()
    if as_json:
        print_json([dataclasses.asdict(plugin) for plugin in found])
        return
    print_table(
        ("name", "from", "version", "status", "hooks"),
        (
            (
                plugin.name,
                plugin.distribution,
                plugin.version,
                plugin.status if plugin.reason is None else f"{plugin.status}: {plugin.reason}",
                plugin.hooks,
            )
            for plugin in found
        ),
        empty="no plugins",
    )


@plugins.command("check")
@json_option
def check_plugins(*, as_json: bool) -> None:
    """Load every plugin, call its hooks, make its serializers, and say what is wrong.

    The exit status is 1 if a plugin, or a part of it, is left out.
    """
    import warnings

    from taskito.exceptions import ConfigurationError
    from taskito.plugins.manager import plugin_manager
    from taskito.plugins.serializers import get_serializer
    from taskito.plugins.types import PluginStatus, PluginWarning

    manager = plugin_manager()
    with warnings.catch_warnings():
        # Each of them is one of the reasons that are printed below.
        warnings.simplefilter("ignore", PluginWarning)
        manager.plugins()
        manager.middleware()
        manager.scheduler()
    problems = {
        title(plugin): plugin.reason
        for plugin in manager.plugins()
        if plugin.reason is not None and plugin.status is not PluginStatus.DISABLED
    }
    for name, offer in manager.serializers().items():
        try:
            get_serializer(name, plugins=manager)
        except ConfigurationError as error:
            # A package that is missing is a reason of its own; builtin ones need none.
            problems.setdefault(offer.plugin, str(error))
        except Exception as error:  # noqa: BLE001 - it is a stranger's code
            reason = f"serializer {name!r} cannot be made: {type(error).__name__}: {error}"
            problems.setdefault(offer.plugin, reason)
    if as_json:
        print_json(problems)
    elif not problems:
        click.echo(f"{len(manager.plugins())} plugins are well")
    if problems:
        for plugin, reason in problems.items():
            click.echo(f"{plugin}: {reason}", err=True)
        raise click.exceptions.Exit(1)


def title(plugin: PluginInfo) -> str:
    """Return how messages name a plugin."""
    return f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version}"
