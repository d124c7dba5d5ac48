"""Records of a simulated network: valid under the lexicons, in the mix of the real one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from libipld import encode_cid

from engine.simulate.repository import cid_of

Record = dict[str, Any]

RECENT_COUNT = 4000
"""Posts that people still react to; bounds memory however long the network runs."""

_TEXT = (
    "river water mill stone wheel morning coffee garden rain bread train window letter winter "
    "paper light harbour bicycle kitchen orchard lantern market bridge meadow cloud copper "
    "violin ferry sparrow library candle forest 川 水車 朝 été naïve Straße 🌊 🦋 👩‍🌾"
)
_WORDS = _TEXT.split()
_LANGS = ["en", "de", "ja", "fr", "pt-BR", "es"]
_TOPICS = ["mills", "rivers", "birds", "bread", "trains"]


@dataclass(frozen=True)
class Post:
    """A post that others may answer, like, repost, quote or gate."""

    did: str
    path: str
    cid: bytes
    root: tuple[str, bytes] | None  # of its thread; None if it is the root itself

    @property
    def uri(self) -> str:
        """AT URI."""
        return f"at://{self.did}/{self.path}"


@dataclass
class Scene:
    """What a writer of records can see of the network."""

    dice: random.Random
    dids: Sequence[str]
    handles: dict[str, str]
    posts: list[Post] = field(default_factory=list)
    lists: list[tuple[str, str, bytes]] = field(default_factory=list)  # DID, uri, CID
    packs: list[tuple[str, bytes]] = field(default_factory=list)
    generators: list[tuple[str, bytes]] = field(default_factory=list)

    def remember(self, post: Post) -> None:
        """Add a post, at the cost of a random older one when there are many."""
        if len(self.posts) < RECENT_COUNT:
            self.posts.append(post)
        else:
            self.posts[self.dice.randrange(RECENT_COUNT)] = post

    def somebody(self) -> str:
        """A DID; the first ones are the popular ones."""
        return self.dids[int(len(self.dids) * self.dice.random() ** 2)]

    def some_post(self) -> Post | None:
        """A post; most attention goes to a few."""
        if not self.posts:
            return None
        return self.posts[int(len(self.posts) * self.dice.random() ** 3)]

    def text(self, words: int) -> str:
        """So many words."""
        return " ".join(self.dice.choices(_WORDS, k=words))

    def blob(self, mime: str = "image/jpeg") -> Record:
        """A reference to a blob that nobody holds."""
        size = self.dice.randrange(10_000, 900_000)
        ref = cid_of(self.dice.randbytes(16), content=0x55)
        return {"$type": "blob", "ref": ref, "mimeType": mime, "size": size}


def ref(uri: str, cid: bytes) -> Record:
    """A strong reference."""
    return {"uri": uri, "cid": encode_cid(cid)}


def post(scene: Scene, now: str) -> tuple[Record, tuple[str, bytes] | None]:
    """A post, and the root of the thread that it answers in."""
    dice = scene.dice
    record: Record = {
        "$type": "app.bsky.feed.post",
        "text": scene.text(dice.randrange(1, 30)),
        "createdAt": now,
    }
    if dice.random() < 0.8:
        record["langs"] = dice.sample(_LANGS, dice.choice([1, 1, 1, 2]))
    if dice.random() < 0.1:
        record["tags"] = dice.sample(_TOPICS, 2)
    if dice.random() < 0.03:
        values = [{"val": "graphic-media"}]
        record["labels"] = {"$type": "com.atproto.label.defs#selfLabels", "values": values}
    if dice.random() < 0.25:
        _add_facet(scene, record)
    root = None
    parent = scene.some_post()
    if parent is not None and dice.random() < 0.45:
        root = parent.root or (parent.uri, parent.cid)
        record["reply"] = {"root": ref(*root), "parent": ref(parent.uri, parent.cid)}
    if (embed := _embed(scene)) is not None:
        record["embed"] = embed
    return record, root


def _add_facet(scene: Scene, record: Record) -> None:
    kind = scene.dice.choice(["mention", "link", "tag"])
    did = scene.somebody()
    shown, feature = {
        "mention": ("@" + scene.handles[did], {"did": did}),
        "link": ("example.com/mill", {"uri": "https://example.com/mill"}),
        "tag": ("#mills", {"tag": "mills"}),
    }[kind]
    start = len(record["text"].encode()) + 1
    record["text"] += " " + shown
    record["facets"] = [
        {
            "index": {"byteStart": start, "byteEnd": start + len(shown.encode())},
            "features": [{"$type": f"app.bsky.richtext.facet#{kind}", **feature}],
        }
    ]


def _media(scene: Scene) -> Record:
    dice = scene.dice
    ratio = {"width": dice.randrange(400, 2000), "height": dice.randrange(400, 2000)}
    kind = dice.choices(["images", "gallery", "video", "external"], [6, 1, 1, 3])[0]
    if kind == "images":
        images = [
            {"image": scene.blob(), "alt": scene.text(4), "aspectRatio": ratio}
            for _ in range(dice.randrange(1, 5))
        ]
        return {"$type": "app.bsky.embed.images", "images": images}
    if kind == "gallery":
        items = [
            {
                "$type": "app.bsky.embed.gallery#image",
                "image": scene.blob(),
                "alt": scene.text(2),
                "aspectRatio": ratio,
            }
            for _ in range(dice.randrange(1, 8))
        ]
        return {"$type": "app.bsky.embed.gallery", "items": items}
    if kind == "video":
        video = scene.blob("video/mp4")
        return {"$type": "app.bsky.embed.video", "video": video, "alt": "a film"}
    external: Record = {
        "uri": f"https://example.com/{dice.randrange(10_000)}",
        "title": scene.text(5),
        "description": scene.text(12),
    }
    if dice.random() < 0.5:
        external["thumb"] = scene.blob()
    return {"$type": "app.bsky.embed.external", "external": external}


def _quoted(scene: Scene) -> Record | None:
    dice = scene.dice
    others = [*scene.generators[-3:], *scene.packs[-3:], *((u, c) for _, u, c in scene.lists[-3:])]
    if others and dice.random() < 0.1:
        return ref(*dice.choice(others))
    target = scene.some_post()
    return ref(target.uri, target.cid) if target else None


def _embed(scene: Scene) -> Record | None:
    chance = scene.dice.random()
    if chance < 0.30:
        return _media(scene)
    quoted = _quoted(scene) if chance < 0.40 else None
    if quoted is None:
        return None
    record: Record = {"$type": "app.bsky.embed.record", "record": quoted}
    if chance < 0.37:
        return record
    media = _media(scene)
    return {
        "$type": "app.bsky.embed.recordWithMedia",
        "record": {"record": quoted},
        "media": media,
    }


def reaction(kind: str, target: Post, now: str) -> Record:
    """A like or a repost."""
    subject = ref(target.uri, target.cid)
    return {"$type": f"app.bsky.feed.{kind}", "subject": subject, "createdAt": now}


def of_subject(collection: str, subject: str, now: str) -> Record:
    """A follow, block or list block."""
    return {"$type": collection, "subject": subject, "createdAt": now}


def profile(scene: Scene, name: str, now: str) -> Record:
    """A profile."""
    record: Record = {
        "$type": "app.bsky.actor.profile",
        "displayName": name.title(),
        "description": scene.text(8),
        "createdAt": now,
    }
    if scene.dice.random() < 0.7:
        record["avatar"] = scene.blob()
    if scene.packs and scene.dice.random() < 0.3:
        record["joinedViaStarterPack"] = ref(*scene.dice.choice(scene.packs))
    return record


def declaration(scene: Scene, collection: str, now: str) -> Record:
    """One of the records that live at ``self`` and have no table of their own, or a labeler."""
    bodies: dict[str, Record] = {
        "app.bsky.actor.status": {
            "status": "app.bsky.actor.status#live",
            "durationMinutes": 30,
            "createdAt": now,
        },
        "app.bsky.notification.declaration": {"allowSubscriptions": "followers"},
        "chat.bsky.actor.declaration": {"allowIncoming": "following"},
        "com.germnetwork.declaration": {
            "version": "1.0.0",
            "currentKey": b"\5" + scene.dice.randbytes(31),  # not the beginning of a CID
        },
        "app.bsky.labeler.service": {
            "policies": {"labelValues": ["spam", "porn"]},
            "createdAt": now,
        },
    }
    return {"$type": collection, **bodies[collection]}


def threadgate(scene: Scene, target: Post, lists: list[str], now: str) -> Record:
    """Who may answer: everybody, nobody, or some."""
    rule = "app.bsky.feed.threadgate#"
    rules: list[Record] = [
        {"$type": rule + "mentionRule"},
        {"$type": rule + "followingRule"},
        {"$type": rule + "followerRule"},
        *({"$type": rule + "listRule", "list": uri} for uri in lists[:1]),
    ]
    record: Record = {
        "$type": "app.bsky.feed.threadgate",
        "post": target.uri,
        "createdAt": now,
    }
    if scene.dice.random() < 0.9:
        record["allow"] = scene.dice.sample(rules, scene.dice.randrange(len(rules)))
    return record


def postgate(scene: Scene, target: Post, now: str) -> Record:
    """Who may quote."""
    rules = [{"$type": "app.bsky.feed.postgate#disableRule"}]
    return {
        "$type": "app.bsky.feed.postgate",
        "post": target.uri,
        "embeddingRules": rules[: scene.dice.randrange(2)],
        "createdAt": now,
    }


def curated(scene: Scene, collection: str, now: str, uri: str = "", did: str = "") -> Record:
    """A list, list item, feed generator, starter pack (of list ``uri``) or verification."""
    bodies: dict[str, Record] = {
        "app.bsky.graph.list": {
            "name": scene.text(2)[:20],
            "purpose": "app.bsky.graph.defs#"
            + scene.dice.choice(["curatelist", "modlist", "referencelist"]),
            "description": scene.text(5),
        },
        "app.bsky.graph.listitem": {"list": uri, "subject": did},
        "app.bsky.feed.generator": {
            "did": "did:web:feeds.example.com",
            "displayName": "Feed of " + scene.dice.choice(_TOPICS),
        },
        "app.bsky.graph.starterpack": {"name": "Start here", "list": uri},
        "app.bsky.graph.verification": {
            "subject": did,
            "handle": scene.handles.get(did, "x.test"),
            "displayName": "Somebody",
        },
    }
    return {"$type": collection, **bodies[collection], "createdAt": now}
