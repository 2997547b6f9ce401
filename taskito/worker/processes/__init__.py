"""The process pool: each attempt runs in a child process, which can be killed alone.

In the worker's process:

- ``executor``: one thread per child; takes attempts from the dispatcher and keeps children alive.
- ``runner``: one attempt from its start in a child to the outcome, or to the end of the child.
- ``child``: a child process as its worker sees it.
- ``launching``, ``template``: how a child comes into the world: as a new interpreter, or as a fork
  of a process that has imported the application and does nothing else.

In the child:

- ``serving``: takes attempts from the pipe, one at a time, and runs them with a ``Runner``.
- ``logs``: log records on their way to the worker's process.

Both sides know ``messages`` (what crosses the pipe) and ``application`` (where the tasks are).

The dispatcher, its leases and the store stay in the worker's process; a child never opens the store
for the worker. What a job carries crosses the pipe as the bytes that the store holds.
"""

from __future__ import annotations
