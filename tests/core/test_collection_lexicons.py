"""What the indexed collections accept and refuse: the rules that records meet."""

from __future__ import annotations

from typing import Any

import pytest

from engine import lexicons
from engine.core import codec
from tests.core.dag_cbor import Link, Raw, encode

NOW = "2024-01-01T00:00:00.000Z"
CID = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"
REF = {"uri": "at://did:plc:abc/app.bsky.feed.post/3jzfcijpj2z2a", "cid": CID}
RAW = Link(b"\x01\x55\x12\x20" + bytes(32))
DAG = Link(b"\x01\x71\x12\x20" + bytes(32))
VERSION_0 = Link(b"\x12\x20" + bytes(32))
FAMILY = "👩‍👩‍👦‍👦"
UNDEFINED = Raw(b"\xf7")


def blob(**changes: Any) -> dict[str, Any]:
    return {"$type": "blob", "ref": RAW, "mimeType": "image/png", "size": 1000} | changes


def image(value: Any) -> dict[str, Any]:
    return {"embed": {"$type": "app.bsky.embed.images", "images": [{"image": value, "alt": ""}]}}


def size(width: Any) -> dict[str, Any]:
    """A post whose picture says how wide it is."""
    picture = {"image": blob(), "alt": "", "aspectRatio": {"width": width, "height": 1}}
    return {"embed": {"$type": "app.bsky.embed.images", "images": [picture]}}


def without(value: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != key}


@pytest.fixture(scope="module")
def catalog() -> codec.Lexicons:
    return codec.Lexicons(lexicons.documents())


def verdict(catalog: codec.Lexicons, collection: str, fields: dict[str, Any]) -> str | None:
    return catalog.validate(collection, encode({"$type": collection} | fields))


def post(catalog: codec.Lexicons, fields: dict[str, Any]) -> str | None:
    return verdict(catalog, "app.bsky.feed.post", {"text": "", "createdAt": NOW} | fields)


