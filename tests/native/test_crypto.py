"""Signatures and keys, against the interoperability vectors."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from engine.core import codec

ALGORITHMS = ["ES256K", "ES256"]


def unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def vectors(shared: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        (shared / "interop/vectors/crypto" / name).read_bytes()
    )
    return found


def base58(text: str) -> bytes:
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number = 0
    for letter in text:
        number = number * 58 + alphabet.index(letter)
    return number.to_bytes(32, "big")


def test_signature_vectors_verify_as_they_say(shared: Path) -> None:
    fixtures = vectors(shared, "signature-fixtures.json")
    assert len(fixtures) >= 6
    assert {tag for fixture in fixtures for tag in fixture["tags"]} == {"high-s", "der-encoded"}
    for fixture in fixtures:
        message = unpadded(fixture["messageBase64"])
        signature = unpadded(fixture["signatureBase64"])
        valid = codec.verify_signature(fixture["publicKeyDid"], message, signature)
        assert valid == fixture["validSignature"], fixture["comment"]


def test_signature_vectors_name_the_same_key_twice(shared: Path) -> None:
    for fixture in vectors(shared, "signature-fixtures.json"):
        key = codec.did_key(fixture["didDocSuite"], fixture["publicKeyMultibase"])
        assert key is not None
        assert key == fixture["publicKeyDid"]
        assert codec.did_key("Multikey", key.removeprefix("did:key:")) == key


def test_public_keys_follow_from_private_keys_k256(shared: Path) -> None:
    fixtures = vectors(shared, "w3c_didkey_K256.json")
    assert len(fixtures) >= 5
    for fixture in fixtures:
        secret = bytes.fromhex(fixture["privateKeyBytesHex"])
        assert codec.public_key("ES256K", secret) == fixture["publicDidKey"]


def test_public_keys_follow_from_private_keys_p256(shared: Path) -> None:
    fixtures = vectors(shared, "w3c_didkey_P256.json")
    assert len(fixtures) >= 1
    for fixture in fixtures:
        secret = base58(fixture["privateKeyBytesBase58"])
        assert codec.public_key("ES256", secret) == fixture["publicDidKey"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_signed_verifies_until_a_bit_changes(algorithm: str) -> None:
    source = random.Random(11)
    secret = source.randbytes(32)
    key = codec.public_key(algorithm, secret)
    message = source.randbytes(200)
    signature = codec.sign(algorithm, secret, message)
    assert codec.verify_signature(key, message, signature)
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not codec.verify_signature(key, message, bytes(flipped))
    for _ in range(200):
        flipped = bytearray(message)
        flipped[source.randrange(len(flipped))] ^= 1 << source.randrange(8)
        assert not codec.verify_signature(key, bytes(flipped), signature)


def test_es256k_signs_the_same_way_twice() -> None:
    secret, message = bytes(range(1, 33)), b"message"
    assert codec.sign("ES256K", secret, message) == codec.sign("ES256K", secret, message)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(32), b"\xff" * 32, b"\x01" * 33])
def test_private_keys_outside_of_the_curve_are_refused(algorithm: str, secret: bytes) -> None:
    with pytest.raises(ValueError, match="private key"):
        codec.public_key(algorithm, secret)


def test_another_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="ES256K or ES256"):
        codec.public_key("EdDSA", bytes(32))


def test_texts_that_are_no_keys_are_outcomes() -> None:
    multikey = codec.public_key("ES256K", b"\x01" * 32).removeprefix("did:key:")
    cut, doubled = multikey[:-1], multikey + multikey
    for text in ("", "z", "zz", multikey[1:], cut, doubled, "z" * 10_000, multikey + "\0", "zé"):
        assert codec.did_key("Multikey", text) is None
        assert not codec.verify_signature(f"did:key:{text}", b"", bytes(64))
    assert codec.did_key("Ed25519VerificationKey2020", multikey) is None
    assert codec.did_key("EcdsaSecp256r1VerificationKey2019", multikey) is None


def test_random_texts_are_no_keys() -> None:
    source = random.Random(12)
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    for _ in range(2_000):
        text = "z" + "".join(source.choices(alphabet, k=source.randrange(100)))
        assert codec.did_key("Multikey", text) is None
