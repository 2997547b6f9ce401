"""What a backend declares that it can do beyond the required operations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from taskito.exceptions import CapabilityError

__all__ = ["Capabilities", "Liveness", "lacking"]


class Liveness(StrEnum):
    """How a backend learns that a worker is gone."""

    LEASE = "lease"
    """Only by the end of the lease. A task that keeps the interpreter busy for longer than the
    lease
    may be taken over, and its late result is refused."""

    KERNEL = "kernel"
    """By a lock that the kernel drops when the process dies; the lease is the backstop."""

    SESSION = "session"
    """By a session of its own with a server; takeover needs the end of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do. Using what is not declared raises ``CapabilityError``.

    Attributes:
        unique: ``unique_key`` and ``idempotency_key`` of a new job.
        dependencies: ``depends_on`` of a new job.
        workflows: Conditions and inputs of dependencies, and the steps of a workflow; with
            ``dependencies``.
        given_ids: ``id`` of a new job, chosen by the caller.
        limits: Rate and concurrency limits of tasks and queues.
        schedules: Stored cron entries.
        locks: Named locks with a fencing token.
        progress_log: ``set_progress`` and ``append_log``.
        pauses: ``pause``, ``resume`` and ``paused``.
        replay: ``replay`` of finished jobs.
        dead_letter_limits: ``WorkerRegistration.dead_letters``.
        transactions: Enqueue and completion inside a caller's transaction.
        cross_process: Several processes may use one store at a time.
        virtual_time: The clock can be replaced by a ``VirtualClock``.
        liveness: How the death of a worker is noticed.
    """

    unique: bool = False
    dependencies: bool = False
    workflows: bool = False
    given_ids: bool = False
    limits: bool = False
    schedules: bool = False
    locks: bool = False
    progress_log: bool = False
    pauses: bool = False
    replay: bool = False
    dead_letter_limits: bool = False
    transactions: bool = False
    cross_process: bool = False
    virtual_time: bool = False
    liveness: Liveness = Liveness.LEASE

    def require(self, capability: str, feature: str, backend: str) -> None:
        """Raise unless ``capability`` is declared.

        Args:
            capability: The name of a flag of this class.
            feature: What the caller wanted, as the caller would name it.
            backend: The name of the backend, for the message.

        Raises:
            CapabilityError: The flag is off.
        """
        if not getattr(self, capability):
            raise lacking(capability, feature, backend)

    def names(self) -> tuple[str, ...]:
        """Return the names of the flags that are on, in the order of this class."""
        return tuple(
            field.name
            for field in fields(self)
            if field.name != "liveness" and getattr(self, field.name)
        )


def lacking(capability: str, feature: str, backend: str) -> CapabilityError:
    """Make the error for a feature that a backend does not declare."""
    return CapabilityError(
        f"{feature} needs the capability {capability!r}, which backend {backend!r} does not declare"
    )
