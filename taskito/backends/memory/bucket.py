"""A limit as the store keeps it, with the token bucket of its rate.

The bucket counts in whole numbers: a token is worth ``period_ms`` units, and ``count`` units flow
in per millisecond of steady time. So no fraction of a token is ever lost or invented.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from taskito.backends.params import Rate

__all__ = ["Bucket", "Limit"]


@dataclass(frozen=True, slots=True)
class Bucket:
    """How full the bucket of a rate is.

    Attributes:
        rate: What flows in, and how much it holds.
        level: In units.
        at_ms: The steady time at which that was so.
    """

    rate: Rate
    level: int
    at_ms: int

    @property
    def tokens(self) -> int:
        """Whole tokens."""
        return self.level // self.rate.period_ms

    @property
    def wait_ms(self) -> int:
        """How long until there is a token."""
        missing = max(0, self.rate.period_ms - self.level)
        return -(-missing // self.rate.count)

    def at(self, now_ms: int) -> Bucket:
        """Return the bucket at a later time."""
        passed = max(0, now_ms - self.at_ms)
        return replace(self, at_ms=now_ms).with_units(self.rate.count * passed)

    def with_units(self, units: int) -> Bucket:
        """Return the bucket with more or less in it; what does not fit is lost."""
        return replace(self, level=min(self.level + units, self.rate.burst * self.rate.period_ms))

    def under(self, rate: Rate) -> Bucket:
        """Return the bucket under another rate: its tokens stay, a new rate is no gift."""
        return Bucket(rate, min(self.tokens, rate.burst) * rate.period_ms, self.at_ms)


@dataclass(slots=True)
class Limit:
    """What a task or a queue may use; see ``limits``."""

    max_concurrent: int | None = None
    bucket: Bucket | None = None
