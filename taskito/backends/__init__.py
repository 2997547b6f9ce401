"""The seam between taskito and the stores of jobs.

``Backend`` is the abstract class of a store, ``params`` holds what crosses the seam, and
``Capabilities`` says what a store can do. ``taskito.backends.memory`` is the readable reference
implementation, ``taskito.backends.sqlite`` the default one; ``taskito.backends.registry`` finds a
backend by its URL.
"""

from __future__ import annotations

from taskito.backends import params
from taskito.backends.base import BACKEND_API, Backend, BackendOptions, Clock
from taskito.backends.capabilities import Capabilities, Liveness

__all__ = [
    "BACKEND_API",
    "Backend",
    "BackendOptions",
    "Capabilities",
    "Clock",
    "Liveness",
    "params",
]
