"""Finding a backend by its URL."""

from __future__ import annotations

import difflib

from taskito.backends.base import BACKEND_API, Backend, BackendOptions
from taskito.exceptions import ConfigurationError
from taskito.plugins.manager import Offer, PluginManager, plugin_manager
from taskito.plugins.types import BackendFactory

__all__ = ["open_backend"]


def open_backend(
    backend: str | Backend,
    options: BackendOptions | None = None,
    *,
    plugins: PluginManager | None = None,
) -> Backend:
    """Make the backend of a URL, or take the one given.

    The store itself is opened by ``Backend.open`` or the first operation, so nothing native exists
    yet when this returns.

    Args:
        backend: A URL such as ``"sqlite:///tasks.db"`` or ``"memory://"``, or a ``Backend``, which
            has options of its own and is returned as it is.
        options: What the queue wants of it.
        plugins: Where to look for the scheme; the plugins of this process by default.

    Raises:
        ConfigurationError: The URL is malformed, nobody offers its scheme, or the backend was
            written for another version of the seam.
        CapabilityError: A clock is given and the backend cannot have it replaced.

    Example:
        >>> open_backend("memory://").name
        'memory'
    """
    if isinstance(backend, Backend):
        return backend
    if not isinstance(backend, str):
        raise ConfigurationError(
            f"backend: {backend!r} is neither a URL nor a taskito.backends.Backend"
        )
    options = options if options is not None else BackendOptions()
    scheme, separator, _ = backend.partition("://")
    if not separator:
        raise ConfigurationError(
            f"backend: {backend!r} is not a URL; write sqlite:///{backend} for a file of this name"
        )
    offer = _find(scheme.lower(), plugins or plugin_manager())
    _check_version(offer)
    made = offer.item.factory(backend, options)
    if not isinstance(made, Backend):
        raise ConfigurationError(
            f"backend: the {offer.plugin} made {made!r} for {scheme}://, which is not a "
            "taskito.backends.Backend"
        )
    if options.clock is not None:
        made.capabilities.require("virtual_time", "replacing the clock", made.name)
    return made


def _find(scheme: str, plugins: PluginManager) -> Offer[BackendFactory]:
    offers = plugins.backends()
    offer = offers.get(scheme)
    if offer is not None:
        return offer
    close = difflib.get_close_matches(scheme, offers, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigurationError(
        f"backend: no plugin offers the scheme {scheme!r}.{hint} Known are "
        f"{', '.join(sorted(offers))}; `taskito plugins` shows plugins that were left out"
    )


def _check_version(offer: Offer[BackendFactory]) -> None:
    api = offer.item.api
    if api is not None and api != BACKEND_API:
        older = "the plugin" if api < BACKEND_API else "taskito"
        raise ConfigurationError(
            f"backend: the {offer.plugin} offers {offer.item.scheme!r} for version {api} of the "
            f"backend interface, this taskito has version {BACKEND_API}; install a newer version "
            f"of {older}"
        )
