"""The pickle serializer: opt-in, and never more than one kind of exception."""

from __future__ import annotations

import dataclasses
import pickle
import threading
from collections import OrderedDict
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from taskito.exceptions import SerializationError
from taskito.serializers import PickleSerializer


@dataclasses.dataclass
class Node:
    label: str
    following: Any = None


class Unwilling:
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class Harmful:
    def __reduce__(self) -> Any:
        return (int, ("x",))


@pytest.fixture
def serializer() -> PickleSerializer:
    return PickleSerializer()


@pytest.mark.parametrize(
    "value",
    [None, (1, [2]), {1: {2}}, Node("a", Node("b")), OrderedDict(a=1), Fraction(1, 3), Node, len],
    ids=repr,
)
def test_value_comes_back(serializer: PickleSerializer, value: object) -> None:
    data = serializer.dumps(value)
    assert data[:2] == b"\x80\x05"
    result = serializer.loads(memoryview(data))
    assert result == value
    assert type(result) is type(value)


def test_cycles_and_shared_parts_are_kept(serializer: PickleSerializer) -> None:
    node = Node("a")
    node.following = [node, node]
    result = serializer.loads(serializer.dumps(node))
    assert result.following == [result, result]
    assert result.following[0] is result


@pytest.mark.parametrize(
    "value", [lambda: None, threading.Lock(), Unwilling()], ids=["lambda", "lock", "own"]
)
def test_value_that_cannot_be_pickled_is_refused(
    serializer: PickleSerializer, value: object
) -> None:
    with pytest.raises(SerializationError, match="cannot pickle") as refusal:
        serializer.dumps([value])
    assert refusal.value.__cause__ is not None


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", b"\x80\x05", b"cno_such_module\nname\n.", pickle.dumps(Harmful())],
    ids=repr,
)
def test_malformed_payload_is_refused(serializer: PickleSerializer, data: bytes) -> None:
    with pytest.raises(SerializationError, match="cannot decode") as refusal:
        serializer.loads(data)
    assert refusal.value.__cause__ is not None


def test_payload_that_is_not_bytes_is_refused(serializer: PickleSerializer) -> None:
    with pytest.raises(SerializationError, match="must be bytes"):
        serializer.loads("text")  # type: ignore[arg-type]


def test_chain_of_objects_that_is_deep_only_along_the_way_that_pickle_goes_is_refused(
    serializer: PickleSerializer,
) -> None:
    nodes = [Node(str(i)) for i in range(5000)]
    for node, following in pairwise(nodes):
        node.following = following
    with pytest.raises(SerializationError, match="100 levels"):
        serializer.dumps(nodes)


def test_items_are_limited(serializer: PickleSerializer) -> None:
    with pytest.raises(SerializationError, match="100000"):
        serializer.dumps([[] for _ in range(100_001)])
