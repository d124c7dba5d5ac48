"""Frames made by hand: what each rule of the frame reader lets pass and refuses."""

from __future__ import annotations

from typing import Any

import libipld
import pytest

from engine.core import codec, streams, wire
from tests.native import frames as made
from tests.native.frames import DID, REV, TIME

REASONS = list(wire.Reason)
BAD_CAR_HEADER = made.section(libipld.encode_dag_cbor({"version": 2, "roots": []}))


def rejected(frame: bytes) -> wire.RejectedFrame:
    batch = made.decode([frame])
    (entry,) = made.entries(batch)
    assert isinstance(entry, wire.RejectedFrame)
    assert batch.rejected == [(0, REASONS[entry.reason].value, entry.detail)]
    assert batch.ops == batch.counts["rejected"] == entry.ops
    return entry


def commit(frame: bytes, allow: list[str] = made.ALLOW) -> wire.Commit:
    entry = made.only_entry(frame, allow)
    assert isinstance(entry, wire.Commit)
    return entry


def test_commit_carries_what_the_frame_says() -> None:
    body = made.commit_body()
    entry = commit(made.frame("#commit", body))
    cid, block = made.record_block()
    assert entry == wire.Commit(
        relay=made.RELAY,
        generation=1,
        seq=7,
        did=DID,
        time=TIME,
        rev=REV,
        since="3mabcabcabc22",
        commit=body["commit"],
        data=made.cid_of(b"the root of the tree"),
        prev_data=made.cid_of(b"the tree before"),
        part=0,
        parts=1,
        filtered=0,
        ops=[wire.Op(0, "app.bsky.feed.post/3mabcabcabc2a", cid, None, block)],
        rejected=[],
        blocks=[],
    )


def test_deprecated_fields_are_ignored_and_unknown_ones_forgotten() -> None:
    plain = commit(made.commit_frame())
    extra = {
        "tooBig": True,
        "rebase": True,
        "blobs": [made.cid_of(b"blob", 0x55)],
        "prev": None,
        "new": {"deep": [1, None, {"x": 1.5}]},
    }
    assert commit(made.commit_frame(**extra)) == plain


def test_records_of_a_commit_are_together_no_larger_than_a_car() -> None:
    """Two hundred ops may name one block: an entry must not carry it two hundred times."""
    cid, block = made.record_block("x" * 700_000)
    paths = [f"app.bsky.feed.post/{number}" for number in range(200)]
    ops = [{"action": "create", "path": path, "cid": cid} for path in paths]
    frame = made.commit_frame(ops=ops, blocks=made.car([], [(cid, block)]))
    entry = commit(frame)
    assert [op.path for op in entry.ops] == paths[:2]
    too_big = (wire.Reason.TOO_BIG, cid)
    assert [(REASONS[op.reason], op.cid) for op in entry.rejected] == [too_big] * 198
    assert sum(size for _, _, _, size in made.decode([frame]).weights()) < 2_000_000


def test_changes_that_a_host_left_out_are_one_rejected_op() -> None:
    entry = commit(made.commit_frame(tooBig=True, ops=[]))
    assert entry.rejected == [wire.RejectedOp(REASONS.index(wire.Reason.TOO_BIG), "", None)]
    assert made.decode([made.commit_frame(tooBig=True, ops=[])]).ops == 1
    assert commit(made.commit_frame(tooBig=False, ops=[])).rejected == []


def test_since_and_prev_data_may_be_null_or_absent() -> None:
    for value in (None, ...):
        entry = commit(made.commit_frame(since=value, prevData=value))
        assert entry.since is None
        assert entry.prev_data is None


