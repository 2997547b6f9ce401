"""Processes that play with a store: started together, told to go, and killed if wanted.

They are forked from a server process that has imported the kit and opened nothing, so a start costs
milliseconds and no store ever crosses a fork.
"""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from taskito.testing.conformance.fixtures import BackendFactory

__all__ = ["Play", "Player", "players"]

Tell: TypeAlias = Callable[[Any], None]
"""Sends something to the process that started the player."""

Play: TypeAlias = Callable[..., None]
"""What a process does: ``play(factory, tell, ready, *arguments)``; it calls ``ready()`` once it has
prepared itself, which returns when all others are ready, too."""

START_TIMEOUT = 60.0
END_TIMEOUT = 60.0


class Player:
    """A process that plays.

    Args:
        play: What it does; a function of a module.
        factory: Opens the store; picklable.
        arguments: What else it gets; picklable.
    """

    def __init__(self, play: Play, factory: BackendFactory, *arguments: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._here, there = context.Pipe()
        blob = pickle.dumps((play, factory, arguments))
        files = _files_of(play, factory)
        self._process = context.Process(target=_main, args=(there, files, blob), daemon=True)
        self._process.start()
        there.close()
        self.told: list[Any] = []

    def expect_ready(self) -> None:
        """Wait until it is ready."""
        assert self._here.poll(START_TIMEOUT), "a process of the kit did not start"
        word, value = self._receive()
        assert word == "ready", f"a process of the kit failed:\n{value}"

    def go(self) -> None:
        """Let it begin."""
        self._here.send("go")

    def kill(self) -> None:
        """Kill it at once; what it told before is kept."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self._drain()
        self._process.join()

    def end(self) -> list[Any]:
        """Wait until it is done, and return what it told."""
        while True:
            assert self._here.poll(END_TIMEOUT), "a process of the kit did not end"
            word, value = self._receive()
            assert word in ("tell", "done"), f"a process of the kit failed:\n{value}"
            if word == "done":
                break
            self.told.append(value)
        self._process.join()
        return self.told

    def listen(self) -> None:
        """Take what it has told so far, so that it need not wait for us."""
        while self._here.poll(0):
            word, value = self._receive()
            if word != "tell":
                assert word in ("done", "end"), f"a process of the kit failed:\n{value}"
                return
            self.told.append(value)

    def _drain(self) -> None:
        word = ""
        while word != "end":
            word, value = self._receive()
            assert word != "failed", f"a process of the kit failed:\n{value}"
            if word == "tell":
                self.told.append(value)

    def _receive(self) -> tuple[str, Any]:
        try:
            word, value = self._here.recv()
        except (EOFError, OSError):
            return "end", "it ended without a word"
        return str(word), value


@contextmanager
def players(made: Sequence[Player]) -> Iterator[Sequence[Player]]:
    """Let all begin at the same time, and leave none alive."""
    try:
        for player in made:
            player.expect_ready()
        for player in made:
            player.go()
        yield made
    finally:
        for player in made:
            player.kill()


def _files_of(*functions: object) -> dict[str, str]:
    """Return the files of the modules that a child may not find by name, such as test modules."""
    files: dict[str, str] = {}
    for function in functions:
        inner: object = function
        while isinstance(inner, functools.partial):
            inner = inner.func
        module = sys.modules.get(getattr(inner, "__module__", ""))
        if module is not None and getattr(module, "__file__", None):
            files[module.__name__] = str(module.__file__)
    return files


def _main(connection: Connection, files: dict[str, str], blob: bytes) -> None:
    def ready() -> None:
        connection.send(("ready", None))
        connection.recv()

    def tell(value: Any) -> None:
        connection.send(("tell", value))

    try:
        for name, file in files.items():
            _load(name, file)
        play, factory, arguments = pickle.loads(blob)  # noqa: S301 -- written by our own parent
        play(factory, tell, ready, *arguments)
        connection.send(("done", None))
    except BaseException:  # noqa: BLE001 -- whatever it was, the parent reports it
        connection.send(("failed", traceback.format_exc()))


def _load(name: str, file: str) -> None:
    """Import a module by its name or, as pytest does in import mode importlib, from its file."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
