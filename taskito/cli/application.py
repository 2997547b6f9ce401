"""``--app module:attribute``: how a command finds the queue that it works on."""

from __future__ import annotations

import functools
import importlib
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from taskito.app import Queue

__all__ = ["app_options", "load_queue", "queue_options"]

_FORM = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_][\w.]*)")


_OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option(
        "--app",
        required=True,
        envvar="TASKITO_APP",
        metavar="MODULE:ATTRIBUTE",
        help="Where the Queue is, e.g. 'tasks:queue'. Environment variable: TASKITO_APP.",
    ),
    click.option(
        "--app-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        help="The folder that the module is imported from; the current one by default.",
    ),
)


def app_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options ``--app`` and ``--app-dir``, as ``app`` and ``app_dir``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def queue_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the same options and, as its first argument, the queue that they name.

    The queue is closed when the command ends.
    """

    @app_options
    @functools.wraps(command)
    def with_queue(app: str, app_dir: Path, *args: Any, **kwargs: Any) -> Any:
        with load_queue(app, app_dir) as queue:
            return command(queue, *args, **kwargs)

    return with_queue


def load_queue(app: str, app_dir: Path) -> Queue:
    """Import the module of ``app`` and return the queue in it.

    Args:
        app: ``module:attribute``; both may have dots.
        app_dir: Appended to ``sys.path``, at its end, so that nothing in it can replace an
            installed module.

    Raises:
        click.BadParameter: There is no queue; the message says what is there instead.
    """
    from taskito.app import Queue

    match = _FORM.fullmatch(app)
    if match is None:
        raise _wrong(f"'{app}' is not in 'module:attribute' form")
    folder = str(app_dir.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    found: Any = _import(match["module"])
    for name in match["attribute"].split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise _wrong(
                f"module '{match['module']}' has no attribute '{match['attribute']}'"
            ) from None
    if not isinstance(found, Queue):
        raise _wrong(f"'{app}' is not a Queue instance")
    return found


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # The module itself, or a package that it is in; otherwise something that it imports.
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise _wrong(f"could not import module '{module}'") from None
        raise _broken(module, error) from error
    except Exception as error:
        raise _broken(module, error) from error


def _broken(module: str, error: Exception) -> click.BadParameter:
    """Say that the module itself raised, after its traceback without the frames of this command."""
    frames = error.__traceback__
    while frames is not None and (
        frames.tb_frame.f_code.co_filename == __file__
        or str(frames.tb_frame.f_globals.get("__name__", "")).startswith("importlib")
    ):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    click.echo("".join(lines), err=True, nl=False)
    return _wrong(f"could not import module '{module}': {type(error).__name__}: {error}")


def _wrong(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="'--app'")
