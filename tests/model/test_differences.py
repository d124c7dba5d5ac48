"""Where the project differs from the reference on purpose, and what tells a repetition."""

from __future__ import annotations

import libipld
import pytest

from tests.collections.commits import cid_of, cid_text, tid
from tests.model.events import Account, Commit, Identity, Op, Sync
from tests.model.logs import (
    ALICE,
    BOB,
    CAROL,
    LIKE,
    POST,
    REPOST,
    applied,
    commit,
    drop,
    follow,
    post,
    put,
    row,
    subject,
    time,
    told,
    uri,
)  # fmt: skip
from tests.model.model import Model

ROOT, REPLY = uri(ALICE, "root"), uri(BOB, "reply")


def test_an_op_whose_notifications_are_all_muted_is_indexed_without_them() -> None:
    events = [put(ALICE, "root", post(), 1), put(BOB, "l", subject(LIKE, ROOT), 2)]
    model = applied(events, mutes=[(ALICE, ROOT)])
    like = row(model, "like", uri(BOB, "l", LIKE))
    assert told(model, like["uri"]) == set()
    assert row(model, "post_agg", ROOT)["likeCount"] == 1
    assert told(applied(events), like["uri"]) == {(ALICE, "like", ROOT)}


def test_a_post_with_an_empty_images_embed_is_indexed() -> None:
    record = post() | {"embed": {"$type": "app.bsky.embed.images", "images": []}}
    model = applied([put(ALICE, "root", record, 1)])
    assert row(model, "post", ROOT)["text"] == "text"
    assert model.tables()["post_embed_image"] == []


def test_an_undecodable_record_costs_its_own_op() -> None:
    record = libipld.encode_dag_cbor(post())
    ops = [
        Op("create", f"{POST}/bad", cid_text(cid_of(b"\xff")), b"\xff"),
        Op("create", f"{POST}/root", cid_text(cid_of(record)), record),
    ]
    model = applied([commit(ALICE, ops, 1)])
    assert [row["uri"] for row in model.tables()["post"]] == [ROOT]
    assert model.outcomes["applied"] == 1


def test_a_rev_never_goes_backwards() -> None:
    model = applied([put(ALICE, "root", post(), 5), put(ALICE, "old", post(), 4)])
    assert [row["uri"] for row in model.tables()["post"]] == [ROOT]
    assert model.outcomes["duplicate"] == 1
    assert row(model, "actor_sync", ALICE, "did")["repoRev"] == tid(5)
    model.apply(Sync(ALICE, 9, time(9), rev=tid(4), cid="older"))
    assert row(model, "actor_sync", ALICE, "did")["repoRev"] == tid(5)


def test_a_rev_from_the_future_is_refused() -> None:
    model = Model(now=1_795_000_000.0)
    model.apply(put(ALICE, "root", post(), 10))
    model.apply(put(ALICE, "far", post(), 301_000_000))
    assert [row["uri"] for row in model.tables()["post"]] == [ROOT]


def test_an_actor_is_there_from_its_first_event_on_and_keeps_its_status() -> None:
    suspended = Account(ALICE, 1, time(1), active=False, status="suspended")
    model = applied([suspended, put(ALICE, "root", post(), 2)])
    actor = row(model, "actor", ALICE, "did")
    assert (actor["upstreamStatus"], actor["handle"]) == ("suspended", None)
    assert actor["indexedAt"] == time(1)
    model.apply(Account(ALICE, 3, time(1), active=True, status=None))  # a repetition
    assert row(model, "actor", ALICE, "did")["upstreamStatus"] == "suspended"


def test_a_contended_handle_is_the_last_asker_s() -> None:
    model = Model(resolve=lambda did: "name.test")
    for at, did in enumerate((ALICE, BOB)):
        model.apply(Identity(did, at, time(at)))
    handles = {row["did"]: row["handle"] for row in model.tables()["actor"]}
    assert handles == {ALICE: None, BOB: "name.test"}


