"""Serializers: how task arguments and results become bytes.

The default is ``MsgpackSerializer``. Every payload carries the name of its serializer, so that a
queue can be moved from one to another without draining it.
"""

from __future__ import annotations

from taskito.serializers.base import Serializer
from taskito.serializers.json import JsonSerializer
from taskito.serializers.msgpack import MsgpackSerializer
from taskito.serializers.pickle import PickleSerializer
from taskito.serializers.registry import Registry, register

__all__ = [
    "JsonSerializer",
    "MsgpackSerializer",
    "PickleSerializer",
    "Registry",
    "Serializer",
    "register",
]
