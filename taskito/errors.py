"""How the error of an attempt is kept: bytes that any process can show and none turns into code.

The bytes are a msgpack map, version 1. They hold texts only; the exception's class is named, never
imported, when the error is read. Everything together stays below 64 KiB: long texts lose their
middle, since the beginning and the end of a traceback tell the most. Bytes that begin with a zero
byte are plain UTF-8 text, which says how a process ended that could not say so itself.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from taskito.backends.params import ErrorKind

__all__ = [
    "MAX_ERROR_BYTES",
    "StoredCause",
    "StoredError",
    "decode_error",
    "encode_error",
    "encode_text",
]

MAX_ERROR_BYTES = 65_536
"""The most that a stored error may take, encoded."""

UNPRINTABLE = "<unprintable>"
"""Stands for the message of an exception whose ``__str__`` raises."""

_VERSION = 1
_PLAIN_TEXT = b"\x00"
_MAX_NAME_BYTES = 512
_MAX_MESSAGE_BYTES = 16_384
_MAX_CAUSES = 8
_MAX_NOTES = 8
_MAX_PART_BYTES = 2_048
# What the map, its keys and the lengths of its texts take beside the texts themselves.
_ENVELOPE_BYTES = 1_024
# Frames of these packages that stand above the task's own are of no use to who reads the traceback.
_RUNNER_MODULES = ("taskito.worker", "asyncio")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCause:
    """One exception that led to another.

    Attributes:
        type: The class's qualified name, without its module.
        module: The class's module.
        message: What ``str()`` gave.
        explicit: Whether it was named with ``raise ... from``; otherwise it was being handled.
    """

    type: str
    module: str
    message: str
    explicit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredError:
    """An error as it was stored; texts only.

    Attributes:
        kind: Why the attempt did not succeed: an ``ErrorKind``, or the text that was stored if this
            version does not know it.
        type: The qualified name of the exception's class, without its module; empty if there was no
            exception.
        module: The module of that class; empty if there was no exception.
        message: What ``str()`` of the exception gave.
        traceback: The formatted traceback with all causes; empty if there is none.
        causes: What led to it, nearest first.
        notes: What was added with ``add_note``.
        run: The token of the run, or None.
        worker: The worker that ran it, or None.
    """

    kind: str
    type: str = ""
    module: str = ""
    message: str = ""
    traceback: str = ""
    causes: tuple[StoredCause, ...] = ()
    notes: tuple[str, ...] = ()
    run: int | None = None
    worker: str | None = None

    @property
    def qualified_type(self) -> str | None:
        """The class's full name, without the module for built-in ones; None if there is none."""
        if not self.type:
            return None
        return self.type if self.module in {"", "builtins"} else f"{self.module}.{self.type}"

    @property
    def summary(self) -> str:
        """One line as Python would print it: ``ValueError: bad input``."""
        name = self.qualified_type
        if name is None:
            return self.message
        return f"{name}: {self.message}" if self.message else name


def encode_error(
    exception: BaseException,
    *,
    kind: ErrorKind = ErrorKind.FAILURE,
    run: int | None = None,
    worker: str | None = None,
) -> bytes:
    """Turn an exception into the bytes of a stored error.

    Never raises, whatever the exception's own methods do.

    Args:
        exception: What the attempt raised.
        kind: Why the attempt did not succeed.
        run: The token of the run.
        worker: The id of the worker.

    Returns:
        At most ``MAX_ERROR_BYTES`` bytes for ``decode_error``.
    """
    try:
        return _encode(exception, kind, run, worker)
    except BaseException:  # noqa: BLE001 - out of memory or of stack: keep at least what it was
        name = _cut(_class_text(exception, "__qualname__"), _MAX_NAME_BYTES)
        return _PLAIN_TEXT + f"{name}: {UNPRINTABLE}".encode()


def encode_text(text: str) -> bytes:
    """Turn what is known about an attempt that raised nothing into the bytes of a stored error."""
    return _PLAIN_TEXT + text.encode("utf-8", "backslashreplace")[: MAX_ERROR_BYTES - 1]


def decode_error(data: bytes, *, kind: str = ErrorKind.CRASH) -> StoredError:
    """Read a stored error; never raises and never imports anything by name.

    Args:
        data: What ``encode_error`` or a store made; anything may be in it.
        kind: The kind that the history has for it; used where the bytes do not say.

    Returns:
        The error. If the bytes cannot be read, its message says so.
    """
    if data.startswith(_PLAIN_TEXT):
        return StoredError(kind=str(kind), message=data[1:].decode("utf-8", "replace"))
    if not data:
        return StoredError(kind=str(kind))
    fields = _unpack(data)
    if fields is None:
        return StoredError(
            kind=str(kind), message=f"the stored error cannot be read ({len(data)} bytes)"
        )
    if fields.get("version") != _VERSION:
        return StoredError(
            kind=str(kind),
            message=f"the stored error has version {fields.get('version')!r}; this version of "
            f"taskito reads version {_VERSION}",
        )
    run, worker = fields.get("run"), fields.get("worker")
    return StoredError(
        kind=_text(fields, "kind") or str(kind),
        type=_text(fields, "type"),
        module=_text(fields, "module"),
        message=_text(fields, "message"),
        traceback=_text(fields, "traceback"),
        causes=tuple(_decode_causes(fields.get("causes"))),
        notes=tuple(note for note in _items(fields.get("notes")) if isinstance(note, str)),
        run=run if isinstance(run, int) else None,
        worker=worker if isinstance(worker, str) else None,
    )


