"""What is indexed: the modules of the standard library, and the figures of one of them."""

from __future__ import annotations

import hashlib
import io
import os
import sysconfig
import tokenize
from pathlib import Path
from typing import TypedDict

__all__ = ["BROKEN", "LIBRARY", "ModuleFigures", "describe", "library_modules", "measure_module"]

LIBRARY = Path(sysconfig.get_path("stdlib"))

# What a file raises that does not tokenize; every subclass included, such as IndentationError.
BROKEN = (SyntaxError, UnicodeDecodeError, tokenize.TokenError)

_NOT_THE_LIBRARY = {"site-packages", "dist-packages"}


class ModuleFigures(TypedDict):
    """What is counted in one module."""

    sha256: str
    bytes: int
    lines: int
    tokens: int
    functions: int
    classes: int


def library_modules(limit: int | None = None) -> list[str]:
    """Return the `.py` files of the library, its own tests included, relative to its folder.

    With a limit: an even spread, after the files named `bad*`. Those are the test suite's
    deliberately broken ones, so that a short run has something to fail, too.
    """
    names = []
    for folder, subfolders, files in os.walk(LIBRARY):
        subfolders[:] = [name for name in subfolders if name not in _NOT_THE_LIBRARY]
        relative = Path(folder).relative_to(LIBRARY)
        names += [(relative / file).as_posix() for file in files if file.endswith(".py")]
    names.sort()
    if limit is None or limit >= len(names):
        return names
    chosen = [name for name in names if Path(name).name.startswith("bad")][:limit]
    others = [name for name in names if name not in chosen]
    wanted = limit - len(chosen)
    return sorted(chosen + [others[index * len(others) // wanted] for index in range(wanted)])


def measure_module(name: str) -> ModuleFigures:
    """Read, hash, tokenize and count one module.

    Raises:
        SyntaxError: It does not tokenize, or its encoding is unknown.
        UnicodeDecodeError: It is not in the encoding that it declares.
        tokenize.TokenError: It ends inside a statement or a string.
    """
    source = (LIBRARY / name).read_bytes()
    tokens = functions = classes = 0
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        tokens += 1
        if token.type == tokenize.NAME:
            functions += token.string == "def"
            classes += token.string == "class"
    return {
        "sha256": hashlib.sha256(source).hexdigest(),
        "bytes": len(source),
        "lines": len(source.splitlines()),
        "tokens": tokens,
        "functions": functions,
        "classes": classes,
    }


def describe(error: Exception) -> str:
    """Return an error in one line, with the module of its class unless that is built in."""
    kind = type(error)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{prefix}{kind.__qualname__}: {error}"
