"""How long to wait before something that died is started again."""

from __future__ import annotations

__all__ = ["Backoff"]


class Backoff:
    """Doubles the wait with each death in a row, up to a ceiling.

    Args:
        first: Seconds before the first restart.
        ceiling: No wait is longer.
        healthy: What lived at least so many seconds has done well: the next wait is the first one.
    """

    def __init__(self, first: float = 0.1, ceiling: float = 30.0, healthy: float = 60.0) -> None:
        self._first = first
        self._ceiling = ceiling
        self._healthy = healthy
        self._deaths = 0

    def next_wait(self, lived: float) -> float:
        """Count a death and return the seconds to wait.

        Args:
            lived: For how many seconds it had been healthy.
        """
        if lived >= self._healthy:
            self._deaths = 0
        # Bounded before it is used: no float holds 2 to the power of a very large number.
        wait = min(self._ceiling, self._first * 2.0 ** min(self._deaths, 64))
        self._deaths += 1
        return wait
