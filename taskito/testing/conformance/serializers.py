"""What every serializer promises, held against one of them.

A serializer decodes what it finds in the store, and anything may be in there. So half of the checks
are about values, and half about bytes that nobody encoded.
"""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import functools
import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito.exceptions import SerializationError
from taskito.serializers import Serializer
from taskito.testing.conformance.profiles import kit_settings
from taskito.testing.conformance.topic import Topic
from taskito.testing.conformance.values import PLAIN, PYTHON, fingerprint

__all__ = ["SerializerConformance"]

LONGEST_NAME = 255
THREADS = 4
DEPTHS = (50, 100, 101, 1_000, 100_000)
BOMB = 256 * 1024 * 1024
MOST_SECONDS = 10.0
"""How long the processor may work on one encoded value."""

_HEADS = st.sampled_from([*range(0x80, 0xA0), *range(0xC0, 0xE0), 0, 1, 2, 3, 16])
"""Bytes that mean something in binary formats: containers, lengths, extensions."""


HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "lists without end": lambda: b"\x91" * 100_000,
    "maps without end": lambda: b"\x81\x01" * 100_000,
    "lists of 65,535 in lists": lambda: b"\xdc\xff\xff" * 1_024,
    "lists of 100,000 in lists": lambda: b"\xdd\x00\x01\x86\xa0" * 1_024,
    "a list of 4 billion": lambda: b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion": lambda: b"\xdf\xff\xff\xff\xff",
    "bytes of 4 gigabytes": lambda: b"\xc6\xff\xff\xff\xff",
    "an extension of 4 gigabytes": lambda: b"\xc9\xff\xff\xff\xff\x01",
    "open brackets": lambda: b"[" * 100_000,
    "open braces": lambda: b'{"a":' * 50_000,
    "a number of 100,000 digits": lambda: b"1" * 100_000,
    "a number with a huge exponent": lambda: b"1e999999999",
    "not a number": lambda: b"NaN",
    "half of a character": lambda: b'"\xc3',
    "half of a pair": lambda: b'"\\ud800"',
    "text in UTF-16": lambda: '{"a": 1}'.encode("utf-16"),
    "a bomb for zlib": functools.cache(lambda: zlib.compress(bytes(BOMB), 9)),
    "a bomb for gzip": functools.cache(lambda: gzip.compress(bytes(BOMB), 9)),
}
"""Bytes that are small and ask for much, in several formats."""


