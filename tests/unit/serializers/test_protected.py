"""Signed and encrypted payloads: what is refused, and why; keys and their exchange."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito import ConfigurationError, SerializationError
from taskito.serializers import (
    EncryptedSerializer,
    JsonSerializer,
    KeyRing,
    MsgpackSerializer,
    PayloadContext,
    PayloadKind,
    SignedSerializer,
)

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
CALL = PayloadContext(kind=PayloadKind.CALL, task="shop.pay", job="job-1")
RESULT = PayloadContext(kind=PayloadKind.RESULT, task="shop.pay", job="job-1", run=7)
KINDS = [SignedSerializer, EncryptedSerializer]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def serializer(kind):
    return kind(MsgpackSerializer(), {"new": NEW, "old": OLD})


def test_what_was_encoded_for_a_place_is_decoded_there(serializer):
    value = [[1, "two", {3}], {"at": (4,)}]
    for context in (CALL, RESULT):
        assert serializer.loads_in(serializer.dumps_in(value, context), context) == value
    assert serializer.loads(serializer.dumps(value)) == value


@pytest.mark.parametrize(
    "place",
    [
        PayloadContext(kind=PayloadKind.CALL, task="shop.pay", job="job-2"),
        PayloadContext(kind=PayloadKind.CALL, task="shop.refund", job="job-1"),
        RESULT,
        PayloadContext(kind=PayloadKind.RESULT, task="shop.pay", job="job-1", run=0),
        None,
    ],
)
def test_a_payload_at_another_place_is_refused_with_both_places(serializer, place):
    payload = serializer.dumps_in([[], {}], CALL)
    with pytest.raises(SerializationError, match=r"made for the call of job job-1 .* found at"):
        serializer.loads_in(payload, place) if place else serializer.loads(payload)


def test_the_result_of_another_attempt_is_refused(serializer):
    payload = serializer.dumps_in("paid", RESULT)
    other = PayloadContext(kind=PayloadKind.RESULT, task="shop.pay", job="job-1", run=8)
    with pytest.raises(SerializationError, match=r"run 7, and was found at .* run 8"):
        serializer.loads_in(payload, other)


def test_what_belongs_to_no_job_is_refused_at_a_job(serializer):
    with pytest.raises(SerializationError, match="made for no job"):
        serializer.loads_in(serializer.dumps([[], {}]), CALL)


def test_a_replay_may_have_the_payload_of_its_original_and_no_other(serializer):
    payload = serializer.dumps_in([[1], {}], CALL)

    def replay(*origins, task="shop.pay"):
        return PayloadContext(kind=PayloadKind.CALL, task=task, job="job-9", origins=origins)

    assert serializer.loads_in(payload, replay("job-5", "job-1")) == [[1], {}]
    for place in (replay("job-5"), replay("job-1", task="shop.refund")):
        with pytest.raises(SerializationError, match="was made for"):
            serializer.loads_in(payload, place)


def test_a_call_without_an_id_is_refused(serializer):
    place = PayloadContext(kind=PayloadKind.CALL, task="shop.pay")
    with pytest.raises(SerializationError, match=r"'shop.pay' cannot be bound to a job"):
        serializer.dumps_in([[], {}], place)


@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_byte_and_no_cut_gets_through(kind):
    serializer = kind(JsonSerializer(), {"k": OLD})
    payload = serializer.dumps_in([[1, 2], {"a": "b"}], CALL)
    for index in range(len(payload)):
        for bit in (0x01, 0x80):
            changed = bytearray(payload)
            changed[index] ^= bit
            with pytest.raises(SerializationError):
                serializer.loads_in(bytes(changed), CALL)
        with pytest.raises(SerializationError):
            serializer.loads_in(payload[:index], CALL)
    with pytest.raises(SerializationError):
        serializer.loads_in(payload + b"\0", CALL)


@given(data=st.binary(max_size=200), head=st.booleans())
def test_garbage_is_refused_and_never_crashes(data, head):
    for kind in KINDS:
        serializer = kind(JsonSerializer(), {"k": OLD})
        start = serializer.dumps_in([], CALL)[:40] if head else b""
        with pytest.raises(SerializationError):
            serializer.loads_in(start + data, CALL)


@pytest.mark.parametrize("wrong", [None, "text", 3])
def test_what_is_not_bytes_is_refused(serializer, wrong):
    with pytest.raises(SerializationError, match="must be bytes"):
        serializer.loads(wrong)


def test_signed_by_somebody_else_under_the_same_name_is_refused(kind):
    forged = kind(MsgpackSerializer(), {"new": bytes(32)}).dumps_in([[], {}], CALL)
    with pytest.raises(SerializationError, match="another key than the one that is named 'new'"):
        kind(MsgpackSerializer(), {"new": NEW}).loads_in(forged, CALL)


def test_a_signature_is_no_encryption_and_no_other_inner_serializer():
    ring = {"k": OLD}
    signed = SignedSerializer(MsgpackSerializer(), ring)
    encrypted = EncryptedSerializer(MsgpackSerializer(), ring)
    for maker, reader in (
        (signed, encrypted),
        (encrypted, signed),
        (signed, SignedSerializer(JsonSerializer(), ring)),
    ):
        with pytest.raises(SerializationError, match=r"it was changed|nonce"):
            reader.loads_in(maker.dumps_in([[], {}], CALL), CALL)


def test_encrypted_values_are_not_readable_and_signed_ones_are():
    ring = {"k": OLD}
    value = "a secret of some length"
    assert value.encode() in SignedSerializer(JsonSerializer(), ring).dumps_in(value, CALL)
    encrypted = EncryptedSerializer(JsonSerializer(), ring)
    assert value.encode() not in encrypted.dumps_in(value, CALL)
    assert encrypted.dumps_in(value, CALL) != encrypted.dumps_in(value, CALL)


def test_the_signature_is_hmac_sha_256_over_header_and_body():
    """Computed again with the library cryptography, from the documented layout alone."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.hmac import HMAC
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    payload = SignedSerializer(JsonSerializer(), {"k": OLD}).dumps_in([1], CALL)
    texts = (b"k", b"call", b"shop.pay", b"job-1", b"0")
    header = b"\x01" + b"".join(len(text).to_bytes(2) + text for text in texts)
    body = b"[1]"
    key = HKDFExpand(hashes.SHA256(), 32, b"taskito signature signed-json").derive(OLD)
    mac = HMAC(key, hashes.SHA256())
    mac.update(header + body)
    assert payload == header + (32).to_bytes(2) + mac.finalize() + body


