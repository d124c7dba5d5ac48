"""What an account writes: one op of a kind, and what others may then do to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from engine.simulate import records
from engine.simulate.accounts import Account
from engine.simulate.records import Post, Scene
from engine.simulate.repository import Write, cid_of, encode, tid

START_SECONDS = 1_735_689_600  # 2025-01-01: a rev in the future would be refused

MIX = {
    "like": 58.0,
    "post": 14.0,
    "follow": 8.0,
    "repost": 7.0,
    "delete": 6.0,
    "block": 1.0,
    "listitem": 1.0,
    "update": 1.0,
    "threadgate": 0.7,
    "postgate": 0.5,
    "declaration": 0.3,
    "verification": 0.2,
    "list": 0.2,
    "listblock": 0.1,
    "generator": 0.1,
    "starterpack": 0.1,
    "foreign": 1.2,
    "bad": 0.3,
}
"""Per cent of ops."""

DECLARATIONS = (
    "app.bsky.actor.status",
    "app.bsky.labeler.service",
    "app.bsky.notification.declaration",
    "chat.bsky.actor.declaration",
    "com.germnetwork.declaration",
)
FOREIGN = ("com.whtwnd.blog.entry", "fyi.unravel.frontpage.post", "place.stream.chat.message")

RECORDS_MAX = 1000
"""Of one repository; who has so many deletes instead. Bounds memory and the cost of a commit."""

CURATED_MAX = 500
"""Lists, starter packs and generators, of each, that others still refer to."""


class Clock:
    """Simulated time, and the identifiers that are made of it."""

    def __init__(self) -> None:
        self.micros = START_SECONDS * 1_000_000

    def tick(self, microseconds: int = 0) -> int:
        """Let so much time pass, and one microsecond so that no moment comes twice."""
        self.micros += 1 + microseconds
        return self.micros

    def now(self) -> str:
        """A datetime."""
        moment = datetime.fromtimestamp(self.micros // 1_000_000, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{self.micros // 1000 % 1000:03}Z"

    def rev(self) -> str:
        """A TID of now, for a commit."""
        return tid(self.micros, clock=1)

    def path(self, collection: str) -> str:
        """Where a new record goes."""
        return f"{collection}/{tid(self.tick(), clock=7)}"


class Writer:
    """Makes writes, with the network's scene, dice and clock.

    ``noise`` takes the frames that are no event at all.
    """

    def __init__(
        self,
        scene: Scene,
        dice: random.Random,
        clock: Clock,
        noise: Callable[[bytes], object],
    ) -> None:
        self.scene = scene
        self.dice = dice
        self.clock = clock
        self._noise = noise
        self._bad = 0

    def make(self, account: Account, kind: str) -> Write | None:
        """One write of this kind; None where there is nothing to do it to."""
        if len(account.repo.records) >= RECORDS_MAX:
            kind = "delete"
        scene, dice, now = self.scene, self.dice, self.clock.now()
        if kind == "post":
            return self._post(account, self.clock.path("app.bsky.feed.post"))
        if kind in ("like", "repost"):
            target = scene.some_post()
            if target is None:
                return None
            record = records.reaction(kind, target, now)
            return self.put(self.clock.path(f"app.bsky.feed.{kind}"), record, account)
        if kind in ("follow", "block", "listblock"):
            collection = f"app.bsky.graph.{kind}"
            subject = scene.somebody()
            if kind == "listblock":
                if not scene.lists:
                    return None
                subject = dice.choice(scene.lists)[1]
            record = records.of_subject(collection, subject, now)
            return self.put(self.clock.path(collection), record, account)
        if kind in ("threadgate", "postgate"):
            if not account.posts:
                return None
            post = dice.choice(account.posts)
            rkey = post.path.partition("/")[2]
            record = (
                records.threadgate(scene, post, account.lists, now)
                if kind == "threadgate"
                else records.postgate(scene, post, now)
            )
            return self.put(f"app.bsky.feed.{kind}/{rkey}", record, account)
        if kind == "declaration":
            collection = dice.choice(DECLARATIONS)
            record = records.declaration(scene, collection, now)
            return self.put(f"{collection}/self", record)
        if kind == "delete":
            return self._delete(account)
        if kind == "update":
            return self._update(account)
        if kind == "foreign":
            collection = dice.choice(FOREIGN)
            record = {"$type": collection, "title": scene.text(5), "createdAt": now}
            return self.put(self.clock.path(collection), record, account)
        if kind == "bad":
            return self._bad_write(account)
        return self._curated(account, kind)

    def _post(self, account: Account, path: str) -> Write:
        record, root = records.post(self.scene, self.clock.now())
        write = self.put(path, record, account)
        post = Post(account.did, path, cid_of(write.record or b""), root)
        self.scene.remember(post)
        account.posts = [*account.posts[-9:], post]
        return write

    def _curated(self, account: Account, kind: str) -> Write | None:
        scene = self.scene
        collection = f"app.bsky.{'feed' if kind == 'generator' else 'graph'}.{kind}"
        if kind in ("listitem", "starterpack") and not account.lists:
            kind, collection = "list", "app.bsky.graph.list"
        uri = self.dice.choice(account.lists) if account.lists else ""
        record = records.curated(scene, collection, self.clock.now(), uri, scene.somebody())
        write = self.put(self.clock.path(collection), record, account)
        made, cid = f"at://{account.did}/{write.path}", cid_of(write.record or b"")
        if kind == "list":
            account.lists.append(made)
            _keep(scene.lists, (account.did, made, cid))
        elif kind == "starterpack":
            _keep(scene.packs, (made, cid))
        elif kind == "generator":
            _keep(scene.generators, (made, cid))
        return write

    def _delete(self, account: Account) -> Write | None:
        paths = account.paths
        if not paths:
            return None
        index = self.dice.randrange(len(paths))
        paths[index], paths[-1] = paths[-1], paths[index]
        path = paths.pop()
        account.posts = [post for post in account.posts if post.path != path]
        account.lists = [uri for uri in account.lists if not uri.endswith(path)]
        return Write(path, None) if path in account.repo.records else None

    def _update(self, account: Account) -> Write | None:
        if account.posts and self.dice.random() < 0.3:
            return self._post(account, self.dice.choice(account.posts).path)
        record = records.profile(self.scene, account.name, self.clock.now())
        return self.put("app.bsky.actor.profile/self", record)

    def _bad_write(self, account: Account) -> Write | None:
        """One of the things that are refused, in turn."""
        self._bad += 1
        now, post = self.clock.now(), {"$type": "app.bsky.feed.post", "text": "x"}
        path = self.clock.path("app.bsky.feed.post")
        match self._bad % 8:
            case 1:
                return self.put(path, {"$type": "app.bsky.feed.post", "createdAt": now})
            case 2:
                return self.put(path, post | {"createdAt": now, "text": "a\0b"})
            case 3:
                return self.put(path, post | {"createdAt": "yesterday"})
            case 4:
                return self.put(path, post | {"createdAt": now, "extra": 1 << 60})
            case 5:
                write = self.put(path, post | {"createdAt": now})
                return Write(path, write.record, present=False)
            case 6:
                target = self.scene.some_post()
                if target is None or target.did == account.did:
                    return None
                record = records.threadgate(self.scene, target, [], now)
                return self.put(self.clock.path("app.bsky.feed.threadgate"), record)
            case 7:
                self._noise(b"\xa2bop\x01at")  # a header that breaks off
                return None
            case _:
                subject = {"uri": "not a uri", "cid": "not a cid"}
                record = {"$type": "app.bsky.feed.like", "subject": subject, "createdAt": now}
                return self.put(self.clock.path("app.bsky.feed.like"), record)

    def put(self, path: str, record: dict[str, Any], owner: Account | None = None) -> Write:
        """Write a record; ``owner`` may delete it later."""
        if owner is not None:
            owner.paths.append(path)
        return Write(path, encode(record))


def _keep(held: list[Any], new: Any) -> None:
    held.append(new)
    if len(held) > CURATED_MAX:
        del held[0]
