"""Random logs over all collections, from pools so small that everything meets everything.

A log is a list of stream entries, which the indexer is fed as they are and the model through
``events.read_entry``. It holds what a network holds and what it should not: unknown and wrong
subjects, invalid and undecodable records, NULs, repetitions, revs that go backwards, accounts
that come and go. The same seed makes the same log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from engine.core import wire
from tests.collections import commits
from tests.model import events

Record = dict[str, Any]

DIDS = (*(f"did:plc:{letter * 24}" for letter in "abcd"), "did:web:one.example")
STRANGERS = ("did:plc:unheard", "someone.example", "did:plc:under_score")
"""Authorities that write nothing: a DID, a handle, and one that cannot be taken apart."""

MUTES = ((DIDS[0], f"at://{DIDS[1]}/app.bsky.feed.post/1"), (DIDS[2], f"at://{DIDS[2]}/x/1"))

_NAMES = ("1", "2", "3")
_BLOB = b"\x01\x55\x12\x20" + bytes(32)
_FAKES = tuple(commits.cid_text(commits.cid_of(text)) for text in (b"one", b"two"))
_START = datetime(2026, 11, 21, 18, tzinfo=UTC)
_POST = "app.bsky.feed.post"

WEIGHTS = {
    "app.bsky.feed.post": 12, "app.bsky.feed.like": 4, "app.bsky.feed.repost": 4,
    "app.bsky.graph.follow": 3, "app.bsky.feed.threadgate": 3, "app.bsky.feed.postgate": 2,
    "app.bsky.graph.listitem": 2, "app.bsky.graph.verification": 2, "app.bsky.graph.block": 1,
    "app.bsky.graph.list": 1, "app.bsky.graph.listblock": 1, "app.bsky.feed.generator": 1,
    "app.bsky.graph.starterpack": 1, "app.bsky.labeler.service": 1, "app.bsky.actor.profile": 1,
    "app.bsky.actor.status": 1, "app.bsky.notification.declaration": 1,
    "com.germnetwork.declaration": 1, "chat.bsky.actor.declaration": 1,
    "com.example.unknown": 1,
}  # fmt: skip
SINGLE = ("app.bsky.labeler.service", "app.bsky.actor.", "declaration")
"""Collections that mostly use the rkey ``self``."""


@dataclass
class Log:
    """Draws entries one after another.

    ``jitter`` is how far back, in milliseconds, the T of an entry may lie behind its place; with 0
    nothing is late. ``deletions`` lets accounts be deleted. ``faults`` is the share of ops that
    are wrong in themselves. A ``calm`` log is more like a network: most records are written once
    and mostly name what there is; no post embeds two records. A ``chained`` log's commits follow
    each other by ``since``; in an ``honest`` one no record is created where there is one.
    ``weights`` says how often there is something of each collection.
    """

    random: Random
    jitter: int = 0
    deletions: bool = False
    faults: float = 0.06
    calm: bool = False
    chained: bool = False
    honest: bool = False
    weights: dict[str, int] = field(default_factory=lambda: WEIGHTS)
    seq: int = 0
    _last: dict[str, int] = field(default_factory=dict)
    _roots: dict[str, str] = field(default_factory=dict)
    _cids: dict[str, str] = field(default_factory=dict)
    _revs: dict[str, str] = field(default_factory=dict)
    _held: set[str] = field(default_factory=set)

    def entries(self, count: int) -> list[bytes]:
        return [self.entry() for _ in range(count)]

    def entry(self) -> bytes:
        """The next entry: mostly a commit."""
        draw, did = self.random.random, self.random.choice(DIDS)
        self.seq += 1
        at = self._instant(did)
        base: dict[str, Any] = {
            "relay": "relay.test", "generation": 1, "seq": self.seq, "did": did,
            "time": self._time(at),
        }  # fmt: skip
        if draw() > 0.06:
            ops = [self._op(did, at) for _ in range(self.random.choice((1, 1, 1, 2, 4)))]
            rev = commits.tid(at - (5 if draw() < 0.02 and not self.honest else 0))
            since = self._revs.get(did) if self.chained else None
            self._revs[did] = max(rev, since or "")
            return commits.commit(ops=ops, rev=rev, since=since, **base)
        match self.random.choice("siaaa"):
            case "s":
                commit = commits.cid_of(bytes(self.seq))
                return wire.encode(wire.Sync(**base, rev=commits.tid(at), commit=commit, blocks=[]))
            case "i":
                return wire.encode(wire.Identity(**base, handle=None))
        words = ["takendown", "suspended", "deactivated", "throttled", None, None]
        status = self.random.choice([*words, "deleted"] if self.deletions else words)
        active = status is None or (status == "throttled" and draw() < 0.5)
        return wire.encode(wire.Account(**base, active=active, status=status))

    def _instant(self, did: str) -> int:
        """Milliseconds; ascending inside a repository but for repetitions, tied at times."""
        at = self.seq * 10 - self.random.choice((0, 0, 10))
        if self.jitter:
            at -= self.random.randrange(self.jitter)
        at = max(at, self._last.get(did, -1_000_000) + 1)
        self._last[did] = at
        return at

    @staticmethod
    def _time(at: int) -> str:
        text = (_START + timedelta(milliseconds=at)).isoformat(timespec="milliseconds")
        return text.replace("+00:00", "Z")

    def _op(self, did: str, at: int) -> wire.Op:
        rng = self.random
        nsid = rng.choices(list(self.weights), list(self.weights.values()))[0]
        is_single = any(word in nsid for word in SINGLE)
        rkey = "self" if is_single and rng.random() < 0.8 else rng.choice(_NAMES)
        path, sign = f"{nsid}/{rkey}", rng.choice("++++~~-")
        if self.calm and not is_single:
            path, sign = self._calm(did, nsid, path), "+"
            held = [uri for uri in self._cids if uri.startswith(f"at://{did}/{nsid}/")]
            if held and rng.random() < 0.08:
                path, sign = rng.choice(held).removeprefix(f"at://{did}/"), rng.choice("~-")
            rkey = path.split("/")[1]
        sign = self._said(f"at://{did}/{path}", sign)
        if sign == "-":
            return commits.op(sign, path)
        if rng.random() < self.faults / 6:
            return commits.op(sign, path, b"\xff")
        record = {"$type": nsid, "createdAt": self._created(at), **self._body(nsid, did, rkey)}
        if rng.random() < self.faults:
            self._spoil(record)
        op = commits.op(sign, path, record)
        assert op.cid is not None
        self._cids[f"at://{did}/{path}"] = commits.cid_text(op.cid)
        return op

    def _said(self, uri: str, sign: str) -> str:
        """What an honest repository calls a change."""
        if not self.honest:
            return sign
        if uri not in self._held:
            sign = "+"
        elif sign == "+":
            sign = "~"
        (self._held.discard if sign == "-" else self._held.add)(uri)
        return sign

    def _calm(self, did: str, nsid: str, path: str) -> str:
        """A path of its own; gates need their post's."""
        if "gate" not in nsid:
            return f"{nsid}/n{self.seq}"
        posts = [uri for uri in self._cids if uri.startswith(f"at://{did}/{_POST}/")]
        return f"{nsid}/{self.random.choice(posts).split('/')[-1]}" if posts else path

    def _created(self, at: int) -> str:
        shift = self.random.choice((-3_600_000, -1, 0, 3_600_000))
        text = self._time(at + shift)
        return self.random.choice((text, text.replace("Z", "456Z"), text.replace("Z", "+01:00")))

    def _spoil(self, record: Record) -> None:
        match self.random.randrange(4):
            case 0:
                record["createdAt"] = "yesterday"
            case 1:
                record["$type"] = "com.example.other"
            case 2:
                record["text"] = record["name"] = record["displayName"] = "nul \0"
            case _:
                record.pop(self.random.choice([key for key in record if key != "$type"]))

    def _someone(self) -> str:
        return self.random.choice((*DIDS, *DIDS, *DIDS, *STRANGERS))

    def _uri(self, nsid: str = _POST, did: str | None = None) -> str:
        if self.calm and self.random.random() < 0.9:
            held = [uri for uri in self._cids if f"{did or ''}/{nsid}/" in uri]
            if held:
                return self.random.choice(held[-8:])
        return f"at://{did or self._someone()}/{nsid}/{self.random.choice(_NAMES)}"

    def _ref(self, uri: str) -> Record:
        """Mostly with the CID that the record has."""
        fakes = self.random.choice(_FAKES)
        cid = self._cids.get(uri, fakes) if self.random.random() < 0.8 else fakes
        return {"uri": uri, "cid": cid}

    def _blob(self) -> Record:
        return {"$type": "blob", "ref": _BLOB, "mimeType": "image/jpeg", "size": 9}

    def _subject(self) -> str:
        kinds = [self._uri()] * 8 + [
            self._uri("app.bsky.feed.generator"),
            f"at://{self._someone()}",
        ]
        return self.random.choice(kinds)

    def _facets(self) -> list[Record]:
        mention = {"$type": "app.bsky.richtext.facet#mention", "did": self._someone()}
        if not mention["did"].startswith("did:"):
            mention = {"$type": "app.bsky.richtext.facet#tag", "tag": "tag"}
        return [{"index": {"byteStart": 0, "byteEnd": 1}, "features": [mention]}]

    def _body(self, nsid: str, did: str, rkey: str) -> Record:
        rng = self.random
        other = rng.choice((*DIDS, "did:plc:unheard"))
        match nsid:
            case "app.bsky.feed.post":
                return self._post(did, rkey)
            case "app.bsky.feed.like" | "app.bsky.feed.repost":
                found: Record = {"subject": self._ref(self._subject())}
                if rng.random() < 0.4:
                    found["via"] = self._ref(self._uri("app.bsky.feed.repost"))
                return found
            case "app.bsky.graph.follow" | "app.bsky.graph.block":
                return {"subject": other}
            case "app.bsky.feed.threadgate":
                return self._threadgate(did, rkey)
            case "app.bsky.feed.postgate":
                rules = [[], [{"$type": "app.bsky.feed.postgate#disableRule"}]]
                return {"post": self._own(did, rkey), "embeddingRules": rng.choice(rules)}
            case "app.bsky.graph.listitem":
                owner = rng.choice((did, did, did, other))
                return {"subject": other, "list": self._uri("app.bsky.graph.list", owner)}
            case "app.bsky.graph.verification":
                return {"subject": other, "handle": "a.example", "displayName": str(rng.random())}
            case "app.bsky.graph.list":
                purpose = "app.bsky.graph.defs#modlist"
                return {"name": "list", "purpose": purpose, "descriptionFacets": self._facets()}
            case "app.bsky.graph.listblock":
                return {"subject": self._uri("app.bsky.graph.list")}
            case "app.bsky.feed.generator":
                return {"did": other, "displayName": "feed", "avatar": self._blob()}
            case "app.bsky.graph.starterpack":
                return {"name": str(rng.random()), "list": self._uri("app.bsky.graph.list")}
            case "app.bsky.labeler.service":
                return {"policies": {"labelValues": ["spam"]}}
            case "app.bsky.actor.profile":
                found = {"displayName": rng.choice(("", "name")), "avatar": self._blob()}
                if rng.random() < 0.5:
                    pack = self._uri("app.bsky.graph.starterpack")
                    found["joinedViaStarterPack"] = self._ref(pack)
                return found
            case "app.bsky.actor.status":
                return {"status": "app.bsky.actor.status#live"}
            case "app.bsky.notification.declaration":
                return {"allowSubscriptions": rng.choice(("followers", "none"))}
            case "com.germnetwork.declaration":
                return {"version": "1.0.0", "currentKey": b"\x03key"}
        return {"anything": rng.randrange(9)}

    def _own(self, did: str, rkey: str) -> str:
        """What a gate names: its own post, but for a few."""
        kinds = [f"at://{did}/{_POST}/{rkey}"] * 12
        return self.random.choice([*kinds, f"at://{did}/com.example.x/{rkey}", self._uri()])

    def _threadgate(self, did: str, rkey: str) -> Record:
        rng = self.random
        found: Record = {"post": self._own(did, rkey)}
        if rng.random() < 0.8:
            names = ("mentionRule", "followingRule", "followerRule")
            rules = [{"$type": f"app.bsky.feed.threadgate#{name}"} for name in names]
            lists = self._uri("app.bsky.graph.list", did)
            rules.append({"$type": "app.bsky.feed.threadgate#listRule", "list": lists})
            found["allow"] = rng.sample(rules, rng.choice((0, 0, 1, 1, 2)))
        if rng.random() < 0.5:
            found["hiddenReplies"] = [self._uri(), self._uri()]
        return found

    def _post(self, did: str, rkey: str) -> Record:
        rng = self.random
        uri = f"at://{did}/{_POST}/{rkey}"
        found: Record = {"text": rng.choice(("", "text", "ein Text"))}
        self._roots.pop(uri, None)
        if rng.random() < 0.65:
            parent = self._uri() if rng.random() < 0.95 else self._uri("app.bsky.feed.generator")
            root = self._roots.get(parent, parent) if rng.random() < 0.8 else self._uri()
            self._roots[uri] = root
            found["reply"] = {"parent": self._ref(parent), "root": self._ref(root)}
        if rng.random() < 0.4:
            found["facets"] = self._facets() + self._facets()
        if rng.random() < 0.5:
            found["embed"] = self._embed()
        if rng.random() < 0.3:
            found |= {"langs": rng.choice(([], ["en", "de"])), "tags": rng.choice(([], ["a"]))}
        return found

    def _embed(self) -> Record:
        rng = self.random
        if rng.random() < 0.5:
            return self._quote()
        media = self._media()
        if rng.random() < 0.5:
            return media
        if rng.random() < 0.2 and not self.calm:
            media = self._quote()
        kind = "app.bsky.embed.recordWithMedia"
        return {"$type": kind, "record": self._quote(), "media": media}

    def _quote(self) -> Record:
        uri = self.random.choice([self._uri()] * 6 + [self._uri("app.bsky.feed.generator")])
        return {"$type": "app.bsky.embed.record", "record": self._ref(uri)}

    def _media(self) -> Record:
        rng = self.random
        image = {"image": self._blob(), "alt": rng.choice(("", "alt"))}
        match rng.randrange(5):
            case 0:
                return {"$type": "app.bsky.embed.images", "images": [image] * rng.randrange(3)}
            case 1:
                kind, ratio = "app.bsky.embed.gallery", {"width": 1, "height": 1}
                item = {"$type": f"{kind}#image", **image, "aspectRatio": ratio}
                unknown = {"$type": "com.example.thing"}
                return {"$type": kind, "items": rng.choice(([], [item], [unknown, item]))}
            case 2:
                external = {"uri": "https://one.example/", "title": "", "description": "d"}
                if rng.random() < 0.5:
                    external["thumb"] = self._blob()  # type: ignore[assignment]
                return {"$type": "app.bsky.embed.external", "external": external}
            case 3:
                video = self._blob() | {"mimeType": "video/mp4"}
                return {"$type": "app.bsky.embed.video", "video": video}
        return {"$type": "com.example.embed", "record": rng.choice((1, {"uri": "x"}))}


def read(entries: list[bytes]) -> list[events.Event]:
    """The same log, for the model."""
    found = [events.read_entry(entry) for entry in entries]
    return [event for event in found if event is not None]


def logs(*, max_entries: int = 60, **switches: Any) -> st.SearchStrategy[list[bytes]]:
    """Logs as a hypothesis strategy; every choice is drawn, so a log shrinks.

    Args:
        switches: those of ``Log``.
    """

    def draw(rng: Random, count: int) -> list[bytes]:
        return Log(rng, **switches).entries(count)

    return st.builds(draw, st.randoms(use_true_random=False), st.integers(1, max_entries))
