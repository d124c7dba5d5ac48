"""Entries 1 to 15: records and their JSON text, creates, updates and deletes, dates.

Finer tests: of 1 to 5 ``tests/native/test_record_json.py``, of 13
``tests/core/test_collection_lexicons.py`` and ``test_syntax.py``, of 15 the extension's own.
"""

from __future__ import annotations

import base64
import random
from typing import Any

from tests.core.dag_cbor import Link, Raw, encode
from tests.scenarios.dsl import (
    ALICE,
    BOB,
    CREATED,
    C,
    D,
    R,
    Scenario,
    Sql,
    T,
    U,
    blob,
    blob_cid,
    blob_link,
    commit,
    commit_cid,
    op_cid,
    ref,
    scenario,
)
from tests.scenarios.rows import item, uris
from tests.scenarios.samples import DECLARATIONS, SAMPLES

POST = ALICE / "post/1"
TYPE = "app.bsky.feed.post"
HEAD = f'"text":"","$type":"{TYPE}","createdAt":"{CREATED}"'


def raw_post(**fields: Any) -> bytes:
    """A post whose keys stand as they are given, after the three it needs."""
    return encode({"text": "", "$type": TYPE, "createdAt": CREATED} | fields)


def noisy(count: int) -> str:
    """What no compression makes shorter."""
    return base64.b32encode(random.Random(count).randbytes(count)).decode().rstrip("=")


NOISY = BOB / f"post/1#/{noisy(4_500)}"
PLAIN = BOB / ("post/1#/" + "a" * 5_000)
LINK = blob_link("linked")

