"""``TASKITO_TRACE_PLUGINS``, and the versions that plugins are written for."""

from __future__ import annotations

import types

import pytest

from taskito.backends.memory import MemoryBackend
from taskito.plugins import (
    PLUGIN_API,
    BackendFactory,
    PluginStatus,
    PluginWarning,
    SerializerFactory,
    hookimpl,
)
from taskito.plugins.manager import PluginManager
from taskito.serializers import JsonSerializer

TITLE = r"plugin 'p' of strange-things 1\.2"


def serializer_plugin(**attributes):
    @hookimpl
    def taskito_register_serializers():
        return [SerializerFactory(name="text", factory=JsonSerializer)]

    return types.SimpleNamespace(
        taskito_register_serializers=taskito_register_serializers, **attributes
    )


@pytest.mark.parametrize("value", ["1", "yes"])
def test_each_step_and_call_is_written(plugin_entry_point, monkeypatch, capsys, value):
    monkeypatch.setenv("TASKITO_TRACE_PLUGINS", value)
    PluginManager([plugin_entry_point("p", serializer_plugin())]).serializers()
    lines = capsys.readouterr().err.splitlines()
    title = "plugin 'p' of strange-things 1.2"
    assert f"taskito plugins: {title}: implements taskito_register_serializers" in lines
    [call] = [line for line in lines if f"taskito_register_serializers of {title} returned" in line]
    assert "SerializerFactory" in call
    assert call.endswith(" ms")


def test_a_call_that_raises_is_written(plugin_entry_point, monkeypatch, capsys):
    class Raising:
        @hookimpl
        def taskito_register_serializers(self):
            raise KeyError("x")

    monkeypatch.setenv("TASKITO_TRACE_PLUGINS", "1")
    with pytest.warns(PluginWarning, match="KeyError"):
        PluginManager([plugin_entry_point("p", Raising())]).serializers()
    assert "raised KeyError after" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["", "0"])
def test_nothing_is_written_otherwise(plugin_entry_point, monkeypatch, capsys, value):
    monkeypatch.setenv("TASKITO_TRACE_PLUGINS", value)
    PluginManager([plugin_entry_point("p", serializer_plugin())]).serializers()
    assert capsys.readouterr().err == ""


def test_the_version_of_the_hooks_may_be_named(plugin_entry_point):
    plugin = serializer_plugin(PLUGIN_API=PLUGIN_API)
    assert "text" in PluginManager([plugin_entry_point("p", plugin)]).serializers()


@pytest.mark.parametrize(
    ("version", "newer"), [(0, "the plugin"), (99, "taskito"), ("x", "taskito")]
)
def test_a_plugin_for_other_hooks_is_left_out_and_the_host_goes_on(
    plugin_entry_point, version, newer
):
    plugins = PluginManager([plugin_entry_point("p", serializer_plugin(PLUGIN_API=version))])
    with pytest.warns(PluginWarning, match=rf"{TITLE}: .*version {version!r}.*newer .*{newer}$"):
        assert list(plugins.serializers()) == ["msgpack", "json", "pickle"]
    [listed] = [plugin for plugin in plugins.plugins() if plugin.name == "p"]
    assert listed.status is PluginStatus.BROKEN


def test_a_backend_for_another_seam_is_named_in_a_warning_and_stays_listed(plugin_entry_point):
    class Plugin:
        @hookimpl
        def taskito_register_backends(self):
            return [BackendFactory(scheme="s", factory=lambda *_: MemoryBackend(), api=99)]

    plugins = PluginManager([plugin_entry_point("p", Plugin())])
    with pytest.warns(PluginWarning, match=rf"{TITLE}: scheme 's' .* BACKEND_API 99.* has 1"):
        assert list(plugins.backends()) == ["sqlite", "memory", "s"]