ACCEPTED_POSTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "unknown fields": {"extra": [1.5, None, UNDEFINED, b"x", DAG, {"a": -1}], "other": {}},
    "300 characters": {"text": "a" * 300},
    "120 clusters of 25 bytes": {"text": FAMILY * 120},
    "three languages": {"langs": ["en", "pt-BR", "x-mine"]},
    "grandfathered language": {"langs": ["i-default"]},
    "no languages": {"langs": []},
    "eight tags": {"tags": ["a"] * 8},
    "a tag of 64 clusters": {"tags": ["é" * 64]},
    "microseconds": {"createdAt": "2024-01-01T00:00:00.123456Z"},
    "offset": {"createdAt": "2024-01-01T00:00:00+05:30"},
    "February 30": {"createdAt": "2024-02-30T00:00:00Z"},
    "year 0": {"createdAt": "0000-01-01T00:00:00Z"},
    "year 9999": {"createdAt": "9999-12-31T23:59:59Z"},
    "reply": {"reply": {"root": REF, "parent": REF}},
    "reply naming its type": {
        "reply": {"$type": "app.bsky.feed.post#replyRef", "root": REF, "parent": REF}
    },
    "reply to a handle": {"reply": {"root": REF | {"uri": "at://a.example"}, "parent": REF}},
    "reply to a DID with underscore": {
        "reply": {"root": REF | {"uri": "at://did:plc:a_b"}, "parent": REF}
    },
    "reply to a fragment": {"reply": {"root": REF | {"uri": REF["uri"] + "#/a"}, "parent": REF}},
    "version 0 cid": {
        "reply": {
            "root": REF | {"cid": "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR"},
            "parent": REF,
        }
    },
    "image": image(blob()),
    "image of size 0": image(blob(size=0)),
    "image of the largest size": image(blob(size=2_000_000)),
    "image whose size is a float": image(blob(size=1000.0)),
    "no image": {"embed": {"$type": "app.bsky.embed.images", "images": []}},
    "unknown embed": {"embed": {"$type": "com.example.embed", "images": 1}},
    "width as float": size(2.0),
    "unknown facet feature": {
        "facets": [
            {"index": {"byteStart": 0, "byteEnd": 0}, "features": [{"$type": "com.example"}]}
        ]
    },
}
REFUSED_POSTS: dict[str, tuple[dict[str, Any], str]] = {
    "301 characters": ({"text": "a" * 301}, "expected at most 300 graphemes at $.text (got 301)"),
    "301 clusters": ({"text": "e\u0301" * 301}, "at most 300 graphemes at $.text"),
    "3001 bytes": (
        {"text": FAMILY * 120 + "a"},
        "expected at most 3000 bytes at $.text (got 3001)",
    ),
    "text is a number": ({"text": 1}, "expected a string at $.text (got 1)"),
    "text is bytes": ({"text": b"a"}, "expected a string at $.text (got 1 bytes)"),
    "text is a link": ({"text": DAG}, "expected a string at $.text (got bafyrei"),
    "null language list": ({"langs": None}, "expected a list at $.langs (got null)"),
    "undefined language list": ({"langs": UNDEFINED}, "expected a list at $.langs (got null)"),
    "language as text": ({"langs": "en"}, 'expected a list at $.langs (got "en")'),
    "four languages": ({"langs": ["en"] * 4}, "expected at most 3 items at $.langs (got 4)"),
    "upper-case language": ({"langs": ["EN"]}, 'invalid language at $.langs[0] (got "EN")'),
    "empty language": ({"langs": [""]}, "invalid language at $.langs[0]"),
    "language by name": ({"langs": ["english"]}, "invalid language at $.langs[0]"),
    "repeated variant": ({"langs": ["de-1901-1901"]}, "invalid language at $.langs[0]"),
    "nine tags": ({"tags": ["a"] * 9}, "expected at most 8 items at $.tags (got 9)"),
    "a tag of 65 clusters": ({"tags": ["a" * 65]}, "at most 64 graphemes at $.tags[0]"),
    "date as a word": (
        {"createdAt": "yesterday"},
        'invalid datetime at $.createdAt (got "yesterday")',
    ),
    "date without zone": ({"createdAt": "2024-01-01T00:00:00"}, "invalid datetime at $.createdAt"),
    "negative zero zone": ({"createdAt": "2024-01-01T00:00:00-00:00"}, "invalid datetime"),
    "second 60": ({"createdAt": "2024-01-01T00:00:60Z"}, "invalid datetime"),
    "day 0": ({"createdAt": "2024-01-00T00:00:00Z"}, "invalid datetime"),
    "day 32": ({"createdAt": "2024-01-32T00:00:00Z"}, "invalid datetime"),
    "before year 0": ({"createdAt": "0000-01-01T00:00:00+01:00"}, "invalid datetime"),
    "lower-case z": ({"createdAt": "2024-01-01T00:00:00z"}, "invalid datetime"),
    "date is null": ({"createdAt": None}, "expected a string at $.createdAt (got null)"),
    "half a reply": ({"reply": {"root": REF}}, 'missing required key "parent" at $.reply'),
    "reply of another type": (
        {"reply": {"$type": "app.bsky.feed.post", "root": REF, "parent": REF}},
        'expected "app.bsky.feed.post#replyRef" at $.reply.$type (got "app.bsky.feed.post")',
    ),
    "reply of null type": (
        {"reply": {"$type": None, "root": REF, "parent": REF}},
        "at $.reply.$type (got null)",
    ),
    "uri with a query": (
        {"reply": {"root": REF | {"uri": "at://a.b?x=y"}, "parent": REF}},
        'invalid at-uri at $.reply.root.uri (got "at://a.b?x=y")',
    ),
    "uri with a slash at the end": (
        {"reply": {"root": REF | {"uri": "at://a.b/"}, "parent": REF}},
        "invalid at-uri at $.reply.root.uri",
    ),
    "cid cut short": (
        {"reply": {"root": REF | {"cid": "bafyreib"}, "parent": REF}},
        'invalid cid at $.reply.root.cid (got "bafyreib")',
    ),
    "upper-case cid": (
        {"reply": {"root": REF | {"cid": CID.upper()}, "parent": REF}},
        "invalid cid at $.reply.root.cid",
    ),
    "link as cid": ({"reply": {"root": REF | {"cid": DAG}, "parent": REF}}, "expected a string"),
    "image of another kind": (
        image(blob(mimeType="video/mp4")),
        'unacceptable MIME type at $.embed.images[0].image.mimeType (got "video/mp4")',
    ),
    "MIME type without slash": (image(blob(mimeType="image")), "unacceptable MIME type"),
    "image too large": (image(blob(size=2_000_001)), "expected at most 2000000"),
    "negative size": (image(blob(size=-1)), "expected at least 0"),
    "fractional size": (image(blob(size=0.5)), "expected an integer"),
    "blob of a DAG block": (image(blob(ref=DAG)), "expected the CID of a blob"),
    "blob of a version 0 CID": (image(blob(ref=VERSION_0)), "expected the CID of a blob"),
    "blob of a CID as text": (image(blob(ref=CID)), "expected the CID of a blob"),
    "blob with more": (image(blob(extra=1)), "expected a blob"),
    "blob without type": (image(without(blob(), "$type")), "expected a blob"),
    "blob without size": (image(without(blob(), "size")), "expected an integer"),
    "legacy blob": (image({"cid": CID, "mimeType": "image/png"}), "expected a blob"),
    "five images": (
        {
            "embed": {
                "$type": "app.bsky.embed.images",
                "images": [{"image": blob(), "alt": ""}] * 5,
            }
        },
        "expected at most 4 items at $.embed.images (got 5)",
    ),
    "embed without type": ({"embed": {"images": []}}, "expected a map with $type at $.embed"),
    "embed of null type": ({"embed": {"$type": None}}, "expected a string at $.embed.$type"),
    "embed is text": ({"embed": "x"}, "expected a map with $type at $.embed"),
    "width 0": (size(0), "expected at least 1"),
    "width beyond 2^53": (size(2**53), "expected an integer"),
    "width beyond 2^64": (size(Raw(b"\xc2\x41\x01")), "tag other than 42"),
    "fractional width": (size(1.5), "expected an integer"),
    "negative index": (
        {"facets": [{"index": {"byteStart": -1, "byteEnd": 0}, "features": []}]},
        "expected at least 0 at $.facets[0].index.byteStart (got -1)",
    ),
}


