"""What task bodies wrote down: the ground truth, independent of taskito."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskito_processes.processes import wait_until

__all__ = ["Event", "Evidence"]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of evidence.

    Attributes:
        name: "start", "end", or whatever the body called it.
        key: What it is about.
        pid: The process that wrote it.
        at: When, in seconds of CLOCK_MONOTONIC, which all processes share.
        token: The lease token of the run; 0 outside a task.
    """

    name: str
    key: str
    pid: int
    at: float
    token: int


class Evidence:
    """A file to which each event was appended with one ``os.write``.

    Args:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._events: list[Event] = []
        self._offset = 0

    def events(self, name: str | None = None, key: object = None) -> list[Event]:
        """Return the events so far, in the order of writing, only some if asked."""
        self._read()
        return [
            event
            for event in self._events
            if (name is None or event.name == name) and (key is None or event.key == str(key))
        ]

    def starts(self, key: object = None) -> list[Event]:
        """Return the starts."""
        return self.events("start", key)

    def ends(self, key: object = None) -> list[Event]:
        """Return the ends."""
        return self.events("end", key)

    def count(self, name: str) -> Counter[str]:
        """Return how often each key has the event ``name``."""
        return Counter(event.key for event in self.events(name))

    def wait_for(
        self, name: str, key: object = None, *, times: int = 1, timeout: float = 20.0
    ) -> list[Event]:
        """Wait until an event has been written ``times`` times and return these events."""

        def look() -> list[Event] | None:
            found = self.events(name, key)
            return found if len(found) >= times else None

        found = wait_until(
            look,
            timeout,
            lambda: f"{times} x {name!r} of {key!r}; there are {self.summary()}",
            step=0.005,
        )
        assert found is not None
        return found

    def wait_until(self, condition: Callable[[], bool], timeout: float = 20.0) -> None:
        """Wait until ``condition`` holds."""
        wait_until(condition, timeout, self.summary)

    def summary(self) -> str:
        """Return how many events there are of each name."""
        return str(dict(Counter(event.name for event in self.events())))

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            name, key, pid, at, token = line.split(" ")
            self._events.append(Event(name, key, int(pid), int(at) / 1e9, int(token)))