def test_data_is_none_when_the_commit_block_is_absent_or_unreadable() -> None:
    cid, block = made.record_block()
    assert commit(made.commit_frame(blocks=made.car([], [(cid, block)]))).data is None
    junk = made.cid_of(b"\xff")
    blocks = made.car([junk], [(junk, b"\xff"), (cid, block)])
    assert commit(made.commit_frame(commit=junk, blocks=blocks)).data is None


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"seq": "7"}, "seq"),
        ({"seq": -1}, "seq"),
        ({"seq": 1 << 53}, "seq"),
        ({"seq": ...}, "seq"),
        ({"repo": "not a did"}, "did"),
        ({"repo": ...}, "did"),
        ({"time": "yesterday"}, "time"),
        ({"time": ...}, "time"),
        ({"rev": "not-a-tid"}, "rev"),
        ({"rev": None}, "rev"),
        ({"since": "not-a-tid"}, "since"),
        ({"since": 5}, "since"),
        ({"commit": None}, "commit"),
        ({"commit": "text"}, "commit"),
        ({"prevData": "text"}, "prevData"),
        ({"blocks": ...}, "blocks"),
        ({"blocks": "text"}, "blocks"),
        ({"ops": ...}, "ops"),
        ({"ops": {}}, "ops"),
        ({"ops": [1]}, "ops"),
        ({"ops": [{"path": "a/b"}]}, "ops.action"),
        ({"ops": [{"action": 1, "path": "a/b"}]}, "ops.action"),
        ({"ops": [{"action": "create"}]}, "ops.path"),
        ({"ops": [{"action": "create", "path": "a/b", "cid": "text"}]}, "ops.cid"),
        ({"ops": [{"action": "delete", "path": "a/b", "prev": 1}]}, "ops.prev"),
    ],
)
def test_a_bad_field_rejects_the_frame_by_name(changes: dict[str, Any], detail: str) -> None:
    entry = rejected(made.commit_frame(**changes))
    assert REASONS[entry.reason] is wire.Reason.BAD_FIELD
    assert entry.detail == detail
    assert entry.seq == (None if "seq" in changes else 7)
    assert entry.did == (None if "repo" in changes else DID)


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        (b"", wire.Reason.BAD_CAR),
        (b"\x00", wire.Reason.BAD_CAR),
        (BAD_CAR_HEADER, wire.Reason.BAD_CAR),
        (made.car([], []) + b"\x05\x01", wire.Reason.BAD_CAR),
        (made.car([], [(b"\x02\x71", b"x")]), wire.Reason.BAD_CAR),
        (made.car([], [(made.cid_of(b"a"), b"b")]), wire.Reason.BAD_BLOCK_HASH),
        (made.car([], [(b"\x01\x55\x00\x01", b"bb")]), wire.Reason.BAD_BLOCK_HASH),
        (bytes(2_000_001), wire.Reason.TOO_BIG),
    ],
)
def test_a_bad_car_rejects_the_frame(blocks: bytes, reason: wire.Reason) -> None:
    entry = rejected(made.commit_frame(blocks=blocks))
    assert (REASONS[entry.reason], entry.seq, entry.did) == (reason, 7, DID)


def test_blocks_may_come_in_any_order_and_twice() -> None:
    body = made.commit_body()
    root, blocks = libipld.decode_car(body["blocks"])
    assert root["version"] == 1
    pairs = [(bytes(cid), libipld.encode_dag_cbor(block)) for cid, block in blocks.items()]
    assert len(pairs) == 2
    turned = made.car([body["commit"]], [*reversed(pairs), *pairs])
    assert commit(made.commit_frame(blocks=turned)) == commit(made.commit_frame())


def test_sha_512_blocks_are_carried() -> None:
    import hashlib

    _, block = made.record_block()
    cid = bytes((1, 0x71, 0x13, 64)) + hashlib.sha512(block).digest()
    ops = [{"action": "create", "path": "app.bsky.feed.post/x", "cid": cid}]
    entry = commit(made.commit_frame(blocks=made.car([], [(cid, block)]), ops=ops))
    assert entry.ops[0].record == block


def test_too_many_ops_reject_the_frame_with_their_number() -> None:
    op = {"action": "delete", "path": "app.bsky.feed.post/x"}
    assert len(commit(made.commit_frame(ops=[op] * 200)).ops) == 200
    entry = rejected(made.commit_frame(ops=[op] * 201))
    assert (REASONS[entry.reason], entry.ops) == (wire.Reason.TOO_MANY_OPS, 201)


def test_a_frame_above_five_megabytes_is_too_big_and_its_letter_is_cut() -> None:
    frame = made.commit_frame(padding=b"\0" * 5_000_000)
    entry = rejected(frame)
    assert (REASONS[entry.reason], entry.seq, entry.did) == (wire.Reason.TOO_BIG, 7, DID)
    assert entry.raw == frame[: wire.RAW_LIMIT_BYTES]


