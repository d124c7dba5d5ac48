"""Keys of simulated accounts, which sign the same bytes the same way each time.

The extension's P-256 draws its nonces from the system, as it should; a network that must come
out of a seed byte for byte cannot use that. So the nonce is derived here as RFC 6979 says, and
the curve's own arithmetic stays in the extension: ``r`` is a coordinate of the nonce's public
key. Nothing here resists timing attacks: these keys protect nothing.
"""

from __future__ import annotations

import hashlib
import hmac

from engine.core import codec

K256, P256 = "ES256K", "ES256"

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_BASE58 = {
    letter: value
    for value, letter in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")
}


class Key:
    """A private key; ``did_key`` is its public half."""

    def __init__(self, algorithm: str, secret: bytes) -> None:
        self.algorithm = algorithm
        self.did_key = codec.public_key(algorithm, secret)
        self._secret = secret

    @property
    def multibase(self) -> str:
        """``publicKeyMultibase`` of a ``Multikey``."""
        return self.did_key.removeprefix("did:key:")

    def sign(self, message: bytes) -> bytes:
        """``r`` and ``s`` over the SHA-256 of the message, 64 bytes with a low ``s``."""
        if self.algorithm != P256:
            return codec.sign(self.algorithm, self._secret, message)
        digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
        secret = int.from_bytes(self._secret, "big")
        nonce = _nonce(self._secret, digest % _ORDER)
        r = _coordinate(codec.public_key(P256, nonce)) % _ORDER
        s = pow(int.from_bytes(nonce, "big"), -1, _ORDER) * (digest + r * secret) % _ORDER
        return r.to_bytes(32, "big") + min(s, _ORDER - s).to_bytes(32, "big")


def _nonce(secret: bytes, digest: int) -> bytes:
    """RFC 6979, 3.2, with SHA-256."""
    seed = secret + digest.to_bytes(32, "big")
    value, key = b"\x01" * 32, bytes(32)
    for separator in (b"\x00", b"\x01"):
        key = hmac.digest(key, value + separator + seed, "sha256")
        value = hmac.digest(key, value, "sha256")
    while True:
        value = hmac.digest(key, value, "sha256")
        if 0 < int.from_bytes(value, "big") < _ORDER:
            return value
        key = hmac.digest(key, value + b"\x00", "sha256")
        value = hmac.digest(key, value, "sha256")


def _coordinate(did_key: str) -> int:
    """The x of the point in a ``did:key``: the last 32 of its bytes."""
    number = 0
    for letter in did_key.removeprefix("did:key:z"):
        number = number * 58 + _BASE58[letter]
    return number & ((1 << 256) - 1)
