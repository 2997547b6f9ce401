"""What taskito finds through the entry point."""

from __future__ import annotations

from collections.abc import Iterator

from taskito.backends import Backend, BackendOptions
from taskito.plugins import BackendFactory, hookimpl


@hookimpl
def taskito_register_backends() -> Iterator[BackendFactory]:
    """Offer the directory store for URLs such as ``directory:///var/lib/jobs``."""
    yield BackendFactory(
        scheme="directory",
        factory=_make,
        description="Jobs in a plain directory",
        api=1,
    )


def _make(url: str, options: BackendOptions) -> Backend:
    # Imported late: who lists the plugins does not pay for the store.
    from taskito_example.backend import DirectoryBackend

    return DirectoryBackend.from_url(url, options)
