"""What comes back is what was given, of the types that the annotations name."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import math
import threading
import uuid
from typing import Annotated, Any, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskito_msgspec import MsgspecSerializer

from taskito import (
    INJECTED,
    ConfigurationError,
    Queue,
    Resource,
    SerializationError,
    TaskFailedError,
)
from taskito.serializers import PayloadContext, PayloadKind, SignedSerializer


class Line(msgspec.Struct):
    name: str
    price: decimal.Decimal = decimal.Decimal(0)


class Order(msgspec.Struct):
    id: uuid.UUID
    lines: list[Line]
    at: dt.datetime


class Silent(msgspec.Struct, eq=False):
    value: float


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Colour(enum.Enum):
    RED = "red"


class Person(pydantic.BaseModel):
    name: str
    born: dt.date | None = None
    friends: list[Person] = []
    tags: set[str] = set()


class Options(TypedDict):
    fast: bool


ORDER = Order(
    id=uuid.UUID(int=7),
    lines=[Line("tea", decimal.Decimal("3.50"))],
    at=dt.datetime(2026, 11, 26, tzinfo=dt.UTC),
)
ADA = Person(name="Ada", born=dt.date(1815, 12, 10), friends=[Person(name="Charles")])
CALL = PayloadContext(kind=PayloadKind.CALL, task="t")
RESULT = PayloadContext(kind=PayloadKind.RESULT, task="t")


@pytest.fixture
def serializer():
    return MsgspecSerializer()


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Order, ORDER),
        (list[Order], [ORDER, ORDER]),
        (Silent, Silent(math.nan)),
        (Point, Point(1.5, 2.5)),
        (Colour, Colour.RED),
        (Person, ADA),
        (dict[str, Person], {"ada": ADA}),
        (Person | None, None),
        (Options, {"fast": True}),
        (tuple[int, str], (1, "a")),
        (set[int], {1, 2}),
        (Any, [1, {"a": [None, 2.5, b"x"]}]),
        (bytes, b"\x00"),
    ],
    ids=str,
)
def test_the_annotation_says_what_comes_back(serializer, annotation, value):
    def function(given): ...

    function.__annotations__ = {"given": annotation, "return": annotation}
    serializer.learn_task("t", function)
    for call in ([[value], {}], [[], {"given": value}]):
        back = serializer.loads_in(serializer.dumps_in(call, CALL), CALL)
        assert repr(back) == repr(call)
        arguments = back[0] or list(back[1].values())
        assert type(arguments[0]) is type(value)
    result = serializer.loads_in(serializer.dumps_in(value, RESULT), RESULT)
    assert repr(result) == repr(value)


def work(order: Order, *rest: Line, point: Point = None, **more: Colour) -> Person: ...


def test_every_kind_of_parameter_has_its_annotation(serializer):
    serializer.learn_task("t", work)
    call = [[ORDER, Line("a"), Line("b")], {"point": Point(1.0, 2.0), "other": Colour.RED}]
    assert serializer.loads_in(serializer.dumps_in(call, CALL), CALL) == call


def test_the_parameter_that_callers_do_not_give_is_left_out(serializer):
    def bound(job, order: Order): ...

    serializer.learn_task("t", bound, skip=1)
    call = [[ORDER], {}]
    assert serializer.loads_in(serializer.dumps_in(call, CALL), CALL) == call


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ([["no order"], {}], "order: a str cannot be encoded: ValidationError"),
        ([[ORDER, "no line"], {}], "argument 1: a str"),
        ([[ORDER], {"point": (1, 2)}], "point: a tuple"),
        ([[ORDER], {"other": "blue"}], "other: a str"),
        ([[ORDER], {"point": object()}], "point: a object cannot be encoded"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_name_of_the_parameter(serializer, call, told):
    serializer.learn_task("t", work)
    with pytest.raises(SerializationError, match=told):
        serializer.dumps_in(call, CALL)


@pytest.mark.parametrize("value", [ORDER, (1,), {1}, ADA, Colour.RED, uuid.UUID(int=1)])
def test_without_an_annotation_nothing_is_changed_silently(serializer, value):
    with pytest.raises(SerializationError, match="would come back as another value or type"):
        serializer.dumps_in([[value], {}], CALL)
    with pytest.raises(SerializationError, match="would come back"):
        serializer.dumps(value)


def test_an_int_for_a_float_is_fine_and_a_bool_is_not(serializer):
    def function(x: float): ...

    serializer.learn_task("t", function)
    assert serializer.loads_in(serializer.dumps_in([[3], {}], CALL), CALL) == [[3.0], {}]
    with pytest.raises(SerializationError, match="x: a bool"):
        serializer.dumps_in([[True], {}], CALL)


def test_annotations_of_what_is_defined_later_are_found(serializer):
    namespace = {}
    exec("def function(x: 'Later'): ...", namespace)
    serializer.learn_task("t", namespace["function"])
    with pytest.raises(SerializationError, match="'Later' is not defined"):
        serializer.dumps_in([[Line("a")], {}], CALL)
    namespace["Later"] = Line
    call = [[Line("a")], {}]
    assert serializer.loads_in(serializer.dumps_in(call, CALL), CALL) == call


def test_an_annotation_that_msgspec_cannot_decode_is_refused_at_the_registration():
    class A(msgspec.Struct): ...

    class B(msgspec.Struct): ...

    def function(x): ...

    function.__annotations__ = {"x": A | B}
    queue = Queue(backend="memory://", serializer=MsgspecSerializer())
    with pytest.raises(ConfigurationError, match="annotations of task 't'"):
        queue.task(name="t")(function)
    assert not queue.tasks


@given(data=st.binary(max_size=60))
def test_garbage_is_refused_or_decoded_and_never_crashes(data):
    serializer = MsgspecSerializer()
    serializer.learn_task("t", work)
    for context in (CALL, RESULT):
        with contextlib.suppress(SerializationError):
            serializer.loads_in(data, context)


@pytest.mark.parametrize(
    "data", [b"\x92" + b"\x91" * 100_000, b"\xdd\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_hostile_payloads_end(serializer, data):
    with pytest.raises(SerializationError):
        serializer.loads(data)
    with pytest.raises(SerializationError):
        serializer.loads_in(data, CALL)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_plain_data_comes_back_as_it_was(value):
    serializer = MsgspecSerializer()
    assert repr(serializer.loads(serializer.dumps(value))) == repr(value)


@pytest.fixture
def queue(tmp_path):
    with Queue(db_path=tmp_path / "t.db", serializer="msgspec", workers=1) as queue:
        yield queue


def test_tasks_get_and_return_models(queue):
    @queue.task(bind=True)
    def greet(job, person: Person, order: Order) -> Order:
        assert type(person) is Person
        return msgspec.structs.replace(order, lines=[Line(person.name)])

    threading.Thread(target=queue.run_worker, daemon=True).start()
    result = greet.delay(ADA, order=ORDER).result(timeout=20)
    assert result == msgspec.structs.replace(ORDER, lines=[Line("Ada")])


def test_nothing_is_stored_of_a_call_that_does_not_fit(queue):
    @queue.task()
    def ship(order: Order): ...

    with pytest.raises(SerializationError, match="item 1 of the batch: order"):
        ship.map([(ORDER,), ("x",)])
    assert queue.stats()["pending"] == 0


def test_equal_calls_have_one_idempotency_key(queue):
    @queue.task(idempotent=True)
    def ship(order: Order, fast: bool = False): ...

    first = ship.delay(ORDER)
    assert ship.delay(msgspec.structs.replace(ORDER)) == first
    assert ship.delay(ORDER, fast=True) != first


def test_a_result_that_is_not_what_the_annotation_says_ends_the_job(queue):
    @queue.task()
    def wrong() -> int:
        return "text"

    threading.Thread(target=queue.run_worker, daemon=True).start()
    with pytest.raises(TaskFailedError, match="the result: a str"):
        wrong.delay().result(timeout=20)


def test_it_can_be_signed(tmp_path):
    serializer = SignedSerializer(MsgspecSerializer(), {"k": bytes(range(32))})
    with Queue(db_path=tmp_path / "t.db", serializer=serializer, workers=1) as queue:

        @queue.task()
        def ship(order: Order) -> Order:
            return order

        threading.Thread(target=queue.run_worker, daemon=True).start()
        assert ship.delay(ORDER).result(timeout=20) == ORDER


def test_the_type_of_a_resource_is_not_that_of_an_argument() -> None:
    # msgspec takes no union of two classes of its own making.
    connection = Annotated[Line | Order, Resource("connection")]

    with Queue(backend="memory://", serializer=MsgspecSerializer()) as queue:

        @queue.resource("connection")
        def connect() -> Any:
            yield "open"

        def work(point: Point, connection: Any = INJECTED) -> list[Any]:
            return [point.x, connection]

        work.__annotations__["connection"] = connection
        task = queue.task("work")(work)
        with queue.test_mode():
            assert task.delay(Point(1.0, 2.0)).result() == [1.0, "open"]
            assert task.delay(Point(1.0, 2.0), "mine").result() == [1.0, "mine"]