class SerializerConformance(Topic):
    """Every check of a serializer; subclass it with the fixture ``serializer`` and run pytest.

    Attributes:
        values: What the serializer takes for certain; add what yours takes beyond plain data.
        arbitrary_bytes: What ``loads`` is tried with. Narrow it only for a format that is no
            defence against hostile bytes by its nature, as pickle is none.
        max_depth: How deep values may be nested; None if the serializer has no documented limit.
        most_memory: Bytes that ``loads`` may use for some hundred kilobytes of hostile input.

    Example:
        >>> import pytest
        >>> from taskito.serializers import JsonSerializer
        >>> class TestJson(SerializerConformance):
        ...     @pytest.fixture
        ...     def serializer(self):
        ...         return JsonSerializer()
    """

    stage = "serializer"
    topic = "serializer"

    values: ClassVar[st.SearchStrategy[Any]] = PLAIN
    arbitrary_bytes: ClassVar[st.SearchStrategy[bytes]] = st.one_of(
        st.binary(max_size=400),
        st.lists(st.one_of(_HEADS, st.integers(0, 255)), max_size=400).map(bytes),
        st.text(alphabet='[]{}",:\\ 01eE-.nulltrefasNI').map(str.encode),
    )
    max_depth: ClassVar[int | None] = None
    most_memory: ClassVar[int] = 64 * 1024 * 1024

    # Values -------------------------------------------------------------------------------------

    def test_it_has_a_name(self, serializer: Serializer) -> None:
        assert isinstance(serializer, Serializer)
        assert isinstance(serializer.name, str)
        assert 1 <= len(serializer.name) <= LONGEST_NAME
        assert serializer.name.isprintable()

    @kit_settings(share=2)
    @given(data=st.data())
    def test_a_value_comes_back_equal_and_of_the_same_types(
        self, serializer: Serializer, data: st.DataObject
    ) -> None:
        value = data.draw(self.values)
        encoded = serializer.dumps(value)
        assert type(encoded) is bytes
        decoded = serializer.loads(encoded)
        assert fingerprint(decoded) == fingerprint(value)
        assert decoded == value

    @kit_settings(share=2)
    @given(value=PYTHON | st.floats() | st.lists(st.decimals()))
    def test_a_value_that_it_cannot_keep_is_refused(
        self, serializer: Serializer, value: object
    ) -> None:
        try:
            encoded = serializer.dumps(value)
        except SerializationError:
            return
        assert fingerprint(serializer.loads(encoded)) == fingerprint(value)

    @pytest.mark.parametrize(
        "value",
        [object(), lambda: 0, iter(()), {"deep": [object()]}],
        ids=["object", "function", "iterator", "inside"],
    )
    def test_what_is_no_data_is_refused_or_comes_back(
        self, serializer: Serializer, value: object
    ) -> None:
        try:
            encoded = serializer.dumps(value)
        except SerializationError:
            return
        assert type(serializer.loads(encoded)) is type(value)

    @pytest.mark.parametrize("depth", DEPTHS)
    @pytest.mark.parametrize("container", ["list", "dict"])
    def test_deep_nesting_is_kept_or_refused(
        self, serializer: Serializer, container: str, depth: int
    ) -> None:
        value: Any = 0
        for _ in range(depth):
            value = [value] if container == "list" else {"k": value}
        try:
            encoded = serializer.dumps(value)
        except SerializationError:
            assert depth > (self.max_depth or DEPTHS[0]), f"{depth} levels are refused"
            return
        assert self.max_depth is None or depth <= self.max_depth, f"{depth} levels are accepted"
        decoded: Any = serializer.loads(encoded)
        for _ in range(depth):
            decoded = decoded[0] if container == "list" else decoded["k"]
        assert decoded == 0

    def test_a_value_that_holds_itself_is_refused(self, serializer: Serializer) -> None:
        value: list[object] = []
        value.append(value)
        try:
            encoded = serializer.dumps(value)
        except SerializationError:
            return
        decoded: Any = serializer.loads(encoded)
        assert decoded[0] is decoded

    @kit_settings()
    @given(data=st.data())
    def test_a_view_of_the_bytes_will_do(self, serializer: Serializer, data: st.DataObject) -> None:
        encoded = serializer.dumps(data.draw(self.values))
        view = memoryview(b"<" + encoded + b">")[1:-1]
        assert fingerprint(serializer.loads(view)) == fingerprint(serializer.loads(encoded))

    @kit_settings(share=0.2)
    @given(data=st.data())
    def test_threads_do_not_disturb_each_other(
        self, serializer: Serializer, data: st.DataObject
    ) -> None:
        values = data.draw(st.lists(self.values, min_size=THREADS, max_size=THREADS))

        def there_and_back(value: object) -> list[object]:
            return [fingerprint(serializer.loads(serializer.dumps(value))) for _ in range(20)]

        with ThreadPoolExecutor(THREADS) as pool:
            for value, prints in zip(values, pool.map(there_and_back, values), strict=True):
                assert prints == [fingerprint(value)] * len(prints)

    # Bytes --------------------------------------------------------------------------------------

    @kit_settings(share=4)
    @given(data=st.data())
    def test_any_bytes_are_refused_or_a_value_that_can_be_encoded(
        self, serializer: Serializer, data: st.DataObject
    ) -> None:
        self._check_bytes(serializer, data.draw(self.arbitrary_bytes))

    @kit_settings(share=4)
    @given(data=st.data())
    def test_damaged_bytes_are_refused_or_a_value_that_can_be_encoded(
        self, serializer: Serializer, data: st.DataObject
    ) -> None:
        damaged = bytearray(serializer.dumps(data.draw(self.values)))
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(damaged)))
            change = data.draw(st.sampled_from(["replace", "insert", "cut"]))
            byte = data.draw(_HEADS)
            if change == "insert" or not damaged:
                damaged.insert(position, byte)
            elif change == "cut":
                del damaged[position:]
            else:
                damaged[min(position, len(damaged) - 1)] = byte
        self._check_bytes(serializer, bytes(damaged))

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_bytes_neither_crash_nor_hang_nor_fill_the_memory(
        self, serializer: Serializer, name: str
    ) -> None:
        data = HOSTILE[name]()
        with _bounded(self.most_memory):
            try:
                serializer.loads(data)
            except SerializationError:
                return

    def _check_bytes(self, serializer: Serializer, data: bytes) -> None:
        with _bounded(self.most_memory):
            try:
                value = serializer.loads(data)
            except SerializationError:
                return
        assert fingerprint(serializer.loads(serializer.dumps(value))) == fingerprint(value)


@contextmanager
def _bounded(most_memory: int) -> Iterator[None]:
    """Bound the memory that Python allocates, and the time of the processor."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    began = time.thread_time()
    try:
        yield
        used = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not tracing:
            tracemalloc.stop()
    assert used <= most_memory, f"loads used {used >> 20} MiB, more than {most_memory >> 20}"
    taken = time.thread_time() - began
    assert taken <= MOST_SECONDS, f"loads took {taken:.1f} s of the processor"
