"""The marker with which a plugin marks its hook implementations.

It stands alone at the lowest layer, so that a plugin can import it at no cost.

Example:
    >>> from taskito.hookimpl import hookimpl
    >>> @hookimpl
    ... def taskito_register_serializers():
    ...     return []
"""

from __future__ import annotations

import pluggy

__all__ = ["PROJECT_NAME", "hookimpl"]

PROJECT_NAME = "taskito"
"""The name of the pluggy project, and of the entry-point group in which plugins are found."""

hookimpl = pluggy.HookimplMarker(PROJECT_NAME)
"""Marks a function as the implementation of the hook that has its name."""
