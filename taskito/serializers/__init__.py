"""Serializers: how task arguments and results become bytes.

The default is ``MsgpackSerializer``. Every payload carries the name of its serializer, so that a
queue can be moved from one to another without draining it.
"""

from __future__ import annotations

from taskito.serializers.base import Serializer
from taskito.serializers.context import PayloadContext, PayloadKind
from taskito.serializers.encrypted import EncryptedSerializer
from taskito.serializers.json import JsonSerializer
from taskito.serializers.keys import KeyRing
from taskito.serializers.msgpack import MsgpackSerializer
from taskito.serializers.pickle import PickleSerializer
from taskito.serializers.registry import Registry, register
from taskito.serializers.signed import SignedSerializer

__all__ = [
    "EncryptedSerializer",
    "JsonSerializer",
    "KeyRing",
    "MsgpackSerializer",
    "PayloadContext",
    "PayloadKind",
    "PickleSerializer",
    "Registry",
    "Serializer",
    "SignedSerializer",
    "register",
]
