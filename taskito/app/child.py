"""How a child process of the process pool comes to the tasks: described here, done there.

The worker's process knows the queue as an object. A child has to import what defined it, and then
find the queue that knows the same tasks.
"""

from __future__ import annotations

import functools
import importlib
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskito.app.registry import known_queues
from taskito.exceptions import ConfigurationError
from taskito.worker.processes import logs, messages, serving, template
from taskito.worker.processes.application import MAIN_MODULES, Application
from taskito.worker.processes.messages import ChildPipe

if TYPE_CHECKING:
    from taskito.app.queue import Queue

__all__ = ["application_of", "main", "refuse_in_child"]

ENTRY = "taskito.app.child:main"

_child: int | None = None
"""The process that runs ``main``; None in every other one."""


class _Refused(Exception):
    """The application is not made for child processes.

    Attributes:
        missing: The tasks that are not there.
    """

    def __init__(self, text: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.missing = missing


# In the worker's process --------------------------------------------------------------------------


def application_of(queue: Queue) -> Application:
    """Describe to a child how to find a queue and its tasks."""
    tasks = {name: task for name, task in queue.tasks.items() if not task.is_remote}
    defined_in = {getattr(task.function, "__module__", None) for task in tasks.values()}
    place = _place(queue)
    if place is not None:
        defined_in.add(place[0])
    main = None
    if defined_in & set(MAIN_MODULES):
        main = _main_module()
    return Application(
        entry=ENTRY,
        main=main,
        # In the order in which they were imported here: another one may not work.
        modules=tuple(
            name for name in list(sys.modules) if name in defined_in and name not in MAIN_MODULES
        ),
        place=place,
        tasks=tuple(tasks),
    )


def refuse_in_child() -> None:
    """Let no child process run a worker of its own.

    Raises:
        ConfigurationError: This is a child of the process pool.
    """
    if _child == os.getpid():
        raise ConfigurationError(
            "run_worker: this is a child process of pool='process', which imports the modules that "
            "define the tasks; start the worker under if __name__ == '__main__': or in another "
            "module"
        )


def _place(queue: Queue) -> tuple[str, str] | None:
    found = None
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is queue:
                found = name, attribute
                # The main module is made again in the child, so any other one is better.
                if name not in MAIN_MODULES:
                    return found
    return found


def _main_module() -> Mapping[str, str] | None:
    """Describe the main module as ``multiprocessing`` does for the children that it spawns."""
    from multiprocessing import spawn

    described = spawn.get_preparation_data("taskito")
    kept = ("init_main_from_name", "init_main_from_path")
    return {key: str(described[key]) for key in kept if key in described} or None


# In the child -------------------------------------------------------------------------------------


def main(descriptor: int) -> None:
    """Run as a child process: import the application, then serve attempts until the pipe closes.

    As a template it does not serve, but is forked for each child, which does.

    Args:
        descriptor: This process's end of the pipe.
    """
    os.set_inheritable(descriptor, False)
    end = socket.socket(fileno=descriptor)
    pipe, greeting = _begin(end)
    queue = _load(pipe, greeting)
    if greeting["template"]:
        pipe.send([messages.READY])
        own_end = template.fork_on_request(end)
        if own_end is None:
            return
        pipe, greeting = _begin(own_end)
    serving.die_with_parent()
    logs.forward(pipe, greeting["log_level"])
    runner = queue._make_child_runner(  # noqa: SLF001 - a part of the queue, in another process
        sink=serving.PipeSink(pipe, greeting["backend"], supported=greeting["progress_log"]),
        outcomes=serving.OUTCOMES,
        worker=greeting["worker"],
        originals=functools.partial(serving.originals, pipe),
    )
    pipe.send([messages.READY])
    serving.serve(pipe, runner)


def _begin(end: socket.socket) -> tuple[ChildPipe, Mapping[str, Any]]:
    global _child  # noqa: PLW0603 - it is a property of the process
    _child = os.getpid()
    serving.leave_signals_to_worker()
    pipe = ChildPipe(end)
    start = pipe.receive(messages.START)
    if start is None:
        sys.exit(0)  # The worker has gone.
    return pipe, start[1]


def _load(pipe: ChildPipe, greeting: Mapping[str, Any]) -> Queue:
    sys.argv[:] = greeting["argv"]
    try:
        queue = load(Application.unpacked(greeting["application"]))
        if greeting["template"]:
            _require_single_thread()
    except _Refused as refused:
        pipe.send([messages.REFUSED, str(refused), refused.missing])
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a module, for instance
        described = "".join(traceback.format_exception(error))
        pipe.send([messages.BROKEN, f"a child process could not import the tasks:\n{described}"])
    else:
        return queue
    sys.exit(1)


def _require_single_thread() -> None:
    threads = template.other_threads()
    if threads:
        raise _Refused(
            f"with preload, importing the application must not start threads ({threads}): a fork "
            "would have their locks and not the threads; start them in the tasks, or leave preload "
            "out"
        )


def load(application: Application) -> Queue:
    """Import what defines the tasks and return the queue that knows them."""
    if application.main is not None:
        from multiprocessing import spawn

        spawn.prepare(dict(application.main))
    for module in application.modules:
        importlib.import_module(module)
    wanted = set(application.tasks)
    candidates = [queue for queue in known_queues if wanted <= set(queue.tasks)]
    if len(candidates) > 1 and application.place is not None:
        module, attribute = application.place
        at_place = getattr(sys.modules.get(module), attribute, None)
        candidates = [queue for queue in candidates if queue is at_place]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise _Refused(
            f"{len(candidates)} queues define the same tasks; make the one that the worker runs a "
            "name at the top of a module"
        )
    known = {name for queue in known_queues for name in queue.tasks}
    missing = tuple(name for name in application.tasks if name not in known)
    raise _Refused("no queue knows all tasks", missing)
