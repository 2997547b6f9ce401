"""What plugins return from their hooks, and what is refused of it."""

from __future__ import annotations

import click
import pytest

from taskito.backends.memory import MemoryBackend
from taskito.exceptions import ConfigurationError
from taskito.plugins import BackendFactory, PluginStatus, PluginWarning, SerializerFactory, hookimpl
from taskito.plugins.builtin import BUILTIN_PLUGINS
from taskito.plugins.hookspecs import __all__ as hook_names
from taskito.plugins.manager import PluginManager
from taskito.plugins.serializers import get_serializer
from taskito.serializers import JsonSerializer


def make_memory(url, options):
    return MemoryBackend("", options)


def backend_plugin(*offers):
    class Plugin:
        @hookimpl
        def taskito_register_backends(self):
            return list(offers)

    return Plugin()


def serializer_plugin(*offers):
    class Plugin:
        @hookimpl
        def taskito_register_serializers(self):
            return list(offers)

    return Plugin()


def scheduler_plugin(result):
    class Plugin:
        @hookimpl
        def taskito_register_scheduler(self):
            return result

    return Plugin()


class GoodScheduler:
    def run(self, worker):
        pass

    def stop(self):
        pass


def test_what_taskito_ships_comes_first_and_a_scheme_is_offered_once(plugin_entry_point):
    mine = BackendFactory(scheme="sqlite", factory=make_memory)
    other = BackendFactory(scheme="other", factory=make_memory)
    entry_points = [
        plugin_entry_point("b", backend_plugin(BackendFactory(scheme="other", factory=print))),
        plugin_entry_point("a", backend_plugin(mine, other)),
    ]
    plugins = PluginManager(entry_points, disabled={"commands"})
    with pytest.warns(PluginWarning, match="is refused") as caught:
        listed = plugins.plugins()
    offers = plugins.backends()
    assert sorted(str(warning.message).split("'")[1] for warning in caught) == ["a", "b"]
    assert offers["sqlite"].item.factory is not make_memory
    assert offers["other"].item is other
    a, b = listed[-2:]
    assert (a.status, b.status) == (PluginStatus.ACTIVE, PluginStatus.ACTIVE)
    assert "'sqlite' is refused" in (a.reason or "")


@pytest.mark.parametrize("scheme", ["", "Upper", "with space", "a:b", None, 7])
def test_a_scheme_must_be_one(plugin_entry_point, scheme):
    bad = BackendFactory(scheme=scheme, factory=make_memory)
    plugins = PluginManager([plugin_entry_point("bad", backend_plugin(bad))])
    with pytest.warns(PluginWarning, match="scheme"):
        assert list(plugins.backends()) == ["sqlite", "memory"]


@pytest.mark.parametrize("nonsense", ["text", object(), SerializerFactory])
def test_what_is_no_offer_is_named(plugin_entry_point, nonsense):
    good = BackendFactory(scheme="good", factory=make_memory)
    plugins = PluginManager([plugin_entry_point("odd", backend_plugin(nonsense, good))])
    with pytest.warns(PluginWarning, match="'odd'.*no BackendFactory"):
        assert "good" in plugins.backends()


def test_a_hook_that_raises_does_not_silence_the_others(plugin_entry_point):
    class Raising:
        @hookimpl
        def taskito_register_backends(self):
            yield BackendFactory(scheme="early", factory=make_memory)
            raise RuntimeError("no more")

    good = backend_plugin(BackendFactory(scheme="good", factory=make_memory))
    plugins = PluginManager([plugin_entry_point("a", Raising()), plugin_entry_point("b", good)])
    with pytest.warns(PluginWarning, match="'a'.*RuntimeError: no more"):
        offers = plugins.backends()
    assert list(offers) == ["sqlite", "memory", "good"]


def test_the_first_scheduler_wins_and_is_asked_for_anew(plugin_entry_point):
    chosen = GoodScheduler()
    entry_points = [
        plugin_entry_point("a", scheduler_plugin(None)),
        plugin_entry_point("b", scheduler_plugin(chosen)),
        plugin_entry_point("c", scheduler_plugin(GoodScheduler())),
    ]
    plugins = PluginManager(entry_points)
    assert plugins.scheduler() is chosen
    assert plugins.scheduler() is chosen


def test_what_is_no_scheduler_is_named(plugin_entry_point):
    plugins = PluginManager([plugin_entry_point("odd", scheduler_plugin("text"))])
    with pytest.warns(PluginWarning, match=r"'odd'.*run\(worker\)"):
        assert plugins.scheduler() is None


def test_commands_are_offered_by_name(plugin_entry_point):
    @click.command("export")
    def export():
        pass

    class Plugin:
        @hookimpl
        def taskito_register_commands(self):
            return [export, click.Command(None)]

    plugins = PluginManager([plugin_entry_point("mine", Plugin())], disabled={"commands"})
    with pytest.warns(PluginWarning, match="name None"):
        assert {name: offer.item for name, offer in plugins.commands().items()} == {
            "export": export
        }


@pytest.mark.parametrize("name", ["msgpack", "json", "pickle"])
def test_shipped_serializers_are_made_by_name(name):
    serializer = get_serializer(name)
    assert serializer.name == name
    assert serializer.loads(serializer.dumps([1, "two"])) == [1, "two"]


def test_an_unknown_serializer_is_refused_with_a_suggestion():
    with pytest.raises(ConfigurationError, match="Did you mean 'msgpack'"):
        get_serializer("msgpak", plugins=PluginManager([]))


@pytest.mark.parametrize("made", [object(), JsonSerializer()])
def test_a_factory_that_makes_something_else_is_named(plugin_entry_point, made):
    offer = SerializerFactory(name="mine", factory=lambda: made)
    plugins = PluginManager([plugin_entry_point("mine", serializer_plugin(offer))])
    with pytest.raises(ConfigurationError, match="strange-things"):
        get_serializer("mine", plugins=plugins)


def test_every_hook_is_documented():
    from taskito.plugins import hookspecs

    for name in hook_names:
        text = getattr(hookspecs, name).__doc__
        for part in ("Called", "Returns:", "Example:", f"def {name}("):
            assert part in text, (name, part)


def test_every_shipped_plugin_implements_a_hook():
    plugins = PluginManager([])
    plugins.backends()
    listed = {plugin.name: plugin for plugin in plugins._loaded().plugins.values()}
    assert set(listed) == set(BUILTIN_PLUGINS)
    assert all(plugin.hooks for plugin in listed.values())
