from __future__ import annotations

import asyncio

from taskito.worker.loop_watchdog import LoopWatchdog


def test_a_stop_just_before_it_sleeps_ends_it(monkeypatch):
    loop = asyncio.new_event_loop()
    try:
        watchdog = LoopWatchdog(loop, busy=lambda: False, culprit=lambda: None)
        clear = watchdog._wanted.clear

        def stopped_meanwhile():
            watchdog.stop()
            clear()

        monkeypatch.setattr(watchdog._wanted, "clear", stopped_meanwhile)
        watchdog.start()
        watchdog._thread.join(10)
        assert not watchdog._thread.is_alive()
    finally:
        loop.close()
