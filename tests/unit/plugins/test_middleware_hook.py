"""Plugins that run code around attempts."""

from __future__ import annotations

import threading

import pytest

from taskito import Middleware, Queue
from taskito.plugins import PluginWarning, hookimpl
from taskito.plugins.manager import PluginManager


class Noting(Middleware):
    def __init__(self, notes):
        self.notes = notes

    def before(self, job, args, kwargs):
        self.notes.append(("before", job.task_name))

    def after(self, job, args, kwargs, result, error):
        self.notes.append(("after", result))


def plugin_with(*items):
    class Plugin:
        @hookimpl
        def taskito_register_middleware(self):
            yield from items

    return Plugin()


def test_middleware_of_a_plugin_runs_around_the_task_before_that_of_the_application(
    plugin_entry_point, monkeypatch
):
    notes = []
    plugins = PluginManager([plugin_entry_point("noting", plugin_with(Noting(notes)))])
    monkeypatch.setattr("taskito.app.running.plugin_manager", lambda: plugins)
    with Queue(db_path=":memory:", workers=1) as queue:
        double = queue.task(name="double")(lambda n: 2 * n)
        queue.before_task(lambda *_: notes.append("application"))
        threading.Thread(target=queue.run_worker, daemon=True).start()
        assert double.delay(1).result(timeout=20) == 2
    assert notes == [("before", "double"), "application", ("after", 2)]


def test_what_is_no_middleware_is_left_out_by_name(plugin_entry_point):
    good = Noting([])
    plugins = PluginManager([plugin_entry_point("odd", plugin_with(object(), good))])
    with pytest.warns(PluginWarning, match=r"'odd' of strange-things 1\.2: .*no Middleware"):
        assert plugins.middleware() == [good]