def test_a_failed_look_up_is_tried_again_with_the_next_event() -> None:
    answers: dict[str, str] = {}
    model = Model(resolve=answers.__getitem__)
    model.apply(put(ALICE, "root", post(), 1))
    answers[ALICE] = "alice.test"
    model.apply(put(ALICE, "next", post(), 2))
    actor = row(model, "actor", ALICE, "did")
    assert (actor["handle"], actor["indexedAt"]) == ("alice.test", time(1))


def test_a_deleted_account_leaves_no_row_and_no_count_of_its_own() -> None:
    others = [
        put(BOB, "l", subject(LIKE, ROOT), 11),
        put(BOB, "f", follow(ALICE), 12),
        put(BOB, "root", post(text="own"), 13),
    ]
    hers: list[Commit] = [
        put(ALICE, "root", post(mention=[BOB]), 1),
        put(ALICE, "own", post(ROOT), 2),
        put(ALICE, "reply", post(uri(BOB, "root"), quote=uri(BOB, "root")), 14),
        put(ALICE, "l", subject(LIKE, uri(BOB, "root")), 15),
        put(ALICE, "l2", subject(LIKE, uri(BOB, "root")), 16),
        put(ALICE, "r", subject(REPOST, uri(BOB, "root")), 17),
        put(ALICE, "f", follow(BOB), 18),
    ]
    after = [put(CAROL, "r", subject(REPOST, ROOT), 19)]
    gone = Account(ALICE, 20, time(20), active=False, status="deleted")
    model = applied([*sorted([*others, *hers, *after], key=lambda event: event.seq), gone])
    for table, rows in model.tables().items():
        for found in rows:
            owners = {found.get("creator"), found.get("author"), found.get("originatorDid")}
            assert ALICE not in owners, (table, found)
            assert table in ("post_agg",) or not str(found.get("uri")).startswith(f"at://{ALICE}")
    assert row(model, "like", uri(BOB, "l", LIKE))["subject"] == ROOT
    tables = model.tables()
    assert {row["did"] for row in tables["actor"]} == {BOB, CAROL}
    counts = row(model, "post_agg", uri(BOB, "root"))
    assert [counts[name] for name in counts if name.endswith("Count")] == [0] * 5
    assert row(model, "post_agg", ROOT)["likeCount"] == 1
    assert row(model, "post_agg", ROOT)["replyCount"] == 0
    assert row(model, "profile_agg", BOB, "did")["followersCount"] == 0
    assert row(model, "profile_agg", ALICE, "did")["followersCount"] == 1
    assert not any(row["postUri"] == ROOT for row in tables["feed_item"])
    assert tables["quote"] == tables["op_thread_reply"] == tables["duplicate_record"] == []
    assert not any(ALICE in (row["did"], row["author"]) for row in tables["notification"])


def test_an_account_that_is_still_hosted_is_not_deleted() -> None:
    model = Model(is_hosted=lambda did: True)
    model.apply(put(ALICE, "root", post(), 1))
    model.apply(Account(ALICE, 2, time(2), active=False, status="deleted"))
    assert len(model.tables()["post"]) == 1


@pytest.mark.parametrize("last", ["l1", "l2", "l3"])
def test_the_oldest_duplicate_is_promoted_once(last: str) -> None:
    likes = [put(BOB, f"l{n}", subject(LIKE, ROOT), n) for n in (1, 2, 3)]
    drops = [drop(BOB, f"l{n}", 10 + n, LIKE) for n in (1, 2, 3) if f"l{n}" <= last]
    model = applied([*likes, *drops])
    left = [row["uri"].rsplit("/", 1)[1] for row in model.tables()["like"]]
    assert left == {"l1": ["l2"], "l2": [], "l3": []}[last]
    assert row(model, "post_agg", ROOT)["likeCount"] == len(left)