@pytest.mark.parametrize("name", ACCEPTED_POSTS)
def test_a_post_is_accepted(catalog: codec.Lexicons, name: str) -> None:
    assert post(catalog, ACCEPTED_POSTS[name]) is None


@pytest.mark.parametrize("name", REFUSED_POSTS)
def test_a_post_is_refused(catalog: codec.Lexicons, name: str) -> None:
    fields, reason = REFUSED_POSTS[name]
    found = post(catalog, fields)
    assert found is not None
    assert reason in found


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "", "createdAt": NOW}, 'missing required key "$type" at $'),
        ({"$type": None, "text": "", "createdAt": NOW}, "at $.$type (got null)"),
        ({"$type": "app.bsky.feed.like", "text": "", "createdAt": NOW}, "at $.$type"),
        ({"$type": "app.bsky.feed.post", "createdAt": NOW}, 'missing required key "text" at $'),
        ({"$type": "app.bsky.feed.post", "text": ""}, 'missing required key "createdAt" at $'),
    ],
)
def test_a_record_names_its_collection_and_has_what_is_required(
    catalog: codec.Lexicons, record: dict[str, Any], reason: str
) -> None:
    found = catalog.validate("app.bsky.feed.post", encode(record))
    assert found is not None
    assert reason in found


@pytest.mark.parametrize(
    ("collection", "fields", "accepted"),
    [
        ("app.bsky.feed.like", {"subject": REF, "createdAt": NOW, "via": REF}, True),
        ("app.bsky.feed.like", {"subject": REF, "createdAt": NOW, "via": None}, False),
        ("app.bsky.feed.like", {"subject": "not an object", "createdAt": NOW}, False),
        ("app.bsky.graph.follow", {"subject": "did:plc:abc", "createdAt": NOW}, True),
        ("app.bsky.graph.follow", {"subject": "a.example", "createdAt": NOW}, False),
        ("app.bsky.actor.profile", {}, True),
        ("app.bsky.actor.profile", {"displayName": "é" * 64}, True),
        ("app.bsky.actor.profile", {"displayName": "é" * 65}, False),
        ("app.bsky.actor.profile", {"website": "not a uri"}, False),
        ("app.bsky.actor.profile", {"avatar": blob(mimeType="image/gif")}, False),
        ("app.bsky.notification.declaration", {"allowSubscriptions": "anything"}, True),
        ("app.bsky.notification.declaration", {}, False),
        ("com.germnetwork.declaration", {"version": "1.0.0", "currentKey": b"k"}, True),
        ("com.germnetwork.declaration", {"version": "1.0", "currentKey": b"k"}, False),
        ("com.germnetwork.declaration", {"version": "1.0.0", "currentKey": "k"}, False),
        (
            "app.bsky.graph.list",
            {"purpose": "com.example#other", "name": "n", "createdAt": NOW},
            True,
        ),
        ("app.bsky.graph.list", {"purpose": "p", "name": "", "createdAt": NOW}, False),
        ("app.bsky.feed.threadgate", {"post": REF["uri"], "createdAt": NOW, "allow": []}, True),
        (
            "app.bsky.feed.threadgate",
            {"post": REF["uri"], "createdAt": NOW, "allow": [{"$type": "com.example#rule"}] * 5},
            True,
        ),
        (
            "app.bsky.feed.threadgate",
            {"post": REF["uri"], "createdAt": NOW, "allow": [{"$type": "com.example#rule"}] * 6},
            False,
        ),
        (
            "app.bsky.labeler.service",
            {"policies": {"labelValues": ["!hide"]}, "createdAt": NOW},
            True,
        ),
        ("app.bsky.labeler.service", {"policies": {}, "createdAt": NOW}, False),
    ],
)
def test_the_other_collections_have_their_own_rules(
    catalog: codec.Lexicons, collection: str, fields: dict[str, Any], accepted: bool
) -> None:
    assert (verdict(catalog, collection, fields) is None) is accepted