def test_keys_are_exchanged_without_losing_anything(kind):
    inner = MsgpackSerializer()
    before = kind(inner, {"old": OLD})
    both = kind(inner, KeyRing({"old": OLD, "new": NEW}, current="new"))
    after = kind(inner, {"new": NEW})
    waiting = before.dumps_in([[1], {}], CALL)
    fresh = both.dumps_in([[2], {}], CALL)
    assert both.loads_in(waiting, CALL) == [[1], {}]
    assert after.loads_in(fresh, CALL) == [[2], {}]
    with pytest.raises(SerializationError, match="made with key 'old', and the keys here are new"):
        after.loads_in(waiting, CALL)


def test_a_digest_is_the_same_for_the_same_value_and_needs_the_key_if_encrypted():
    inner = JsonSerializer()
    signed = SignedSerializer(inner, {"k": OLD})
    encrypted = EncryptedSerializer(inner, {"k": OLD})
    assert signed.digest([1]) == inner.digest([1]) != inner.digest([2])
    assert encrypted.digest([1]) == encrypted.digest([1])
    assert encrypted.digest([1]) != inner.digest([1])
    assert encrypted.digest([1]) != EncryptedSerializer(inner, {"k": NEW}).digest([1])


@pytest.mark.parametrize(
    ("keys", "current", "told"),
    [
        ({}, None, "at least one key"),
        ([OLD], None, "a dict"),
        ({"k": OLD[:-1]}, None, "'k' is 31 bytes; give 32"),
        ({"k": "x" * 32}, None, "'k' is str; give 32"),
        ({"a,b": OLD}, None, "the name 'a,b'"),
        ({"k": OLD}, "l", "no key 'l', only k"),
    ],
)
def test_wrong_keys_are_refused_and_not_shown(keys, current, told):
    with pytest.raises(ConfigurationError, match=told) as refusal:
        KeyRing(keys, current)
    assert repr(OLD)[2:-1] not in str(refusal.value)
    assert repr(OLD)[2:-1] not in repr(KeyRing({"k": OLD}))


def test_keys_from_the_environment(monkeypatch):
    new, old = (base64.b64encode(key).decode() for key in (NEW, OLD))
    monkeypatch.setenv("TASKITO_KEYS", f"new:{new}, old:{old}")
    ring = KeyRing.from_environment()
    assert (ring.current, ring.names) == ("new", ("new", "old"))
    assert ring.derive("x") == KeyRing({"new": NEW, "old": OLD}).derive("x")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not set"),
        ("novalue", "entry 1 has no colon"),
        ("a:AAAA", "'a' is 3 bytes"),
        ("a:!!", "'a' is not in Base64"),
        ("a:AAAA,a:AAAA", "entry 2 occurs twice"),
    ],
)
def test_malformed_keys_in_the_environment(monkeypatch, text, told):
    monkeypatch.setenv("TASKITO_KEYS", text)
    with pytest.raises(ConfigurationError, match=told):
        KeyRing.from_environment()


def test_an_inner_serializer_has_to_be_an_object(kind):
    with pytest.raises(ConfigurationError, match="'msgpack' is not a serializer"):
        kind("msgpack", {"k": OLD})


def test_without_the_library_encryption_says_what_to_install_and_signing_works():
    program = """
import sys
sys.modules["cryptography"] = None
sys.modules["cryptography.exceptions"] = None
from taskito.serializers import EncryptedSerializer, JsonSerializer, SignedSerializer
signed = SignedSerializer(JsonSerializer(), {"k": bytes(32)})
assert signed.loads(signed.dumps(1)) == 1
try:
    EncryptedSerializer(JsonSerializer(), {"k": bytes(32)})
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "taskito[crypto]" in done.stdout
