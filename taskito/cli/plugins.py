"""``taskito plugins``."""

from __future__ import annotations

import dataclasses

import click

from taskito.cli.output import json_option, print_json, print_table

__all__ = ["plugins"]


@click.command()
@json_option
def plugins(*, as_json: bool) -> None:
    """List the plugins: where they come from, what they implement, what became of them.

    TASKITO_DISABLED_PLUGINS, a list of names with commas, leaves plugins out.
    """
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
