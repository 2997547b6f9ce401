"""Every serializer that taskito ships, and one from the documentation, held to the kit."""

from __future__ import annotations

import dataclasses
import enum
import json
import pickle
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskito.exceptions import SerializationError
from taskito.plugins.manager import plugin_manager
from taskito.serializers import (
    JsonSerializer,
    MsgpackSerializer,
    PickleSerializer,
    Registry,
    Serializer,
)
from taskito.testing.conformance import SerializerConformance
from taskito.testing.conformance.profiles import kit_settings
from taskito.testing.conformance.values import HASHABLE, PLAIN, PYTHON, nested

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "write-a-plugin.md"


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Pair:
    left: Any
    right: Any = None


MEMBERS = st.sampled_from([*Colour, *Access, Access(3), Access(0)])
REGISTERED = nested(HASHABLE | MEMBERS, Pair)[1]


class Shipped(SerializerConformance):
    max_depth = 100

    @pytest.fixture
    def serializer(self):
        return self.made

    @kit_settings()
    @given(depth=st.integers(1, 300), kinds=st.lists(st.sampled_from([list, dict]), min_size=1))
    def test_depth_decides_alone_whether_nesting_is_accepted(self, serializer, depth, kinds):
        value: object = 0
        for level in range(depth):
            value = [value] if kinds[level % len(kinds)] is list else {"k": value}
        if depth <= self.max_depth:
            assert serializer.loads(serializer.dumps(value)) == value
            return
        with pytest.raises(SerializationError, match="levels"):
            serializer.dumps(value)


class TestMsgpack(Shipped):
    made = MsgpackSerializer(Registry())
    for kind in (Colour, Access, Pair):
        made.register(kind, kind.__name__)
    values = REGISTERED

    @kit_settings()
    @given(depth=st.integers(1, 300), kinds=st.lists(st.sampled_from([tuple, Pair]), min_size=1))
    def test_extensions_count_as_levels(self, serializer, depth, kinds):
        value: object = 0
        for level in range(depth):
            value = (value,) if kinds[level % len(kinds)] is tuple else Pair(value)
        if depth <= self.max_depth:
            assert serializer.loads(serializer.dumps(value)) == value
            return
        with pytest.raises(SerializationError, match="levels"):
            serializer.dumps(value)

    @kit_settings()
    @given(number=st.decimals())
    @example(number=float("nan"))
    def test_special_numbers_are_kept(self, serializer, number):
        assert repr(serializer.loads(serializer.dumps([number]))) == repr([number])


class TestJson(Shipped):
    made = JsonSerializer()
    values = PLAIN

    @kit_settings()
    @given(value=PLAIN)
    def test_others_read_the_same_in_it(self, serializer, value):
        assert json.loads(serializer.dumps(value)) == value


class TestPickle(Shipped):
    made = PickleSerializer()
    values = REGISTERED

    harmless = st.binary(max_size=64).map(
        # Harmless only because the bytes hold no name of a class: a pickle can run any code.
        lambda data: (
            pickle.dumps([1, "a", (2.5,)], protocol=5)[:-8] + data.translate(None, b"ci\x8c\x93R")
        )
    )

    @kit_settings(share=4)
    @given(data=st.data())
    def test_any_bytes_are_refused_or_a_value_that_can_be_encoded(self, serializer, data):
        # It bounds nothing when it decodes, so it is only held to its one kind of exception.
        try:
            serializer.loads(data.draw(self.harmless))
        except SerializationError:
            return

    @pytest.mark.skip(reason="damage can name a class: a pickle can run any code")
    def test_damaged_bytes_are_refused_or_a_value_that_can_be_encoded(self): ...


def compressed() -> type[Serializer]:
    """Return the serializer of the how-to, as its reader writes it."""
    [code] = re.findall(
        r"```python\n(# taskito_compressed\.py\n.*?)```", HOW_TO.read_text(), re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(code, str(HOW_TO), "exec"), names)
    return names["CompressedSerializer"]


class TestCompressed(Shipped):
    """A plugin's serializer."""

    made = compressed()()
    values = PYTHON


def test_every_serializer_that_is_shipped_is_held_to_the_kit():
    held = {kind.made.name for kind in (TestMsgpack, TestJson, TestPickle)}
    assert held == {name for name, _ in plugin_manager().serializers().items()}


# Broken ones ------------------------------------------------------------------------------------


class Broken(JsonSerializer):
    name = "broken"


class MakesListsOfTuples(Broken):
    def dumps(self, value):
        return json.dumps(value, default=str).encode()


class MakesIntegersOfNumbers(Broken):
    def loads(self, data):
        super().loads(data)
        return json.loads(bytes(data), parse_float=lambda text: int(float(text)))


class LetsItsDecoderRaise(Broken):
    def loads(self, data):
        return json.loads(bytes(data))


class UsesUpTheStack(Broken):
    def dumps(self, value):
        return json.dumps(value).encode()


class Unpacks(Broken):
    def dumps(self, value):
        return zlib.compress(super().dumps(value))

    def loads(self, data):
        try:
            plain = zlib.decompress(data)
        except zlib.error as error:
            raise SerializationError("not compressed") from error
        return super().loads(plain)


class NeedsBytes(Broken):
    def loads(self, data):
        return super().loads(data if type(data) is bytes else b"null")


class ReadsWhatItCannotWrite(Broken):
    def loads(self, data):
        try:
            return super().loads(data)
        except SerializationError:
            return bytes(data)


@pytest.mark.parametrize(
    ("broken", "check", "arguments"),
    [
        (MakesListsOfTuples, "test_a_value_that_it_cannot_keep_is_refused", {}),
        (MakesIntegersOfNumbers, "test_a_value_comes_back_equal_and_of_the_same_types", {}),
        (
            LetsItsDecoderRaise,
            "test_any_bytes_are_refused_or_a_value_that_can_be_encoded",
            {},
        ),
        (
            UsesUpTheStack,
            "test_deep_nesting_is_kept_or_refused",
            {"container": "list", "depth": 100_000},
        ),
        (
            Unpacks,
            "test_hostile_bytes_neither_crash_nor_hang_nor_fill_the_memory",
            {"name": "a bomb for zlib"},
        ),
        (NeedsBytes, "test_a_view_of_the_bytes_will_do", {}),
        (
            ReadsWhatItCannotWrite,
            "test_any_bytes_are_refused_or_a_value_that_can_be_encoded",
            {},
        ),
    ],
)
def test_a_broken_serializer_fails_its_check(broken, check, arguments):
    run = getattr(SerializerConformance(), check)
    run(serializer=JsonSerializer(), **arguments)
    with pytest.raises((AssertionError, ValueError, RecursionError, ExceptionGroup)):
        run(serializer=broken(), **arguments)