def _encode(
    exception: BaseException, kind: ErrorKind, run: int | None, worker: str | None
) -> bytes:
    from msgpack import packb  # type: ignore[import-untyped]

    fields: dict[str, Any] = {
        "version": _VERSION,
        "kind": str(kind),
        **_describe(exception, _MAX_MESSAGE_BYTES),
        "causes": [
            {**_describe(cause, _MAX_PART_BYTES), "explicit": explicit}
            for cause, explicit in _causes(exception)
        ],
        "notes": [_cut(note, _MAX_PART_BYTES) for note in _notes(exception)],
        "run": run,
        "worker": worker,
    }
    room = MAX_ERROR_BYTES - _ENVELOPE_BYTES - len(packb(fields))
    fields["traceback"] = _cut(_format_traceback(exception), room)
    packed: bytes = packb(fields)
    return packed


def _describe(exception: BaseException, message_bytes: int) -> dict[str, str]:
    return {
        "type": _cut(_class_text(exception, "__qualname__"), _MAX_NAME_BYTES),
        "module": _cut(_class_text(exception, "__module__"), _MAX_NAME_BYTES),
        "message": _cut(_message(exception), message_bytes),
    }


def _class_text(exception: BaseException, attribute: str) -> str:
    # type() and not __class__, which an exception may replace.
    text = getattr(type(exception), attribute, None)
    return text if type(text) is str else UNPRINTABLE


def _message(exception: BaseException) -> str:
    try:
        text = str(exception)
        # A subclass of str could misbehave later on.
        return text if type(text) is str else str.__str__(text)
    except BaseException:  # noqa: BLE001 - the task's own code raises here, anything is possible
        return UNPRINTABLE


def _notes(exception: BaseException) -> list[str]:
    try:
        notes = getattr(exception, "__notes__", ())
        return [note for note in notes if type(note) is str][:_MAX_NOTES]
    except BaseException:  # noqa: BLE001 - as above
        return []


def _causes(exception: BaseException) -> Iterator[tuple[BaseException, bool]]:
    seen = {id(exception)}
    current = exception
    for _ in range(_MAX_CAUSES):
        explicit = current.__cause__ is not None
        following = current.__cause__ if explicit else current.__context__
        if following is None or (current.__suppress_context__ and not explicit):
            return
        if id(following) in seen:
            return
        seen.add(id(following))
        yield following, explicit
        current = following


def _format_traceback(exception: BaseException) -> str:
    try:
        frames = _without_runner(exception.__traceback__)
        formatted = traceback.TracebackException(
            type(exception), exception, frames, compact=True
        ).format()
        return "".join(formatted)
    except BaseException:  # noqa: BLE001 - the exception's own methods are called, e.g. __eq__
        return ""


def _without_runner(frames: TracebackType | None) -> TracebackType | None:
    current = frames
    while current is not None:
        module = current.tb_frame.f_globals.get("__name__", "")
        if not (isinstance(module, str) and _is_runner(module)):
            return current
        current = current.tb_next
    return frames


def _is_runner(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _RUNNER_MODULES)


def _cut(text: str, limit: int) -> str:
    """Return valid text of at most ``limit`` bytes of UTF-8, without its middle if need be."""
    half = limit // 2 - 32
    if len(text) > limit:
        # First by characters: a text of many megabytes must not be encoded as a whole.
        head, tail = _utf8(text[:half]), _utf8(text[-half:])
    else:
        head = tail = _utf8(text)
        if len(head) <= limit:
            return head.decode()
    first = head[:half].decode(errors="ignore")
    last = tail[-half:].decode(errors="ignore")
    left_out = max(0, len(text) - len(first) - len(last))
    return f"{first}\n... {left_out} characters left out ...\n{last}"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # lone surrogates


def _unpack(data: bytes) -> Mapping[object, object] | None:
    from msgpack import unpackb

    try:
        fields = unpackb(data, strict_map_key=False)
    except Exception:  # noqa: BLE001 - ValueError and its like, but also what a decoder may invent
        return None
    return fields if isinstance(fields, dict) else None


def _text(fields: Mapping[object, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()


def _decode_causes(value: object) -> Iterator[StoredCause]:
    for item in _items(value):
        if isinstance(item, dict):
            yield StoredCause(
                type=_text(item, "type"),
                module=_text(item, "module"),
                message=_text(item, "message"),
                explicit=item.get("explicit") is True,
            )
