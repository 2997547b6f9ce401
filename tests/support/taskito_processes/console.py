"""A process that does what the test tells it, line by line."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any

from taskito_processes.processes import Process

__all__ = ["PROGRAM", "Console", "RemoteError"]

# Standard output carries the answers; what the code itself prints goes to standard error.
PROGRAM = """
import importlib, json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
namespace = {"__name__": "console"}
if len(sys.argv) > 1:
    module = importlib.import_module(sys.argv[1])
    namespace.update(vars(module), __name__="console")
for line in sys.stdin:
    request = json.loads(line)
    namespace.update(request["values"])
    try:
        if request["statement"]:
            exec(request["code"], namespace)
            answer = {"value": None}
        else:
            answer = {"value": eval(request["code"], namespace)}
    except BaseException as error:
        answer = {"error": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}
    answers.write(json.dumps(answer) + "\\n")
    answers.flush()
"""


class RemoteError(Exception):
    """What the code in the console raised.

    Attributes:
        kinds: The names of its class and of the base classes.
    """

    def __init__(self, kinds: list[str], message: str) -> None:
        super().__init__(f"{kinds[0]}: {message}")
        self.kinds = kinds


class Console:
    """Talks to such a process.

    Args:
        process: Runs ``PROGRAM``, with pipes.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self._received = b""

    def run(self, code: str, *, timeout: float = 30.0, **values: Any) -> None:
        """Execute statements; ``values`` are variables that they see."""
        self.send(code, statement=True, **values)
        self.receive(timeout)

    def ask(self, code: str, *, timeout: float = 30.0, **values: Any) -> Any:
        """Return the value of an expression, which JSON must be able to carry."""
        self.send(code, **values)
        return self.receive(timeout)

    def send(self, code: str, *, statement: bool = False, **values: Any) -> None:
        """Begin to run something without waiting for its end."""
        request = {"code": code, "statement": statement, "values": values}
        stdin = self.process.popen.stdin
        assert stdin is not None
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()

    def receive(self, timeout: float = 30.0) -> Any:
        """Wait for the end of what was sent and return its value.

        Raises:
            RemoteError: It raised.
        """
        answer = json.loads(self._line(timeout))
        if "error" in answer:
            raise RemoteError(answer["error"], answer["message"])
        return answer["value"]

    def _line(self, timeout: float) -> bytes:
        stdout = self.process.popen.stdout
        assert stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._received:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(stdout.fileno(), 1 << 20) if ready else b""
            if not data:
                state = "has not answered in time" if not ready else "has ended"
                raise AssertionError(f"{self.process.name} {state}:\n{self.process.log()}")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line