RECORDS: list[Scenario] = [
    scenario(
        "s01-json-of-unknown-fields",
        "keys as in the block but for integers, which come first; links, bytes, escapes",
        commit(
            ALICE,
            C("post/1", raw_post(**{
                "zeta": {"b": 1, "10": 2, "9": 3, "01": 4},
                "link": Link(LINK),
                "bytes": b"\0\xff\x10A",
                "blobs": [{"ref": Link(LINK), "size": 9, "$type": "blob", "mimeType": "a/b"}],
                "words": "\x00\x01\b\t\n\f\r\x1f\"\\/\x7f\u2028\U0001f600",
            })),
        ),
        record=[{
            "uri": POST, "cid": op_cid(1), "did": ALICE, "indexedAt": T(1),
            "json": "{" + HEAD + ',"zeta":{"9":3,"10":2,"b":1,"01":4},'
            f'"link":{{"$link":"{blob_cid("linked")}"}},"bytes":{{"$bytes":"AP8QQQ"}},'
            f'"blobs":[{{"ref":{{"$link":"{blob_cid("linked")}"}},"size":9,"$type":"blob",'
            '"mimeType":"a/b"}],'
            '"words":"\\u0000\\u0001\\b\\t\\n\\f\\r\\u001f\\"\\\\/\x7f\u2028\U0001f600"}',
        }],
    ),
    scenario(
        "s02-numbers",
        "floats print as JavaScript does, undefined is null, -0 is 0",
        commit(ALICE, C("post/1", raw_post(
            n=[1.5, 1.0, -0.0, 1e21, None, Raw(b"\xf7"), 9_007_199_254_740_991],
        ))),
        record=[{
            "uri": POST,
            "json": "{" + HEAD + ',"n":[1.5,1,0,1e+21,null,null,9007199254740991]}',
        }],
    ),
    scenario(
        "s02-integer-beyond-53-bits",
        "the op is lost, its neighbours are kept",
        commit(
            ALICE, C("post/1"), C("post/2", raw_post(n=9_007_199_254_740_992)), C("post/3"),
        ),
        record=uris(POST, ALICE / "post/3"),
        post=uris(POST, ALICE / "post/3"),
        lost=[("post/2", "unsafe_integer")],
    ),
    scenario(
        "s03-invalid-utf8-and-byte-order-mark",
        "invalid bytes become U+FFFD, a leading mark is dropped, a later one is kept",
        commit(ALICE, C("post/1", raw_post(
            text=Raw(b"\x6a\xef\xbb\xbfa\xff\xef\xbb\xbfb\xc3"),
        ))),
        record=[{
            "uri": POST,
            "json": '{"text":"a\ufffd\ufeffb\ufffd",' + HEAD.removeprefix('"text":"",') + "}",
        }],
        post=[{"uri": POST, "text": "a\ufffd\ufeffb\ufffd"}],
    ),
    scenario(
        "s04-nul",
        "poison in what becomes a column, harmless elsewhere",
        commit(
            ALICE,
            C("post/text", text="a\0b"),
            C("post/alt", embed={
                "$type": "app.bsky.embed.images", "images": [{"image": blob(), "alt": "\0"}],
            }),
            C("post/tag", tags=["a\0"]),
            C("post/other", other="\0"),
        ),
        record=[{
            "uri": ALICE / "post/other",
            "json": '{"text":"","$type":"app.bsky.feed.post","other":"\\u0000",'
            f'"createdAt":"{CREATED}"}}',
        }],
        post=uris(ALICE / "post/other"),
        feed_item=[item(ALICE / "post/other")],
        lost=[(f"post/{rkey}", "nul_in_text") for rkey in ("text", "alt", "tag")],
    ),
    scenario(
        "s05-long-subjects",
        "an index takes what compresses and refuses what does not",
        commit(ALICE, C("like/1", subject=ref(NOISY))),
        commit(ALICE, C("like/2", subject=ref(PLAIN)), C("like/3", subject=ref(BOB / "post/2"))),
        like=[
            {"uri": ALICE / "like/2", "subject": PLAIN},
            {"uri": ALICE / "like/3", "subject": BOB / "post/2"},
        ],
        record=uris(ALICE / "like/2", ALICE / "like/3"),
        lost=[("like/1", "refused_by_database")],
    ),
    scenario(
        "s06-create-twice",
        "the first content stays, whatever comes",
        commit(ALICE, C("post/1", text="first")),
        commit(ALICE, C("post/1", text="second")),
        record=[{"uri": POST, "cid": op_cid(1), "indexedAt": T(1)}],
        post=[{"uri": POST, "cid": op_cid(1), "text": "first", "indexedAt": T(1)}],
    ),
    scenario(
        "s06-create-twice-in-one-commit",
        "the same inside a commit",
        commit(ALICE, C("post/1", text="first"), C("post/1", text="second")),
        record=[{"uri": POST, "cid": op_cid(1), "indexedAt": T(1)}],
        post=[{"uri": POST, "cid": op_cid(1), "text": "first", "indexedAt": T(1)}],
    ),
    scenario(
        "s07-create-update-delete-create",
        "the last create's content and time",
        commit(ALICE, C("post/1", text="1"), U("post/1", text="2")),
        commit(ALICE, D("post/1")),
        commit(ALICE, C("post/1", text="4")),
        record=[{"uri": POST, "cid": op_cid(3), "indexedAt": T(3)}],
        post=[{"uri": POST, "cid": op_cid(3), "text": "4", "indexedAt": T(3)}],
        feed_item=[item(POST)],
    ),
    *(
        scenario(
            f"s08-update-before-create-{name}",
            "the update creates and the create changes nothing; of declarations the reverse",
            commit(ALICE, U(f"{name}/{rkey}", **fields, n=1)),
            commit(ALICE, C(f"{name}/{rkey}", **fields, n=2)),
            record=[{
                "uri": ALICE / f"{name}/{rkey}", "cid": op_cid(1 if table else 2),
                "indexedAt": T(1 if table else 2),
            }],
            **({table: [{"uri": ALICE / f"{name}/{rkey}", "indexedAt": T(1)}]} if table else {}),
        )
        for name, (table, rkey, fields) in SAMPLES.items()
    ),
    scenario(
        "s09-delete-of-unknown",
        "nothing happens, in any collection; the DID is known from then on",
        commit(ALICE, *(D(f"{name}/{rkey}") for name, (_, rkey, _) in SAMPLES.items())),
        record=[],
        **{table: [] for table, _, _ in SAMPLES.values() if table},
        feed_item=[], notification=[], post_agg=[], profile_agg=[],
        actor=[{"did": ALICE, "handle": None, "indexedAt": T(1)}],
        actor_sync=[{"did": ALICE, "commitCid": commit_cid(1), "repoRev": R(1)}],
    ),
    scenario(
        "s10-invalid-create-valid-update",
        "the update creates",
        commit(ALICE, C("post/1", text=1)),
        commit(ALICE, U("post/1", text="2")),
        record=[{"uri": POST, "cid": op_cid(2), "indexedAt": T(2)}],
        post=[{"uri": POST, "text": "2"}],
        lost=[("post/1", "invalid_record")],
    ),
    scenario(
        "s10-valid-create-invalid-update",
        "the old state stays; the commit still moves the rev",
        commit(ALICE, C("post/1", text="1")),
        commit(ALICE, U("post/1", text=2)),
        record=[{"uri": POST, "cid": op_cid(1), "indexedAt": T(1)}],
        post=[{"uri": POST, "text": "1"}],
        actor_sync=[{"did": ALICE, "commitCid": commit_cid(2), "repoRev": R(2)}],
        lost=[("post/1", "invalid_record")],
    ),
    scenario(
        "s11-takedown-kept-over-an-update",
        "what others wrote into the record's row is not ours",
        commit(ALICE, C("post/1", text="1")),
        Sql('UPDATE record SET "takedownRef" = \'down\', tags = \'["t"]\' WHERE uri = $1', (POST,)),
        commit(ALICE, U("post/1", text="2")),
        record=[{
            "uri": POST, "cid": op_cid(2), "indexedAt": T(2), "takedownRef": "down",
            "tags": '["t"]',
        }],
    ),
    scenario(
        "s11-takedown-lost-over-delete-and-create",
        "a new record has a new row",
        commit(ALICE, C("post/1", text="1")),
        Sql('UPDATE record SET "takedownRef" = \'down\', tags = \'["t"]\' WHERE uri = $1', (POST,)),
        commit(ALICE, D("post/1"), C("post/1", text="2")),
        record=[{"uri": POST, "cid": op_cid(2, 1), "takedownRef": None, "tags": None}],
    ),
    scenario(
        "s12-any-rkey-of-a-post",
        "record keys are not judged",
        commit(ALICE, C("post/not:a~TID.")),
        record=uris(ALICE / "post/not:a~TID."),
        post=uris(ALICE / "post/not:a~TID."),
    ),
    scenario(
        "s12-self-only-with-another-rkey",
        "a record and nothing else",
        commit(ALICE, *(
            C(f"{name}/other", **SAMPLES[name][2])
            for name in ("profile", "labeler", *DECLARATIONS)
        )),
        record=uris(*(ALICE / f"{name}/other" for name in ("profile", "labeler", *DECLARATIONS))),
        profile=[],
        labeler=[],
    ),
    scenario(
        "s13-lexicon",
        "one rule of each sort; every one costs its own op only",
        commit(
            ALICE,
            C("post/type", **{"$type": ...}),
            C("post/null", langs=None),
            C("post/graphemes", text="é" * 301),
            C("post/most", text="é" * 300),
            C("post/tags", tags=["t"] * 9),
            C("post/offset", createdAt="2026-11-21T17:00:00"),
            C("post/rolls", createdAt="2024-02-30T00:00:00Z"),
            C("like/uri", subject={"uri": "at://bob.test/?", "cid": blob_cid()}),
            C("profile/self", avatar={"cid": blob_cid(), "mimeType": "image/png"}),
            C("post/open", embed={"$type": "com.example.unknown", "anything": 1}),
        ),
        record=uris(ALICE / "post/most", ALICE / "post/rolls", ALICE / "post/open"),
        post=[
            {"uri": ALICE / "post/most", "createdAt": CREATED},
            {"uri": ALICE / "post/rolls", "createdAt": "2024-03-01T00:00:00.000Z"},
            {"uri": ALICE / "post/open", "createdAt": CREATED},
        ],
        lost=[
            (path, "invalid_record")
            for path in (
                "post/type", "post/null", "post/graphemes", "post/tags", "post/offset",
                "like/uri", "profile/self",
            )
        ],
    ),
    scenario(
        "s14-collections-that-are-not-indexed",
        "inside and outside of what is carried: the actor and its commit, no record",
        commit(ALICE, C("app.bsky.feed.unknown/1"), C("com.example.thing/1")),
        commit(BOB, C("com.example.thing/1")),
        record=[],
        actor=[{"did": ALICE, "indexedAt": T(1)}, {"did": BOB, "indexedAt": T(2)}],
        actor_sync=[
            {"did": ALICE, "commitCid": commit_cid(1), "repoRev": R(1)},
            {"did": BOB, "commitCid": commit_cid(2), "repoRev": R(2)},
        ],
    ),
    *(
        scenario(
            f"s15-dates-{name}",
            "createdAt in milliseconds, T verbatim, the lesser text sorts",
            commit(ALICE, C("post/1", createdAt=created), at=at),
            post=[{"uri": POST, "createdAt": printed, "indexedAt": at, "sortAt": sort}],
            feed_item=[item(POST, at=sort)],
        )
        for name, created, printed, at, sort in [
            ("future", "2027-01-01T00:00:00Z", "2027-01-01T00:00:00.000Z", T(1), T(1)),
            ("past", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z", T(1),
             "0001-01-01T00:00:00.000Z"),
            ("offset", "2026-11-21T20:00:00+05:30", "2026-11-21T14:30:00.000Z", T(1),
             "2026-11-21T14:30:00.000Z"),
            ("nanoseconds", "2026-11-21T17:00:00.123999999Z", "2026-11-21T17:00:00.123Z", T(1),
             "2026-11-21T17:00:00.123Z"),
            ("time-without-fraction", "2026-11-21T18:00:00.500Z", "2026-11-21T18:00:00.500Z",
             "2026-11-21T18:00:00Z", "2026-11-21T18:00:00.500Z"),
            ("time-with-microseconds", "2026-11-21T18:00:00.123Z", "2026-11-21T18:00:00.123Z",
             "2026-11-21T18:00:00.123456Z", "2026-11-21T18:00:00.123456Z"),
            ("time-with-offset", "2026-11-21T18:00:00.123Z", "2026-11-21T18:00:00.123Z",
             "2026-11-21T19:00:00.123+01:00", "2026-11-21T18:00:00.123Z"),
        ]
    ),
]  # fmt: skip
