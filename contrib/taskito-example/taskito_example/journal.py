"""The files: a lock that one operation holds at a time, and a journal with a line for each.

A line is one atom: it tells everything that one operation changed, or it is not there. A process
that is killed while it writes leaves a line without an end, which the next one cuts off. When the
journal has become much longer than what it tells, the whole image replaces it, as one line of a new
file. The readers notice by the number of the file.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from taskito.backends import BackendOptions
from taskito.backends.params import ErrorRecord
from taskito.exceptions import (
    DatabaseCorruptError,
    DatabaseMovedError,
    DatabaseReadOnlyError,
    QueueClosedError,
    StorageBusyError,
    StorageError,
    StorageFullError,
)
from taskito_example.image import Image

__all__ = ["Journal"]

RETRY_SECONDS = 0.001
SPARE_ENTRIES = 1_000
"""A journal may be this much longer than twice what it tells."""

_KINDS: dict[int | None, type[StorageError]] = {
    errno.EACCES: DatabaseReadOnlyError,
    errno.EROFS: DatabaseReadOnlyError,
    errno.ENOENT: DatabaseMovedError,
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
}


class Journal:
    """The journal of one namespace and what it says; safe to use from several threads.

    Args:
        folder: Where the files are; created if it does not exist.
        options: ``durability`` "full" makes every operation wait for the disk.
    """

    def __init__(self, folder: Path, options: BackendOptions) -> None:
        self.changes = 0
        """Grows with every operation that changed something, whoever did it."""
        self._path = folder / "journal"
        self._lock_path = folder / "lock"
        self._options = options
        self._mutex = threading.Lock()
        self._process = os.getpid()
        self._file: io.FileIO | None = None
        self._image = Image()
        self._end = 0
        self._closed = False
        with self._storage_errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_path.touch()
            self._path.touch()
            self._sync_folder()

    @contextmanager
    def atom(self) -> Iterator[Image]:
        """Run one operation alone, on the present image; what it changes is written at its end."""
        self._refuse_forked()
        with self._mutex, self._storage_errors(), self._file_lock():
            if self._closed:
                raise QueueClosedError("the directory store is closed; open it before using it")
            try:
                file = self._catch_up()
                yield self._image
                self._commit(file)
            except BaseException:
                # The image may be ahead of the journal; the next operation reads it anew.
                self._forget()
                raise

    def watch(self) -> int:
        """Return ``changes`` as of now; takes the lock only if the file has changed."""
        self._refuse_forked()
        with self._storage_errors():
            present = self._path.stat()
            file = self._file
            if file is None or (present.st_ino, present.st_size) != (
                os.fstat(file.fileno()).st_ino,
                self._end,
            ):
                with self.atom():
                    pass
        return self.changes

    def close(self) -> None:
        """Close the file; later operations are refused."""
        with self._mutex:
            self._closed = True
            self._forget()

    # Parts --------------------------------------------------------------------------------------

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        """Keep other processes out. The kernel frees the lock if this one dies."""
        deadline = time.monotonic() + self._options.busy_timeout_ms / 1_000
        with self._lock_path.open("rb") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise StorageBusyError(
                            f"{self._lock_path} was held by another process for longer than "
                            f"busy_timeout_ms ({self._options.busy_timeout_ms})"
                        ) from None
                    time.sleep(RETRY_SECONDS)
            try:
                yield
            finally:
                # A child that was forked meanwhile has a copy of the descriptor, which would keep
                # the lock if the file were only closed.
                fcntl.flock(lock, fcntl.LOCK_UN)

    def _catch_up(self) -> io.FileIO:
        """Read what others have written since the last operation; return the present file."""
        if self._file is None or os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino:
            self._forget()
            self._file = io.FileIO(self._path, "r+")
        self._file.seek(self._end)
        data = self._file.read()
        for line in io.BytesIO(data):
            entry = _decode(line)
            if entry is None:
                self._cut_off(self._file, line)
                break
            self._image.apply(entry)
            self._end += len(line)
            self.changes += 1
        return self._file

    def _cut_off(self, file: io.FileIO, line: bytes) -> None:
        """Remove the last line, which was never acknowledged: its writer died."""
        if self._end + len(line) != os.fstat(file.fileno()).st_size:
            raise DatabaseCorruptError(f"{self._path} is damaged at byte {self._end}")
        file.truncate(self._end)

    def _commit(self, file: io.FileIO) -> None:
        """Write what has changed: as one more line, or as the only line of a new file."""
        entry = self._image.take_changes()
        if entry is None:
            return
        if self._image.entries > 2 * len(self._image.jobs) + SPARE_ENTRIES:
            self._replace(file, _encode(self._image.everything()))
        else:
            self._append(file, _encode(entry))
        self.changes += 1

    def _append(self, file: io.FileIO, line: bytes) -> None:
        try:
            file.seek(self._end)
            _write(file, line, sync=self._options.durability == "full")
        except OSError:
            with suppress(OSError):
                file.truncate(self._end)
            raise
        self._end += len(line)

    def _replace(self, old: io.FileIO, line: bytes) -> None:
        new = self._path.with_suffix(".new")
        file = io.FileIO(new, "w+")
        try:
            _write(file, line, sync=True)
            new.rename(self._path)
        except OSError:
            file.close()
            new.unlink(missing_ok=True)
            raise
        old.close()
        self._file, self._end = file, len(line)
        self._sync_folder()

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._image, self._end = None, Image(), 0

    def _sync_folder(self) -> None:
        if self._options.durability != "full":
            return
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _refuse_forked(self) -> None:
        if os.getpid() != self._process:
            raise QueueClosedError(
                "this directory store was opened before a fork; open it again in the child"
            )

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            self._raise(error)

    def _raise(self, error: OSError) -> NoReturn:
        kind = _KINDS.get(error.errno, StorageError)
        raise kind(f"{self._path.parent}: {error.strerror or error}") from error


def _write(file: io.FileIO, data: bytes, *, sync: bool) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    if sync:
        os.fsync(file.fileno())


def _encode(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, default=_to_json, separators=(",", ":")).encode() + b"\n"


def _decode(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line; None if it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry: dict[str, Any] = json.loads(line, object_hook=_from_json)
    except ValueError:
        return None
    return entry


def _to_json(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, ErrorRecord):
        return asdict(value)
    raise TypeError(f"the journal has no form for {value!r}")


def _from_json(data: dict[str, Any]) -> Any:
    return base64.b64decode(data["base64"]) if data.keys() == {"base64"} else data
