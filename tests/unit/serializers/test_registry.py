"""Registered classes: Enums and dataclasses that travel by name."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

import taskito.serializers
from taskito.exceptions import SerializationError
from taskito.serializers import MsgpackSerializer, Registry


class Colour(enum.Enum):
    RED = "r"
    CRIMSON = "r"  # noqa: PIE796 - an alias
    BLUE = (1, 2)


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    HELLO = "hello"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    left: object
    right: object


@dataclasses.dataclass
class Circle:
    radius: float
    area: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.area = 3 * self.radius**2


@pytest.fixture
def serializer() -> MsgpackSerializer:
    serializer = MsgpackSerializer(Registry())
    for kind in (Colour, Number, Word, Access, Point, Pair, Circle):
        serializer.register(kind)
    return serializer


@pytest.mark.parametrize(
    "member",
    [*Colour, Number.ONE, Word.HELLO, Access.READ, Access.READ | Access.WRITE, Access(0)],
    ids=repr,
)
def test_member_comes_back_as_itself(serializer: MsgpackSerializer, member: enum.Enum) -> None:
    assert serializer.loads(serializer.dumps(member)) is member
    assert serializer.loads(serializer.dumps({member: [member]})) == {member: [member]}


@pytest.mark.parametrize(
    "value",
    [
        Point(1),
        Point(1, Point(2, (Colour.RED,)), ["a"]),
        Pair(1, Pair(frozenset({2}), None)),
        {Pair(1, "a"): {Pair(2, "b")}},
        Circle(2.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_dataclass_comes_back_equal(serializer: MsgpackSerializer, value: object) -> None:
    result = serializer.loads(serializer.dumps(value))
    assert result == value
    assert type(result) is type(value)


def test_depth_of_dataclasses_is_counted_like_that_of_lists(serializer: MsgpackSerializer) -> None:
    value: object = 1
    for _ in range(100):
        value = Pair(value, ())
    # The innermost pair holds an empty tuple, which is a level of its own.
    with pytest.raises(SerializationError, match="100 levels"):
        serializer.dumps(value)
    assert isinstance(value, Pair)
    assert serializer.loads(serializer.dumps(value.left)) == value.left


@pytest.mark.parametrize("value", [Point(1), Colour.RED, Number.ONE, Word.HELLO], ids=repr)
def test_class_that_is_not_registered_is_refused_with_advice(value: object) -> None:
    with pytest.raises(SerializationError) as refusal:
        MsgpackSerializer(Registry()).dumps([[], {"a": value}])
    name = type(value).__qualname__
    assert "value[1]['a']" in str(refusal.value)
    assert f"taskito.serializers.register({name})" in str(refusal.value)


@pytest.mark.parametrize("value", [Point(1), Colour.RED], ids=repr)
def test_name_that_is_not_registered_is_refused_when_decoding(
    serializer: MsgpackSerializer, value: object
) -> None:
    data = serializer.dumps(value)
    with pytest.raises(SerializationError, match=f"{type(value).__qualname__}' is not registered"):
        MsgpackSerializer(Registry()).loads(data)


def test_default_registry_serves_every_serializer() -> None:
    @taskito.serializers.register
    class Local(enum.Enum):
        A = 1

    assert MsgpackSerializer().loads(MsgpackSerializer().dumps(Local.A)) is Local.A
    assert taskito.serializers.register(Local) is Local


def test_registration_with_a_serializer_stays_with_it() -> None:
    name = f"private-{uuid.uuid4()}"
    first, second = MsgpackSerializer(), MsgpackSerializer()
    first.register(Access, name=name)
    assert first.loads(first.dumps(Access.READ)) is Access.READ
    with pytest.raises(SerializationError, match="not registered"):
        second.dumps(Access.READ)


def test_conflicting_registrations_are_refused_and_change_nothing() -> None:
    registry = Registry()
    registry.register(Colour, "name")
    registry.register(Colour, "name")
    with pytest.raises(SerializationError, match="already registered for"):
        registry.register(Access, "name")
    with pytest.raises(SerializationError, match="already registered as 'name'"):
        registry.register(Colour, "other")
    assert registry.find_kind(Access) is None
    assert registry.find_name("other") is None
    above = Registry(below=registry)
    with pytest.raises(SerializationError, match="already registered for"):
        above.register(Access, "name")


@pytest.mark.parametrize("kind", [int, dict, object, "text", Point(1), None], ids=repr)
def test_only_enums_and_dataclasses_can_be_registered(kind: Any) -> None:
    with pytest.raises(SerializationError, match="only Enums and dataclasses"):
        Registry().register(kind)


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", 5], ids=repr)
def test_unsuitable_name_is_refused(name: Any) -> None:
    with pytest.raises(SerializationError, match="printable"):
        Registry().register(Colour, name)


def test_dataclass_that_derives_from_a_built_in_type_is_refused() -> None:
    @dataclasses.dataclass
    class Odd(dict):  # type: ignore[type-arg]
        x: int = 1

    with pytest.raises(SerializationError, match="built-in type"):
        Registry().register(Odd)


def test_field_that_cannot_be_read_is_named(serializer: MsgpackSerializer) -> None:
    circle = Circle(1.0)
    del circle.area
    with pytest.raises(SerializationError, match=r"value\[0\] .*'area' cannot be read"):
        serializer.dumps([circle])


def test_fields_can_be_added_with_a_default_but_not_removed() -> None:
    @dataclasses.dataclass
    class Old:
        x: int

    old, new = MsgpackSerializer(Registry()), MsgpackSerializer(Registry())
    old.register(Old, "point")
    new.register(Point, "point")
    assert new.loads(old.dumps(Old(1))) == Point(1, None, [])
    with pytest.raises(SerializationError, match="no field 'y'"):
        old.loads(new.dumps(Point(1)))


def test_field_without_a_default_that_is_missing_is_named() -> None:
    @dataclasses.dataclass
    class Empty:
        pass

    old, new = MsgpackSerializer(Registry()), MsgpackSerializer(Registry())
    old.register(Empty, "pair")
    new.register(Pair, "pair")
    with pytest.raises(SerializationError, match="'left' of pair is missing"):
        new.loads(old.dumps(Empty()))


@pytest.mark.parametrize("text", ["NOTHING", "__class__", ""])
def test_member_that_does_not_exist_is_refused(serializer: MsgpackSerializer, text: str) -> None:
    name, _, member = serializer.dumps(Colour.RED)[3:].partition(b"\0")
    assert member == b"RED"
    body = name + b"\0" + text.encode()
    with pytest.raises(SerializationError, match="KeyError"):
        serializer.loads(b"\xc7" + bytes((len(body), 10)) + body)


def test_class_of_a_script_has_the_name_under_which_a_worker_imports_it(tmp_path: Path) -> None:
    script = tmp_path / "shop.py"
    script.write_text(
        "import enum\n"
        "from taskito.serializers import MsgpackSerializer, register\n"
        "@register\n"
        "class Size(enum.Enum):\n"
        "    SMALL = 1\n"
        "if __name__ == '__main__':\n"
        "    print(MsgpackSerializer().dumps(Size.SMALL).hex())\n"
    )
    written = subprocess.run(
        [sys.executable, str(script)], capture_output=True, check=True, text=True
    ).stdout.strip()
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import shop;"
        "from taskito.serializers import MsgpackSerializer;"
        "print(MsgpackSerializer().loads(bytes.fromhex(sys.argv[2])) is shop.Size.SMALL)"
    )
    read = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path), written],
        capture_output=True,
        check=True,
        text=True,
    )
    assert read.stdout.strip() == "True"
