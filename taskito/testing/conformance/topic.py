"""What a check is about: its stage, its topic, and the capabilities that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

__all__ = ["Topic", "TopicOfCheck", "needs", "topic_of"]

_Check = TypeVar("_Check", bound=Callable[..., object])
_NEEDS = "_taskito_needs"


class Topic:
    """Base of a class of checks that ``BackendConformance`` mixes in.

    The three attributes count only for checks that are written in the same class.
    """

    stage: ClassVar[str] = "contract"
    """The part of the kit, as the scorecard names it."""

    topic: ClassVar[str] = ""
    """What the checks of this class are about."""

    needed: ClassVar[tuple[str, ...]] = ()
    """The capabilities without which they are skipped; that the use of an undeclared capability is
    refused is checked apart."""


@dataclass(frozen=True, slots=True)
class TopicOfCheck:
    """Where one check belongs, and the capabilities that it needs."""

    stage: str
    name: str
    needs: tuple[str, ...]


def needs(*capabilities: str) -> Callable[[_Check], _Check]:
    """Mark one check as being about these capabilities, beyond those of its class.

    Example:
        >>> @needs("unique")
        ... def test_a_key(self, backend): ...
    """

    def mark(check: _Check) -> _Check:
        setattr(check, _NEEDS, capabilities)
        return check

    return mark


def topic_of(tests: type, check: str) -> TopicOfCheck:
    """Return where the check of this name belongs.

    A subclass may replace a check; it stays where the original was.

    Args:
        tests: The class that pytest collected.
        check: The name of the test function.
    """
    own: tuple[str, ...] = ()
    for owner in tests.__mro__:
        if check not in vars(owner):
            continue
        own = own or getattr(vars(owner)[check], _NEEDS, ())
        if issubclass(owner, Topic) and vars(owner).get("topic"):
            return TopicOfCheck(owner.stage, owner.topic, (*owner.needed, *own))
    return TopicOfCheck("own", tests.__name__, own)
