"""How something that goes away says so; the rule is in docs/reference/stability.md."""

from __future__ import annotations

__all__ = ["TaskitoDeprecationWarning", "deprecation"]


class TaskitoDeprecationWarning(DeprecationWarning):
    """Something goes away; the message names what to use instead and in which version it goes."""


def deprecation(what: str, *, instead: str, removed_in: str) -> TaskitoDeprecationWarning:
    """Make the warning for something that goes away.

    Args:
        what: The hook, argument or function, as its user wrote it.
        instead: What to use.
        removed_in: The version of taskito in which it goes.

    Returns:
        The warning, for ``warnings.warn``, or for ``warn_on_impl`` and ``warn_on_impl_args`` of a
        hook's specification.

    Example:
        >>> str(deprecation("resize(w=)", instead="width=", removed_in="0.4"))
        'resize(w=) is deprecated and goes in taskito 0.4; use width='
    """
    return TaskitoDeprecationWarning(
        f"{what} is deprecated and goes in taskito {removed_in}; use {instead}"
    )
