"""The parent of several worker processes.

It opens no store and imports no application: it starts ``taskito worker`` as often as asked, starts
again what dies, and passes on what it is asked for. Everything happens in one thread, in turns; the
threads of the health server and the reloader only look, or ask.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Iterator
from typing import ClassVar

from taskito.supervisor.child import FORCED, USAGE, Child, describe_status
from taskito.supervisor.health import STUCK_AFTER, Health, health_of
from taskito.supervisor.notify import Notifier
from taskito.supervisor.requests import Request, Requests
from taskito.supervisor.rolling import RollingRestart
from taskito.supervisor.slot import Launch, Slot

__all__ = ["Supervisor"]

_logger = logging.getLogger("taskito.supervisor")


class Supervisor:
    """Keeps a number of worker processes running until it is asked to stop.

    Args:
        processes: How many.
        launch: Starts the process of a worker.
        notifier: The init system.
        waits_for_changes: Whether an application that cannot be loaded any more is a reason to wait
            for a change of its code; otherwise the supervisor ends.
    """

    LONGEST_SLEEP: ClassVar[float] = 1.0
    """Seconds; so often it looks around although nothing has woken it."""

    def __init__(
        self,
        processes: int,
        launch: Launch,
        notifier: Notifier,
        *,
        waits_for_changes: bool = False,
    ) -> None:
        self._slots = [Slot(number, launch) for number in range(1, processes + 1)]
        self._rolling = RollingRestart(self._slots)
        self._notifier = notifier
        self._waits_for_changes = waits_for_changes
        self._selector = selectors.DefaultSelector()
        self._watched: set[Child] = set()
        self.requests = Requests()
        """What others ask for; ``requests.add`` may be called from any thread."""
        self._loaded = False
        self._announced = False
        self._stopping = False
        # How often it was asked to stop; it may also stop by itself.
        self._stops = 0
        self._final: int | None = None
        self._ends: list[int] = []
        self._status = ""
        self._seen_at = time.monotonic()
        self._alive_at = 0.0
        self._health = Health(live=True, ready=False, reason="the workers are being started")

    def run(self) -> int:
        """Supervise until the end of the last worker; return the exit status.

        It is 0 after a graceful stop; 1 if workers were stopped at once, or had to stop meanwhile;
        2 if the application cannot be loaded or an option is wrong; 70 if a worker had to be ended
        by force.
        """
        with self.requests:
            self._selector.register(self.requests.reader, selectors.EVENT_READ)
            # The first one alone: what is wrong with the application is said once, not N times.
            self._slots[0].start_now()
            try:
                while not self._over():
                    self._turn()
                    self._selector.select(self._sleep())
            finally:
                self._abandon()
        return self._exit_status()

    def health(self) -> Health:
        """Return how the workers are; may be called from any thread."""
        silent = time.monotonic() - self._seen_at
        if silent >= STUCK_AFTER:
            reason = f"the supervisor has not come round for {silent:.0f} s"
            return Health(False, False, reason, self._health.workers)
        return self._health

    # One turn -------------------------------------------------------------------------------------

    def _turn(self) -> None:
        for request, reason in self.requests.take():
            if request is Request.STOP:
                self._stop(reason)
            elif not self._stopping:
                self._restart(reason)
        for slot, child in self._children():
            if not child.receive():
                self._unwatch(child)
            status = child.poll()
            if status is not None:
                self._ended(slot, child, status)
            elif child.kill_at is not None and child.kill_at <= time.monotonic():
                _logger.error("%s has not ended in time and is killed", child.name)
                child.kill()
            elif child.loaded:
                self._has_loaded()
        if not self._stopping:
            for slot in self._slots:
                slot.start_if_due()
            self._go_on_restarting()
        self._watch()
        self._publish()

    def _has_loaded(self) -> None:
        if not self._loaded:
            self._loaded = True
            for slot in self._slots:
                if slot.child is None:
                    slot.start_now()

    def _ended(self, slot: Slot, child: Child, status: int) -> None:
        self._unwatch(child)
        self._watched.discard(child)
        child.close()
        if self._stopping:
            self._ends.append(FORCED if child.killed else _as_asked(child, status))
        if child.stopping:
            level = logging.INFO if status == 0 else logging.WARNING
            _logger.log(level, "%s %s", child.name, describe_status(status))
        if child in slot.leaving:
            slot.leaving.remove(child)
        elif child is slot.successor:
            slot.successor = None
            self._rolling.give_up()
            self._say(child, status, "the restart is given up, the other workers go on")
            self._notifier.ready(f"restart given up: {child.name} {describe_status(status)}")
        else:
            slot.child = None
            if not self._stopping:
                self._replace_dead(slot, child, status)

    def _replace_dead(self, slot: Slot, child: Child, status: int) -> None:
        if slot.successor is not None:
            self._say(child, status, "its successor is there already")
            slot.promote()
        elif status != USAGE:
            wait = slot.start_later(child.healthy_for())
            self._say(child, status, f"it is started again in {wait:g} s")
        elif self._waits_for_changes and self._loaded:
            slot.wait_for_change()
            self._say(child, status, "waiting for a change of the code")
        else:
            self._final = USAGE
            self._say(child, status, "starting it again would not help")
            self._begin_to_stop(f"{child.name} cannot run")

    def _say(self, child: Child, status: int, consequence: str) -> None:
        level = logging.INFO if status == 0 else logging.ERROR
        _logger.log(level, "%s %s; %s", child.name, describe_status(status), consequence)

    # Requests -------------------------------------------------------------------------------------

    def _stop(self, reason: str) -> None:
        """Stop gracefully; the second time at once; the third time kill."""
        self._stops += 1
        children = [child for _slot, child in self._children()]
        if self._stops == 1:
            self._begin_to_stop(reason)
        elif self._stops == 2:  # noqa: PLR2004 - the second time
            _logger.warning("%s: stopping at once; what has not ended runs again elsewhere", reason)
            for child in children:
                child.stop_at_once()
        else:
            _logger.warning("%s: killing the workers", reason)
            for child in children:
                child.kill()

    def _begin_to_stop(self, reason: str) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._rolling.give_up()
        children = [child for _slot, child in self._children()]
        hint = "; running attempts may end. Send it again to stop at once" if children else ""
        _logger.info("%s: stopping %d workers%s", reason, len(children), hint)
        self._notifier.stopping("stopping: running attempts may end")
        for child in children:
            child.stop()

    def _restart(self, reason: str) -> None:
        _logger.info("%s: restarting the workers one by one", reason)
        self._notifier.reloading("restarting the workers one by one")
        self._rolling.begin()

    def _go_on_restarting(self) -> None:
        if not self._rolling.under_way:
            return
        end = self._rolling.go_on()
        if end is not None:
            _logger.info("%s", end)
            self._notifier.ready(end)

    # Others ---------------------------------------------------------------------------------------

    def _publish(self) -> None:
        now = self._seen_at = time.monotonic()
        self._health = health = health_of(slot.health() for slot in self._slots)
        ready = sum(worker.ready for worker in health.workers)
        status = f"{ready} of {len(self._slots)} workers claim jobs"
        if health.ready and not self._announced:
            self._announced = True
            _logger.info("%s", status)
            self._notifier.ready(status)
        elif status != self._status and not self._stopping:
            self._notifier.status(status if health.ready else f"{status}: {health.reason}")
        self._status = status
        interval = self._notifier.interval
        if interval is not None and self._health.live and now >= self._alive_at + interval / 2:
            self._alive_at = now
            self._notifier.alive()

    def _children(self) -> list[tuple[Slot, Child]]:
        return [(slot, child) for slot in self._slots for child in slot.children]

    def _watch(self) -> None:
        """Be woken by what new processes send."""
        for _slot, child in self._children():
            if child not in self._watched:
                self._watched.add(child)
                self._selector.register(child.connection, selectors.EVENT_READ)

    def _unwatch(self, child: Child) -> None:
        if child.connection in self._selector.get_map():
            self._selector.unregister(child.connection)

    def _sleep(self) -> float:
        now = time.monotonic()
        return max(0.0, min((at - now for at in self._deadlines()), default=self.LONGEST_SLEEP))

    def _deadlines(self) -> Iterator[float]:
        now = time.monotonic()
        yield now + self.LONGEST_SLEEP
        if self._notifier.interval is not None and self._health.live:
            yield self._alive_at + self._notifier.interval / 2
        for slot in self._slots:
            if slot.start_at is not None and not self._stopping:
                yield slot.start_at
            yield from (child.kill_at for child in slot.children if child.kill_at is not None)

    # The end --------------------------------------------------------------------------------------

    def _over(self) -> bool:
        return self._stopping and not self._children()

    def _abandon(self) -> None:
        """Leave no process behind, whatever went wrong here."""
        for _slot, child in self._children():
            child.kill()
        self._selector.close()

    def _exit_status(self) -> int:
        if self._final is not None:
            return self._final
        if FORCED in self._ends:
            return FORCED
        return 1 if self._stops > 1 or any(self._ends) else 0


def _as_asked(child: Child, status: int) -> int:
    """Return the status of a process that was asked to stop."""
    # An init system signals the whole group: one that has no handlers yet ends of that.
    return 0 if not child.loaded and status < 0 and not child.killed else status
