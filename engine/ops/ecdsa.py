"""Signatures of the protocol in plain Python: slow, and independent of the extension.

For tools that answer whether what the extension says is so. secp256k1 and P-256; a signature is
64 bytes, ``r`` and ``s``, over the SHA-256 of the message, and one with a high ``s`` is none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

Point = tuple[int, int] | None
"""None is the point at infinity."""


@dataclass(frozen=True)
class Curve:
    """y^2 = x^3 + ax + b over the field of p elements; g generates n points."""

    name: str
    codec: bytes  # before a compressed point in a multikey
    p: int
    a: int
    b: int
    n: int
    g: tuple[int, int]


K256 = Curve(
    "secp256k1",
    b"\xe7\x01",
    2**256 - 2**32 - 977,
    0,
    7,
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    (
        0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
        0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    ),
)
P256 = Curve(
    "P-256",
    b"\x80\x24",
    2**256 - 2**224 + 2**192 + 2**96 - 1,
    -3,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    (
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    ),
)


def verify(did_key: str, message: bytes, signature: bytes) -> bool:
    """Whether the signature is that of the message by the ``did:key`` given.

    What is no key verifies nothing.
    """
    found = public_key(did_key)
    if found is None or len(signature) != 64:
        return False
    curve, key = found
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < curve.n and 0 < s <= curve.n // 2):
        return False
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    inverse = pow(s, -1, curve.n)
    from_base = _times(curve, digest * inverse % curve.n, curve.g)
    point = _add(curve, from_base, _times(curve, r * inverse % curve.n, key))
    return point is not None and point[0] % curve.n == r


def public_key(did_key: str) -> tuple[Curve, Point] | None:
    """The curve and point of a ``did:key``, or None if it is no key of the protocol."""
    text = did_key.removeprefix("did:key:")
    if not text.startswith("z") or len(text) > 100:
        return None
    data = _base58(text[1:])
    for curve in (K256, P256):
        if data is not None and data.startswith(curve.codec) and len(data) == 35:
            point = _decompress(curve, data[2:])
            return None if point is None else (curve, point)
    return None


def did_key(kind: str, multibase: str) -> str | None:
    """The ``did:key`` of a verification method by its type and ``publicKeyMultibase``."""
    curves = {
        "EcdsaSecp256k1VerificationKey2019": K256,
        "EcdsaSecp256r1VerificationKey2019": P256,
    }
    if kind == "Multikey":
        return f"did:key:{multibase}" if public_key(multibase) else None
    curve = curves.get(kind)
    point = _base58(multibase[1:]) if multibase.startswith("z") and len(multibase) < 100 else None
    if curve is None or point is None:
        return None
    if len(point) == 65 and point[0] == 4:
        point = bytes([2 + (point[64] & 1)]) + point[1:33]
    if len(point) != 33 or _decompress(curve, point) is None:
        return None
    return "did:key:z" + _to_base58(curve.codec + point)


def _base58(text: str) -> bytes | None:
    number = 0
    for digit in text:
        place = _BASE58.find(digit)
        if place < 0:
            return None
        number = number * 58 + place
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _to_base58(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, place = divmod(number, 58)
        digits = _BASE58[place] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits


def _decompress(curve: Curve, data: bytes) -> Point:
    x = int.from_bytes(data[1:], "big")
    if data[0] not in (2, 3) or x >= curve.p:
        return None
    square = (x * x * x + curve.a * x + curve.b) % curve.p
    y = pow(square, (curve.p + 1) // 4, curve.p)  # both primes are 3 modulo 4
    if y * y % curve.p != square:
        return None
    return x, (y if y & 1 == data[0] & 1 else curve.p - y)


def _add(curve: Curve, one: Point, other: Point) -> Point:
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2), p = one, other, curve.p
    if x1 == x2:
        if (y1 + y2) % p == 0:
            return None
        slope = (3 * x1 * x1 + curve.a) * pow(2 * y1, -1, p)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, p)
    x3 = (slope * slope - x1 - x2) % p
    return x3, (slope * (x1 - x3) - y1) % p


def _times(curve: Curve, factor: int, point: Point) -> Point:
    total: Point = None
    while factor:
        if factor & 1:
            total = _add(curve, total, point)
        point = _add(curve, point, point)
        factor >>= 1
    return total
