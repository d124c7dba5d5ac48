"""Random logs: the fold against a slow model that applies one op after another."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from engine import lexicons
from engine.collections import COLLECTIONS, to_plan
from engine.core import codec, wire
from tests.collections import commits
from tests.collections.memory import Memory, index

DIDS = [f"did:plc:{letter * 24}" for letter in "abc"]
RKEYS = ["self", "1", "2", "3"]
SUBJECTS = [f"at://{did}/app.bsky.feed.post/{rkey}" for did in DIDS for rkey in "12"]
DECLARED = {collection.nsid: collection for collection in COLLECTIONS}
CREATED = {"createdAt": commits.TIME}
_CID = commits.cid_text(commits.cid_of(b"subject"))


def record(nsid: str, rng: random.Random, did: str, rkey: str) -> dict[str, Any]:
    """A record of the collection, valid but for a few; subjects come from a small pool."""
    to, other = rng.choice(SUBJECTS), rng.choice(DIDS)
    reference = {"uri": to, "cid": _CID}
    own = f"at://{did}/app.bsky.feed.post/{rng.choice([rkey, rkey, rkey, 'x'])}"
    bodies: dict[str, dict[str, Any]] = {
        "app.bsky.feed.post": {
            "text": f"{rng.random()}" + "\0" * (rng.random() < 0.05),
            "embed": {"$type": "app.bsky.embed.record", "record": reference},
        },
        "app.bsky.feed.like": {"subject": reference},
        "app.bsky.feed.threadgate": {"post": own},
        "app.bsky.graph.follow": {"subject": other},
        "app.bsky.graph.listitem": {
            "subject": other,
            "list": f"at://{rng.choice([did, did, other])}/app.bsky.graph.list/1",
        },
        "app.bsky.actor.profile": {"displayName": f"{rng.random()}"},
        "app.bsky.actor.status": {"status": "app.bsky.actor.status#live"},
        "chat.bsky.actor.declaration": {"anything": rng.randrange(99)},
    }
    found = {"$type": nsid, **bodies[nsid], **CREATED}
    if rng.random() < 0.05:
        found["$type"] = "app.bsky.nothing"
    return found


NSIDS = [
    "app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.feed.threadgate",
    "app.bsky.graph.follow", "app.bsky.graph.listitem", "app.bsky.actor.profile",
    "app.bsky.actor.status", "chat.bsky.actor.declaration",
]  # fmt: skip


class Model:
    """One op after another, as the reference does it, without what crosses records."""

    def __init__(self) -> None:
        self.records: dict[str, str] = {}
        self.rows: dict[str, dict[str, tuple[str, Any]]] = {}
        self.outcomes: Counter[str] = Counter()

    def apply(self, did: str, sign: str, path: str, body: dict[str, Any] | None, cid: str) -> None:
        nsid, rkey = path.split("/")
        uri = f"at://{did}/{path}"
        collection = DECLARED[nsid]
        rows = self.rows.setdefault(nsid, {}) if collection.table else {}
        if body is None:
            found = [self.records.pop(uri, None), rows.pop(uri, None)]
            self.outcomes["applied" if any(found) else "no_effect:absent"] += 1
            return
        reason = self._refused(nsid, did, rkey, body)
        if reason:
            self.outcomes[f"rejected:{reason}"] += 1
            return
        has_row = collection.table and not (collection.self_only and rkey != "self")
        key = self._key(nsid, did, body) if collection.unique else uri
        holder = next((each for each, (_, held) in rows.items() if held == key), uri)
        if sign == "~" and uri in rows and has_row:
            if holder != uri:
                self.outcomes["rejected:key_occupied"] += 1
                return
            rows[uri] = (cid, key)
            if uri in self.records:
                self.records[uri] = cid
        elif sign == "~":
            if not collection.table and rkey == "self" and uri not in self.records:
                self.outcomes["no_effect:never_created"] += 1
                return
            self.records[uri] = cid
            if has_row and holder == uri:
                rows[uri] = (cid, key)
        else:
            inserts = [uri not in self.records, has_row and uri not in rows and holder == uri]
            if inserts[0]:
                self.records[uri] = cid
            if inserts[1]:
                rows[uri] = (cid, key)
            self.outcomes["applied" if any(inserts) else "no_effect:exists"] += 1
            return
        self.outcomes["applied"] += 1

    @staticmethod
    def _refused(nsid: str, did: str, rkey: str, body: dict[str, Any]) -> str | None:
        if body["$type"] != nsid and nsid != "chat.bsky.actor.declaration":
            return "invalid_record"
        if "\0" in body.get("text", ""):
            return "nul_in_text"
        if nsid == "app.bsky.graph.listitem" and not body["list"].startswith(f"at://{did}/"):
            return "creator_mismatch"
        if nsid == "app.bsky.feed.threadgate" and not body["post"].endswith(f"/{rkey}"):
            return "gate_mismatch"
        return None

    @staticmethod
    def _key(nsid: str, did: str, body: dict[str, Any]) -> Any:
        match nsid:
            case "app.bsky.feed.like":
                return (did, body["subject"]["uri"])
            case "app.bsky.feed.threadgate":
                return body["post"]
            case "app.bsky.graph.follow":
                return (did, body["subject"])
            case "app.bsky.graph.listitem":
                return (body["list"], body["subject"])
        raise AssertionError(nsid)


@pytest.mark.parametrize("seed", range(6))
def test_random_logs_end_as_the_model_says(seed: int) -> None:
    rng = random.Random(seed)
    plan = codec.Plan(to_plan().encode(), lexicons.documents())
    model, memory = Model(), Memory(to_plan())
    seq, since = 0, dict[str, str]()
    for _ in range(60):
        entries, ops = [], []
        for _ in range(rng.choice([1, 1, 3, 12])):
            did, seq = rng.choice(DIDS), seq + 1
            made: list[wire.Op] = []
            for _ in range(rng.choice([1, 1, 2, 6])):
                nsid, rkey = rng.choice(NSIDS), rng.choice(RKEYS)
                sign = rng.choice("+++~~-")
                body = None if sign == "-" else record(nsid, rng, did, rkey)
                made.append(commits.op(sign, f"{nsid}/{rkey}", body))
                cid = commits.cid_text(made[-1].cid) if made[-1].cid else ""
                ops.append((did, sign, f"{nsid}/{rkey}", body, cid))
            entries.append(commits.commit(did, seq, made, since=since.get(did)))
            since[did] = commits.tid(seq)
        voided = {number for number in range(len(ops)) if rng.random() < 0.02}
        for number, op in enumerate(ops):
            if number in voided:
                model.outcomes["rejected:refused_by_database"] += 1
            else:
                model.apply(*op)
        refusals = [(number, "refused") for number in voided]
        index(plan, memory, [(0, entries)], now=commits.NOW, voided=refusals)
        _compare(model, memory)
    assert memory.counts == model.outcomes
    assert len(model.outcomes) >= 8, model.outcomes
    assert [repo[1] for repo in memory.repos.values()] == [None] * len(DIDS)
    assert len(memory.dead) == sum(
        count for word, count in model.outcomes.items() if word.startswith("rejected")
    )


def _compare(model: Model, memory: Memory) -> None:
    got = {uri: row["cid"] for (uri,), row in memory.tables["record"].items()}
    assert got == model.records
    for nsid, rows in model.rows.items():
        table = DECLARED[nsid].table
        assert table
        held = {uri: row["cid"] for (uri,), row in memory.tables[table.name].items()}
        assert held == {uri: cid for uri, (cid, _) in rows.items()}, nsid
    posts = memory.tables["post"]
    quoting = {uri for uri, _ in memory.tables["post_embed_record"]}
    assert quoting == {uri for (uri,) in posts}
