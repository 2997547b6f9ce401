"""Backends by URL, and the URLs of SQLite."""

from __future__ import annotations

import pytest

from taskito._core import VirtualClock
from taskito.backends import BackendOptions
from taskito.backends.memory import MemoryBackend
from taskito.backends.registry import open_backend
from taskito.backends.sqlite import SqliteBackend
from taskito.exceptions import CapabilityError, ConfigurationError, QueueClosedError
from taskito.plugins import BackendFactory, PluginWarning, hookimpl
from taskito.plugins.manager import PluginManager


class OneBackend:
    """A plugin with one backend, as a test wants it."""

    def __init__(self, **fields):
        self.factory = BackendFactory(**{"scheme": "strange", **fields})

    @hookimpl
    def taskito_register_backends(self):
        return [self.factory]


@pytest.fixture
def plugins_with(plugin_entry_point):
    def build(**fields):
        return PluginManager([plugin_entry_point("strange", OneBackend(**fields))])

    return build


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:///folder/relative.db", "folder/relative.db"),
        ("sqlite:////absolute/tasks.db", "/absolute/tasks.db"),
        ("sqlite:///a%20b%3Fc.db", "a b?c.db"),
        ("sqlite://:memory:", ":memory:"),
        ("sqlite:///:memory:", ":memory:"),
        ("SQLITE:///tasks.db", "tasks.db"),
    ],
)
def test_sqlite_urls(url, path):
    backend = open_backend(url)
    assert isinstance(backend, SqliteBackend)
    assert backend.path == path
    assert backend.native_store is None


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://tasks.db", "sqlite:///tasks.db"),
        ("sqlite:///", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///tasks.db?mode=ro", "'mode'"),
        ("sqlite:///tasks.db?allow_network=perhaps", "allow_network: 'perhaps'"),
        ("sqlite:///tasks.db#1", "%23"),
        ("tasks.db", "sqlite:///tasks.db"),
        ("sqlit:///tasks.db", "Did you mean 'sqlite'"),
        ("kafka://x", "'kafka'.* Known are memory, sqlite"),
        (7, "7 is neither a URL"),
    ],
)
def test_a_bad_url_is_explained(url, told):
    with pytest.raises(ConfigurationError, match=told):
        open_backend(url, plugins=PluginManager([]))


def test_the_network_is_allowed_on_request():
    assert not SqliteBackend.from_url("sqlite:///t.db", BackendOptions()).allow_network
    url = "sqlite:///t.db?allow_network=true"
    assert SqliteBackend.from_url(url, BackendOptions()).allow_network


def test_options_reach_the_backend():
    options = BackendOptions(namespace="n", clock=VirtualClock(0))
    backend = open_backend("memory://x", options)
    assert isinstance(backend, MemoryBackend)
    assert (backend.store_name, backend.options) == ("x", options)


def test_a_backend_is_returned_as_it_is():
    backend = MemoryBackend()
    assert open_backend(backend) is backend


def test_a_backend_for_another_interface_is_refused_by_name(plugins_with):
    plugins = plugins_with(factory=lambda url, options: MemoryBackend("", options), api=99)
    told = r"'strange' of strange-things 1\.2 .* 99 .* 1;"
    with (
        pytest.warns(PluginWarning, match="BACKEND_API 99"),
        pytest.raises(ConfigurationError, match=told),
    ):
        open_backend("strange://", plugins=plugins)


def test_a_factory_that_makes_something_else_is_named(plugins_with):
    plugins = plugins_with(factory=lambda url, options: object(), api=1)
    with pytest.raises(ConfigurationError, match="strange-things"):
        open_backend("strange://", plugins=plugins)


def test_a_clock_needs_a_backend_that_can_have_it_replaced(plugins_with):
    class Clockless(MemoryBackend):
        capabilities = type(MemoryBackend.capabilities)()

    plugins = plugins_with(factory=lambda url, options: Clockless("", options))
    assert isinstance(open_backend("strange://", plugins=plugins), Clockless)
    with pytest.raises(CapabilityError, match="virtual_time"):
        open_backend("strange://", BackendOptions(clock=VirtualClock(0)), plugins=plugins)


def test_a_clock_that_the_engine_cannot_ask_is_refused(tmp_path):
    class PythonClock:
        def wall_ms(self):
            return 0

        def steady_ms(self):
            return 0

    backend = SqliteBackend(str(tmp_path / "t.db"), BackendOptions(clock=PythonClock()))
    with pytest.raises(ConfigurationError, match="clock"):
        backend.open()


def test_a_closed_sqlite_backend_refuses_and_can_be_opened_again(tmp_path):
    backend = SqliteBackend(str(tmp_path / "t.db"))
    backend.open()
    backend.open()
    assert backend.native_store is not None
    backend.close()
    backend.close()
    assert backend.native_store is None
    with pytest.raises(QueueClosedError, match=r"t\.db"):
        backend.counts()
    backend.open()
    assert backend.counts() == []
    backend.close()
