"""Watches the code of the application and asks for a restart when it changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from taskito.exceptions import ConfigurationError

__all__ = ["Reloader"]

_logger = logging.getLogger("taskito.supervisor")

# So often the thread looks whether it should end.
_LOOK_MS = 500


class Reloader:
    """A thread that watches folders for changed Python files.

    Virtual environments, caches, and the folders of version control and editors are left out.

    Args:
        folders: Watched with everything below them.
        changed: Called with a sentence about what changed, from another thread.

    Raises:
        ConfigurationError: The package that watches files is not installed.
    """

    def __init__(self, folders: Sequence[Path], changed: Callable[[str], object]) -> None:
        try:
            import watchfiles  # noqa: F401 - whether it is there
        except ImportError as error:
            raise ConfigurationError(
                "--reload needs the package watchfiles: pip install 'taskito[reload]'"
            ) from error
        self._folders = [folder.resolve() for folder in folders]
        self._changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="taskito-reload", daemon=True)

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(4 * _LOOK_MS / 1_000)

    def _watch(self) -> None:
        from watchfiles import PythonFilter, watch

        try:
            told = False
            for changes in watch(
                *self._folders,
                watch_filter=PythonFilter(),
                stop_event=self._stop,
                rust_timeout=_LOOK_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                if not told:
                    told = True
                    names = ", ".join(map(str, self._folders))
                    _logger.info("watching the Python files in %s", names)
                if changes:
                    self._changed(_describe(sorted({path for _kind, path in changes})))
        except Exception:
            _logger.exception("the code is not watched any more; restart to watch it again")


def _describe(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more} changed"
