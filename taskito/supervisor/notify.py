"""What systemd is told: the protocol of sd_notify(3), in a few lines.

A service with ``Type=notify`` (or ``notify-reload``) names a datagram socket in ``NOTIFY_SOCKET``.
Each message is a handful of lines ``NAME=value``. With ``WatchdogSec=`` systemd expects
``WATCHDOG=1`` more often than that, and restarts the service otherwise.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Self

__all__ = ["Notifier"]

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
# The init system may be busy for a moment; a message that it does not take is given up.
_PATIENCE = 1.0


class Notifier:
    """Speaks to the init system; does nothing if there is none that listens.

    Args:
        address: A path, or an abstract name behind ``@``; None means that nobody listens.
        watchdog: Seconds within which the init system expects a sign of life; None: it does not.

    Attributes:
        interval: Seconds between two signs of life: half of what is allowed; None: none is wanted.
    """

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self._address = address
        self.interval = None if address is None or watchdog is None else watchdog / 2

    @classmethod
    def take(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Make one from the environment, and remove the variables from there.

        What this process starts must not speak in its name, neither workers nor what tasks run.
        """
        address, microseconds, pid = (environment.pop(name, None) for name in _VARIABLES)
        meant = pid is None or pid == str(os.getpid())
        watchdog = None
        if microseconds is not None and microseconds.isdecimal() and meant:
            watchdog = int(microseconds) / 1_000_000 or None
        return cls(address or None, watchdog)

    def ready(self, status: str) -> None:
        """The service works; also the end of a reload."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say in one line what goes on; ``systemctl status`` shows it."""
        self._send(f"STATUS={status}")

    def reloading(self, status: str) -> None:
        """A reload has begun; ``ready`` ends it."""
        # Compared with the time of the signal, so that an older message is not taken for this one.
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """The service is about to end."""
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        # An init system that is not there, or does not read, is no reason to stop working.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
        ):
            channel.settimeout(_PATIENCE)
            channel.sendto(message, address)
