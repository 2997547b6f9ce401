"""Checks encoded msgpack before it is decoded: depth, number of items, declared lengths.

The decoder itself does not recurse, but it makes room for every declared length, and it accepts
1024 levels. Here the same limits as for encoding are applied to the bytes, without making a value.
"""

from __future__ import annotations

from taskito.serializers.limits import MAX_DEPTH, MAX_ITEMS, LimitExceededError

__all__ = ["check_encoded"]


def _fixed_sizes() -> list[int]:
    """Return, by head byte, the size of a value of fixed size with its head; 0 for the others."""
    sizes = [0] * 256
    for head in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC1, 0xC2, 0xC3):
        sizes[head] = 1
    for head in range(0xA0, 0xC0):
        sizes[head] = 1 + head - 0xA0
    for first, payload_sizes in (
        (0xCA, (4, 8)),  # floats
        (0xCC, (1, 2, 4, 8, 1, 2, 4, 8)),  # unsigned and signed integers
        (0xD4, (2, 3, 5, 9, 17)),  # extensions of fixed size, with their code
    ):
        for head, size in enumerate(payload_sizes, first):
            sizes[head] = 1 + size
    return sizes


_FIXED_SIZES = tuple(_fixed_sizes())
# By head byte: the size of the length that follows, and the bytes beyond that length.
_SIZED = {
    **{head: (size, 0) for head, size in zip(range(0xC4, 0xC7), (1, 2, 4), strict=True)},
    **{head: (size, 1) for head, size in zip(range(0xC7, 0xCA), (1, 2, 4), strict=True)},
    **{head: (size, 0) for head, size in zip(range(0xD9, 0xDC), (1, 2, 4), strict=True)},
}
# By head byte: the size of the count that follows, and the number of items per unit of the count.
_COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
_CONTAINER_HEADS = bytes((*range(0x80, 0xA0), *_COUNTED))


def check_encoded(data: bytes) -> None:
    """Check that encoded msgpack keeps the limits.

    A container takes at least one byte, so a payload with at most ``MAX_DEPTH`` bytes that could be
    the head of one can't be deeper; and every item takes a byte. Nearly all payloads are accepted
    by that alone, and only the others are read byte for byte.

    Args:
        data: The encoded value. Malformed data that keeps the limits is left to the decoder.

    Raises:
        LimitExceededError: It passes a limit.
        ValueError: It declares more items than there are bytes left.
    """
    size = len(data)
    if size <= MAX_ITEMS and size - len(data.translate(None, _CONTAINER_HEADS)) <= MAX_DEPTH:
        return
    _scan(data)


def _scan(data: bytes) -> None:
    end = len(data)
    position = items = 0
    left = 1  # items that the innermost open container still lacks
    outer: list[int] = []  # the same for the containers around it
    while True:
        while not left:
            if not outer:
                return
            left = outer.pop()
        left -= 1
        if position >= end:
            raise ValueError("it ends too early")
        head = data[position]
        fixed = _FIXED_SIZES[head]
        if fixed:
            position += fixed
            continue
        sized = _SIZED.get(head)
        if sized is not None:
            width, extra = sized
            start = position + 1
            position = start + width + extra
            position += int.from_bytes(data[start : start + width], "big")
            continue
        counted = _COUNTED.get(head)
        if counted is not None:
            width, factor = counted
            start = position + 1
            position = start + width
            count = int.from_bytes(data[start:position], "big") * factor
        else:
            count = (head & 0x0F) * (1 if head & 0x10 else 2)
            position += 1
        items += count
        if items > MAX_ITEMS:
            raise LimitExceededError(f"it holds more than {MAX_ITEMS} items in all")
        if count > end - position:
            raise ValueError("it declares more items than it has bytes")
        outer.append(left)
        if len(outer) > MAX_DEPTH:
            raise LimitExceededError(f"it is nested more than {MAX_DEPTH} levels deep")
        left = count
