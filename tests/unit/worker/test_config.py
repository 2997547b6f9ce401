from __future__ import annotations

import os

import pytest

from taskito.exceptions import ConfigurationError
from taskito.serializers.json import JsonSerializer
from taskito.serializers.msgpack import MsgpackSerializer
from taskito.worker.config import WorkerConfig

MSGPACK = MsgpackSerializer()


def make(**changes):
    values = {
        "serializers": {"msgpack": MSGPACK},
        "serializer": MSGPACK,
        "decode_metadata": MSGPACK.loads,
    }
    return WorkerConfig(**{**values, **changes})


def test_no_concurrency_means_the_number_of_cpus() -> None:
    assert make().concurrency == os.cpu_count()
    assert make(concurrency=3).concurrency == 3


def test_queues_are_a_tuple_without_repetitions() -> None:
    assert make().queues is None
    assert make(queues=["a", "b", "a"]).queues == ("a", "b")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queues", []),
        ("queues", "default"),
        ("pool", "threads"),
        ("concurrency", -1),
        ("concurrency", 1.5),
        ("drain_timeout", -0.1),
        ("lease", 0),
        ("maintain_interval", 0),
        ("max_result_bytes", 0),
        ("serializers", {"json": JsonSerializer()}),
    ],
)
def test_wrong_value_is_named(field, value) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field}: "):
        make(**{field: value})