def test_each_op_is_carried_filtered_or_rejected_by_itself() -> None:
    cid, block = made.record_block()
    absent = made.cid_of(b"absent")
    post = "app.bsky.feed.post"

    def op(action: str, path: str, cid: bytes | None = cid, **more: Any) -> dict[str, Any]:
        return {"action": action, "path": path, "cid": cid, **more}

    entry = commit(
        made.commit_frame(
            ops=[
                op("create", f"{post}/1"),
                op("update", f"{post}/2", prev=absent),
                op("delete", f"{post}/3", prev=absent),
                op("create", f"{post}/4/more"),
                op("create", "com.example.thing/1", absent),
                op("create", f"{post}/5", absent),
                op("update", f"{post}/6", None),
                op("rename", f"{post}/7"),
                op("create", post),
                op("create", f"{post}/"),
                op("create", "/8"),
                op("create", f"{post}//9"),
                {"action": "delete", "path": f"{post}/10"},
            ]
        )
    )
    assert entry.ops == [
        wire.Op(wire.Action.CREATE, f"{post}/1", cid, None, block),
        wire.Op(wire.Action.UPDATE, f"{post}/2", cid, absent, block),
        wire.Op(wire.Action.DELETE, f"{post}/3", None, absent, None),
        wire.Op(wire.Action.CREATE, f"{post}/4/more", cid, None, block),
        wire.Op(wire.Action.DELETE, f"{post}/10", None, None, None),
    ]
    assert entry.filtered == 1
    assert [(REASONS[op.reason], op.path, op.cid) for op in entry.rejected] == [
        (wire.Reason.MISSING_BLOCK, f"{post}/5", absent),
        (wire.Reason.MISSING_BLOCK, f"{post}/6", None),
        (wire.Reason.UNKNOWN_ACTION, f"{post}/7", cid),
        (wire.Reason.BAD_PATH, post, cid),
        (wire.Reason.BAD_PATH, f"{post}/", cid),
        (wire.Reason.BAD_PATH, "/8", cid),
        (wire.Reason.BAD_PATH, f"{post}//9", cid),
    ]


def test_undecodable_records_are_carried_as_they_are() -> None:
    block = b"\xff not cbor"
    cid = made.cid_of(block)
    ops = [{"action": "create", "path": "app.bsky.feed.post/x", "cid": cid}]
    entry = commit(made.commit_frame(blocks=made.car([], [(cid, block)]), ops=ops))
    assert entry.ops[0].record == block


def test_filtered_ops_are_counted_though_their_block_is_absent() -> None:
    frame = made.commit_frame()
    batch = made.decode([frame], ["app.bsky.graph.*", "app.bsky.feed.pos"])
    (entry,) = made.entries(batch)
    assert isinstance(entry, wire.Commit)
    assert (entry.filtered, entry.ops) == (1, [])
    assert (batch.ops, batch.counts["filtered"], batch.counts["create"]) == (1, 1, 0)
    assert batch.weights() == [(streams.shard_of(DID, 16), 1, 1, len(batch.entries()[0][1]))]


def test_a_commit_without_ops_is_an_entry_that_counts_nothing() -> None:
    batch = made.decode([made.commit_frame(ops=[])])
    assert (batch.ops, batch.entries_count) == (0, 1)
    assert [events for _, _, events, _ in batch.weights()] == [1]


def test_sync_names_the_single_root() -> None:
    root, block = made.record_block()
    body = {"seq": 8, "did": DID, "time": TIME, "rev": "free text"}
    entry = made.only_entry(made.frame("#sync", {**body, "blocks": made.car([root], [])}))
    assert entry == wire.Sync(made.RELAY, 1, 8, DID, TIME, "free text", root, [])
    for blocks, reason in [
        (made.car([], [(root, block)]), wire.Reason.BAD_CAR),
        (made.car([root, root], []), wire.Reason.BAD_CAR),
        (bytes(10_001), wire.Reason.TOO_BIG),
    ]:
        letter = rejected(made.frame("#sync", {**body, "blocks": blocks}))
        assert (REASONS[letter.reason], letter.seq, letter.did) == (reason, 8, DID)


def test_identity_handle_is_optional_and_checked() -> None:
    body = {"seq": 9, "did": DID, "time": TIME}
    for handle, found in [(..., None), (None, None), ("alice.example.com", "alice.example.com")]:
        more = {} if handle is ... else {"handle": handle}
        entry = made.only_entry(made.frame("#identity", {**body, **more}))
        assert entry == wire.Identity(made.RELAY, 1, 9, DID, TIME, found)
    letter = rejected(made.frame("#identity", {**body, "handle": "no handle"}))
    assert letter.detail == "handle"


def test_account_needs_active_and_carries_any_status() -> None:
    body = {"seq": 10, "did": DID, "time": TIME}
    entry = made.only_entry(made.frame("#account", {**body, "active": True}))
    assert entry == wire.Account(made.RELAY, 1, 10, DID, TIME, True, None)
    more = {"active": False, "status": "throttled"}
    entry = made.only_entry(made.frame("#account", {**body, **more}))
    assert entry == wire.Account(made.RELAY, 1, 10, DID, TIME, False, "throttled")
    for bad in ({}, {"active": None}, {"active": 1}):
        assert rejected(made.frame("#account", {**body, **bad})).detail == "active"


