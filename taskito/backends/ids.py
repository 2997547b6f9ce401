"""Job ids for backends written in Python: UUIDv7 (RFC 9562, section 5.7) that carry a row number.

Layout, most significant bit first: 48 bits of Unix milliseconds, the version (4 bits, 7), the
upper 12 bits of the row number, the variant (2 bits, binary 10), its lower 28 bits, and 34 random
bits. So ids sort by time, and a store can find the row without an index. The native engine makes
the same.
"""

from __future__ import annotations

import random
import re

__all__ = ["MAX_SEQUENCE", "job_id_sequence", "new_job_id", "parse_job_id"]

MAX_SEQUENCE = (1 << 40) - 1
"""The largest row number that an id can carry."""

_LOWER_BITS = 28
_RANDOM_BITS = 34
_DIGITS = re.compile(r"[0-9a-f]{32}")
_DIGIT_COUNT = 32
_TEXT_LENGTH = 36


def new_job_id(wall_ms: int, sequence: int) -> str:
    """Make the id of the job in row ``sequence``.

    Args:
        wall_ms: When the job was created, in milliseconds since the Unix epoch.
        sequence: Its row number, 0 to ``MAX_SEQUENCE``.

    Returns:
        The id in its 36-character form.

    Raises:
        ValueError: The row number does not fit.

    Example:
        >>> job_id_sequence(new_job_id(1_700_000_000_000, 42))
        42
    """
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError(f"sequence: {sequence} is not between 0 and {MAX_SEQUENCE}")
    time = wall_ms & 0xFFFF_FFFF_FFFF
    high = (time << 16) | 0x7000 | (sequence >> _LOWER_BITS)
    low = (0b10 << 62) | ((sequence & ((1 << _LOWER_BITS) - 1)) << _RANDOM_BITS)
    return _to_text((high << 64) | low | random.getrandbits(_RANDOM_BITS))


def job_id_sequence(id: str) -> int:
    """Return the row number that an id made by ``new_job_id`` carries; of others, nonsense."""
    value = int(id.replace("-", ""), 16)
    upper = (value >> 64) & 0xFFF
    lower = (value >> _RANDOM_BITS) & ((1 << _LOWER_BITS) - 1)
    return (upper << _LOWER_BITS) | lower


def parse_job_id(text: str) -> str | None:
    """Return an id in its 36-character form, or None if ``text`` is not an id.

    Args:
        text: 32 hexadecimal digits in either case, with the hyphens of a UUID or without any.
    """
    digits = text.replace("-", "").lower()
    if len(text) not in (_DIGIT_COUNT, _TEXT_LENGTH) or not _DIGITS.fullmatch(digits):
        return None
    return _to_text(int(digits, 16))


def _to_text(value: int) -> str:
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
