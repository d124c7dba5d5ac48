"""Simulated keys sign like everybody's, and the same way each time."""

from __future__ import annotations

import random

import pytest

from engine.core import codec
from engine.simulate.keys import K256, P256, Key

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SECRET = bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
# RFC 6979, A.2.5, with SHA-256: message, r, s.
VECTORS = {
    b"sample": (
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
    ),
    b"test": (
        "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
        "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
    ),
}


@pytest.mark.parametrize("message", VECTORS)
def test_p256_signatures_are_those_of_the_rfc_with_a_low_s(message: bytes) -> None:
    r, s = (int(text, 16) for text in VECTORS[message])
    signature = Key(P256, SECRET).sign(message)
    assert int.from_bytes(signature[:32], "big") == r
    assert int.from_bytes(signature[32:], "big") == min(s, ORDER - s)


@pytest.mark.parametrize("algorithm", [K256, P256])
def test_signatures_verify_and_repeat(algorithm: str) -> None:
    source = random.Random(11)
    for _ in range(50):
        key, message = Key(algorithm, source.randbytes(32)), source.randbytes(40)
        signature = key.sign(message)
        assert signature == key.sign(message)
        assert codec.verify_signature(key.did_key, message, signature)
        assert not codec.verify_signature(key.did_key, message + b"x", signature)
