"""Plugins that are well, broken, disabled or in each other's way."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import textwrap
import warnings

import pluggy
import pytest

from taskito.deprecation import TaskitoDeprecationWarning, deprecation
from taskito.exceptions import ConfigurationError
from taskito.plugins import (
    PluginStatus,
    PluginWarning,
    SerializerFactory,
    hookimpl,
)
from taskito.plugins.loading import Loader
from taskito.plugins.manager import PluginManager
from taskito.serializers import JsonSerializer

BUILTIN = ["sqlite", "memory", "msgpack", "json", "pickle", "commands"]


class OneSerializer:
    """A plugin that offers one serializer."""

    def __init__(self, name):
        self.name = name

    @hookimpl
    def taskito_register_serializers(self):
        yield SerializerFactory(name=self.name, factory=JsonSerializer)


def info(plugins, name):
    [found] = [plugin for plugin in plugins.plugins() if plugin.name == name]
    return found


@pytest.fixture
def without_commands():
    """The names to disable where a test lists plugins but has no business with the command line."""
    return {"commands"}


def broken_entry_point(value):
    return importlib.metadata.EntryPoint("broken", value, "taskito")


def test_nothing_is_loaded_before_it_is_needed(plugin_entry_point):
    PluginManager([broken_entry_point("no_such_module_at_all:plugin")])


def test_what_taskito_ships_is_found_through_the_same_hooks():
    plugins = PluginManager([])
    assert list(plugins.backends()) == ["sqlite", "memory"]
    assert list(plugins.serializers()) == ["msgpack", "json", "pickle"]
    assert plugins.scheduler() is None


def test_a_plugin_is_listed_with_version_and_hooks(plugin_entry_point, without_commands):
    entry_point = plugin_entry_point("text", OneSerializer("text"))
    plugins = PluginManager([entry_point], disabled=without_commands)
    assert [plugin.name for plugin in plugins.plugins()] == [*BUILTIN, "text"]
    listed = info(plugins, "text")
    assert (listed.distribution, listed.version) == ("strange-things", "1.2")
    assert listed.hooks == ("taskito_register_serializers",)
    assert (listed.status, listed.reason) == (PluginStatus.ACTIVE, None)
    assert info(plugins, "sqlite").distribution == "taskito"
    assert info(plugins, "sqlite").hooks == ("taskito_register_backends",)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("no_such_module_at_all:plugin", "ModuleNotFoundError"),
        ("json:no_such_attribute", "AttributeError"),
    ],
)
def test_a_broken_plugin_gets_one_warning_and_the_rest_goes_on(
    plugin_entry_point, without_commands, value, told
):
    good = plugin_entry_point("text", OneSerializer("text"))
    plugins = PluginManager([broken_entry_point(value), good], disabled=without_commands)
    with pytest.warns(PluginWarning, match=f"'broken'.*{told}") as caught:
        listed = info(plugins, "broken")
    assert len(caught) == 1
    assert "text" in plugins.serializers()
    assert listed.status is PluginStatus.BROKEN
    assert told in (listed.reason or "")
    assert listed.hooks == ()


def test_the_warning_names_distribution_and_version(plugin_entry_point):
    entry_point = plugin_entry_point("text", object())
    plugins = PluginManager([entry_point])
    with pytest.warns(PluginWarning, match=r"plugin 'text' of strange-things 1\.2: .*no hook"):
        plugins.backends()


def test_a_plugin_that_ends_the_process_at_import_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "taskito_leaver.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins = PluginManager([broken_entry_point("taskito_leaver")])
    with pytest.warns(PluginWarning, match="SystemExit: 3"):
        assert "sqlite" in plugins.backends()


def test_wrong_arguments_leave_the_plugin_out(plugin_entry_point, without_commands):
    class Mistaken:
        @hookimpl
        def taskito_register_backends(self):
            return []

        @hookimpl
        def taskito_register_serializers(self, registry):
            return []

    entry_point = plugin_entry_point("mistaken", Mistaken())
    plugins = PluginManager([entry_point], disabled=without_commands)
    with pytest.warns(PluginWarning, match="registry") as caught:
        listed = info(plugins, "mistaken")
    assert len(caught) == 1
    assert list(plugins.serializers()) == ["msgpack", "json", "pickle"]
    assert (listed.status, listed.hooks) == (PluginStatus.BROKEN, ())


def test_an_unknown_hook_leaves_the_plugin_out_with_a_hint(plugin_entry_point):
    class Misspelt:
        @hookimpl
        def taskito_register_backend(self):
            return []

    plugins = PluginManager([plugin_entry_point("misspelt", Misspelt())])
    with pytest.warns(PluginWarning, match="did you mean 'taskito_register_backends'"):
        plugins.backends()


def test_disabled_plugins_are_not_loaded(plugin_entry_point, monkeypatch):
    monkeypatch.setenv("TASKITO_DISABLED_PLUGINS", "broken, pickle,,commands")
    good = plugin_entry_point("text", OneSerializer("text"))
    plugins = PluginManager([broken_entry_point("no_such_module_at_all"), good])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(plugins.serializers()) == ["msgpack", "json", "text"]
        listed = info(plugins, "broken")
    assert listed.status is PluginStatus.DISABLED
    assert "TASKITO_DISABLED_PLUGINS" in (listed.reason or "")
    assert info(plugins, "pickle").status is PluginStatus.DISABLED


def test_a_name_can_be_taken_once(plugin_entry_point, without_commands):
    entry_points = [
        plugin_entry_point("sqlite", OneSerializer("one")),
        plugin_entry_point("text", OneSerializer("two")),
        plugin_entry_point("text", OneSerializer("three")),
    ]
    plugins = PluginManager(entry_points, disabled=without_commands)
    with pytest.warns(PluginWarning, match="its name is taken") as caught:
        listed = plugins.plugins()
    assert len(caught) == 2
    assert list(plugins.serializers()) == ["msgpack", "json", "pickle", "two"]
    statuses = [plugin.status for plugin in listed if plugin.name == "text"]
    assert statuses == [PluginStatus.ACTIVE, PluginStatus.BROKEN]


def test_an_installed_plugin_is_found(tmp_path):
    """Through a real distribution on the path, in a process of its own."""
    metadata = tmp_path / "strange_things-3.4.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: strange-things\nVersion: 3.4\n"
    )
    (metadata / "entry_points.txt").write_text("[taskito]\nstrange = strange_things\n")
    (tmp_path / "strange_things.py").write_text(
        textwrap.dedent("""
            from taskito.plugins import SerializerFactory, hookimpl
            from taskito.serializers import Serializer

            class Nothing(Serializer):
                name = "nothing"

                def dumps(self, value):
                    return b""

                def loads(self, data):
                    return None

            @hookimpl
            def taskito_register_serializers():
                return [SerializerFactory(name="nothing", factory=Nothing)]
        """)
    )
    program = textwrap.dedent("""
        import sys
        sys.path.append(sys.argv[1])
        from taskito.plugins.manager import plugin_manager
        assert "strange_things" not in sys.modules
        from taskito.plugins.serializers import get_serializer
        assert get_serializer("nothing").loads(b"") is None
        assert plugin_manager() is plugin_manager()
        offer = plugin_manager().serializers()["nothing"]
        assert offer.plugin == "plugin 'strange' of strange-things 3.4", offer
        assert "taskito.backends.memory" not in sys.modules
        assert "taskito._core" not in sys.modules
    """)
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plugin_of_the_application_is_added_before_the_others_are_loaded(without_commands):
    plugins = PluginManager([], disabled=without_commands)
    plugins.add("mine", OneSerializer("text"))
    assert "text" in plugins.serializers()
    listed = info(plugins, "mine")
    assert (listed.distribution, listed.status) == ("this application", PluginStatus.ACTIVE)
    with pytest.raises(ConfigurationError, match="'late' comes too late"):
        plugins.add("late", OneSerializer("other"))


def test_a_deprecated_hook_and_argument_warn_with_the_version_and_the_plugin(plugin_entry_point):
    spec = pluggy.HookspecMarker("taskito")
    old = deprecation("taskito_old", instead="taskito_new", removed_in="0.3")
    argument = deprecation("taskito_new(colour)", instead="color", removed_in="0.4")

    class Specifications:
        @spec(warn_on_impl=old)
        def taskito_old(self): ...

        @spec(warn_on_impl_args={"colour": argument})
        def taskito_new(self, color, colour): ...

    class Plugin:
        @hookimpl
        def taskito_old(self): ...

        @hookimpl
        def taskito_new(self, colour): ...

    loader = Loader([plugin_entry_point("p", Plugin())], ["sqlite", *BUILTIN], {}, Specifications)
    with pytest.warns(TaskitoDeprecationWarning) as caught:
        loader.load()
    title = "plugin 'p' of strange-things 1.2: "
    assert sorted(str(warning.message) for warning in caught) == [
        f"{title}taskito_new(colour) is deprecated and goes in taskito 0.4; use color",
        f"{title}taskito_old is deprecated and goes in taskito 0.3; use taskito_new",
    ]
    assert loader.plugins["p"].hooks == ("taskito_new", "taskito_old")
