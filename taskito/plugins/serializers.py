"""Finding a serializer by its name."""

from __future__ import annotations

import difflib

from taskito.exceptions import ConfigurationError
from taskito.plugins.manager import PluginManager, plugin_manager
from taskito.serializers.base import Serializer

__all__ = ["get_serializer"]


def get_serializer(name: str, *, plugins: PluginManager | None = None) -> Serializer:
    """Make the serializer of this name.

    Args:
        name: ``"msgpack"``, ``"json"``, ``"pickle"``, or a name that a plugin offers.
        plugins: Where to look; the plugins of this process by default.

    Returns:
        A fresh serializer.

    Raises:
        ConfigurationError: No plugin offers the name, or what it offers is not a serializer of
            that name.

    Example:
        >>> get_serializer("json").name
        'json'
    """
    offers = (plugins or plugin_manager()).serializers()
    offer = offers.get(name)
    if offer is None:
        close = difflib.get_close_matches(str(name), offers, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(
            f"serializer: no plugin offers {name!r}.{hint} Known are "
            f"{', '.join(sorted(offers))}; `taskito plugins` shows plugins that were left out"
        )
    # A stranger's factory may return anything, whatever its annotations say.
    serializer: object = offer.item.factory()
    if not isinstance(serializer, Serializer) or serializer.name != name:
        raise ConfigurationError(
            f"serializer: the {offer.plugin} offers {name!r} but made {serializer!r}, "
            "which is not a taskito.serializers.Serializer of that name"
        )
    return serializer
