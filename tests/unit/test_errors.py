from __future__ import annotations

import sys

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito.backends.params import ErrorKind
from taskito.errors import MAX_ERROR_BYTES, StoredError, decode_error, encode_error


def raised(exception: BaseException) -> BaseException:
    try:
        raise exception  # noqa: TRY301 - it needs a traceback
    except BaseException as error:  # noqa: BLE001 - any exception may be given
        return error


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise SystemExit(3)


class EndsTheProgram(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def test_everything_about_an_exception_comes_back() -> None:
    error = raised(ValueError("bad input"))
    error.add_note("seen in row 7")
    stored = decode_error(encode_error(error, kind=ErrorKind.REJECTED, run=12, worker="w" * 32))
    assert (stored.type, stored.module, stored.message) == ("ValueError", "builtins", "bad input")
    assert (stored.kind, stored.run, stored.worker) == ("rejected", 12, "w" * 32)
    assert stored.notes == ("seen in row 7",)
    assert "in raised" in stored.traceback
    assert stored.traceback.endswith("ValueError: bad input\nseen in row 7\n")
    assert stored.summary == "ValueError: bad input"


def test_type_of_a_class_of_ones_own_has_its_module() -> None:
    stored = decode_error(encode_error(raised(EndsTheProgram())))
    assert stored.qualified_type == f"{__name__}.EndsTheProgram"


@pytest.mark.parametrize("kind", [Unprintable, EndsTheProgram])
def test_unprintable_exception_keeps_its_type(kind: type[Exception]) -> None:
    stored = decode_error(encode_error(raised(kind())))
    assert stored.type == kind.__qualname__
    assert stored.message == "<unprintable>"


def test_causes_are_named_nearest_first() -> None:
    def fail() -> None:
        try:
            try:
                raise KeyError("inner")  # noqa: TRY301 - it needs a context
            except KeyError:
                raise OSError("middle")  # noqa: B904 - the implicit context is wanted
        except OSError as error:
            raise ValueError("outer") from error

    with pytest.raises(ValueError, match="outer") as caught:
        fail()
    stored = decode_error(encode_error(caught.value))
    assert [(cause.type, cause.explicit) for cause in stored.causes] == [
        ("OSError", True),
        ("KeyError", False),
    ]


def test_suppressed_context_is_no_cause() -> None:
    error = ValueError("outer")
    error.__context__ = KeyError("inner")
    error.__suppress_context__ = True
    assert decode_error(encode_error(error)).causes == ()


def test_circle_of_causes_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert len(decode_error(encode_error(first)).causes) == 1


def test_huge_texts_lose_their_middle() -> None:
    error = raised(ValueError("start" + "é" * 5_000_000 + "end"))
    for _ in range(100):
        error.add_note("n" * 100_000)
    data = encode_error(error)
    assert len(data) <= MAX_ERROR_BYTES
    stored = decode_error(data)
    assert stored.message.startswith("start")
    assert stored.message.endswith("end")
    assert "characters left out" in stored.message
    assert stored.traceback.startswith("Traceback")


def test_recursion_error_is_kept() -> None:
    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError) as caught:
        deeper()
    stored = decode_error(encode_error(caught.value))
    assert stored.type == "RecursionError"
    assert len(stored.traceback) < 10_000


def test_text_that_is_no_unicode_is_escaped() -> None:
    assert decode_error(encode_error(ValueError("\ud800"))).message == "\\ud800"


def test_plain_text_of_a_store_is_its_message() -> None:
    stored = decode_error(b"\x00the worker died", kind=ErrorKind.CRASH)
    assert stored == StoredError(kind="crash", message="the worker died")
    assert stored.qualified_type is None
    assert stored.summary == "the worker died"


def test_nothing_is_an_empty_error() -> None:
    assert decode_error(b"", kind=ErrorKind.INTERRUPTED) == StoredError(kind="interrupted")


def test_another_version_says_so() -> None:
    stored = decode_error(msgpack.packb({"version": 2, "message": "from the future"}))
    assert "version 2" in stored.message


def test_reading_imports_nothing() -> None:
    data = msgpack.packb(
        {"version": 1, "type": "Thing", "module": "antigravity", "kind": "failure"}
    )
    assert decode_error(data).qualified_type == "antigravity.Thing"
    assert "antigravity" not in sys.modules


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert isinstance(decode_error(data), StoredError)


@given(
    st.recursive(
        st.none() | st.integers(-(2**60), 2**60) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ).flatmap(
        lambda value: st.dictionaries(
            st.sampled_from(
                ["type", "module", "message", "traceback", "causes", "notes", "run", "worker"]
            ),
            st.just(value),
        )
    )
)
def test_any_map_can_be_read(fields: dict[str, object]) -> None:
    stored = decode_error(msgpack.packb({"version": 1, **fields}))
    assert all(isinstance(note, str) for note in stored.notes)
    assert isinstance(stored.summary, str)


@given(st.text(), st.lists(st.text(), max_size=20))
def test_any_text_fits_and_can_be_read(message: str, notes: list[str]) -> None:
    error = ValueError(message)
    for note in notes:
        error.add_note(note)
    data = encode_error(error)
    assert len(data) <= MAX_ERROR_BYTES
    assert decode_error(data).message == message