def test_what_a_relay_says_of_itself_is_a_notice() -> None:
    error = libipld.encode_dag_cbor({"op": -1})
    batch = made.decode(
        [
            error + libipld.encode_dag_cbor({"error": "FutureCursor", "message": "too far"}),
            error + libipld.encode_dag_cbor({"error": "ConsumerTooSlow"}),
            error + b"\xff",
            error,
            made.frame("#info", {"name": "OutdatedCursor", "message": "old"}),
            made.frame("#info", {}),
            made.frame("#handle", {"seq": 11, "did": DID, "time": TIME}),
            libipld.encode_dag_cbor({"op": 2, "t": "#commit"}) + b"\xa0",
        ]
    )
    assert batch.notices == [
        ("error", "FutureCursor", "too far"),
        ("error", "ConsumerTooSlow", ""),
        ("error", "", ""),
        ("error", "", ""),
        ("info", "OutdatedCursor", "old"),
        ("info", "", ""),
        ("unknown", "#handle", ""),
        ("unknown", "op 2", ""),
    ]
    assert (batch.ops, batch.entries_count, batch.last_seq) == (0, 0, 11)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", wire.Reason.BAD_HEADER),
        (b"\xff", wire.Reason.BAD_HEADER),
        (b"\x80", wire.Reason.BAD_HEADER),
        (b"<html>garbage</html>", wire.Reason.BAD_HEADER),
        (libipld.encode_dag_cbor({"t": "#commit"}) + b"\xa0", wire.Reason.BAD_HEADER),
        (libipld.encode_dag_cbor({"op": 1}) + b"\xa0", wire.Reason.BAD_HEADER),
        (libipld.encode_dag_cbor({"op": 1, "t": 5}) + b"\xa0", wire.Reason.BAD_HEADER),
        (libipld.encode_dag_cbor({"op": 1, "t": "#commit"}), wire.Reason.BAD_BODY),
        (libipld.encode_dag_cbor({"op": 1, "t": "#commit"}) + b"\x80", wire.Reason.BAD_BODY),
        (made.commit_frame() + b"\x00", wire.Reason.BAD_BODY),
        (made.commit_frame()[:-1], wire.Reason.BAD_BODY),
    ],
)
def test_garbage_becomes_a_dead_letter(frame: bytes, reason: wire.Reason) -> None:
    entry = rejected(frame)
    assert (REASONS[entry.reason], entry.ops, entry.raw) == (reason, 1, frame)


def test_strictness_holds_in_fields_that_nobody_uses() -> None:
    header = libipld.encode_dag_cbor({"op": 1, "t": "#account"})
    good = b"\xa5\x63seq\x01\x63did\x78\x20" + DID.encode() + b"\x64time\x78\x18" + TIME.encode()
    good += b"\x66active\xf5"
    for more, fine in [
        (b"\x61x\x00", True),
        (b"\x61x\xa1\x69__proto__\x01", True),
        (b"\x61x\x18\x01", False),
        (b"\x61x\x9f\xff", False),
        (b"\x61x\xc1\x00", False),
        (b"\x63seq\x01", False),
        (b"\x69__proto__\x00", False),
        (b"\x01\x00", False),
    ]:
        entry = made.only_entry(header + good + more)
        assert isinstance(entry, wire.Account) is fine, more
        if not fine:
            assert isinstance(entry, wire.RejectedFrame)
            assert (entry.seq, entry.did) == (1, DID)


def test_a_bad_frame_goes_to_the_shard_of_its_did_or_of_the_relay() -> None:
    batch = made.decode([made.commit_frame(rev="x"), b"\xff"])
    shards = [shard for shard, _ in batch.entries()]
    assert shards == [streams.shard_of(DID, 16), streams.shard_of(made.RELAY, 16)]


def test_last_seq_is_the_highest_and_last_time_is_its_time() -> None:
    def account(seq: int, time: str) -> bytes:
        return made.frame("#account", {"seq": seq, "did": DID, "time": time, "active": True})

    later = "2026-11-21T18:31:37Z"
    assert made.decode([]).last_seq is None
    batch = made.decode([account(5, later), account(3, TIME), b"\xff"])
    assert (batch.last_seq, batch.last_time) == (5, later)
    batch = made.decode([account(5, TIME), account(6, "bad")])
    assert (batch.last_seq, batch.last_time) == (6, TIME)


def test_xadd_appends_every_entry_in_order() -> None:
    frames = [made.commit_frame(), b"\xff", made.commit_frame(seq=8)]
    batch = made.decode(frames)
    expected = b""
    for shard, entry in batch.entries():
        args = [b"XADD", b"p:firehose_live:%d" % shard, b"NOMKSTREAM", b"*", b"event", entry]
        expected += b"*6\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)
    assert batch.xadd(b"p:firehose_live") == expected
    assert expected.count(b"NOMKSTREAM") == 3


def test_no_shards_is_misuse() -> None:
    with pytest.raises(ValueError, match="shards"):
        codec.decode_frames([], relay="r", generation=1, shards=0, allow=[])
