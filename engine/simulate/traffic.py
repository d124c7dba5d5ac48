"""What accounts of a simulated network do, as the frames of its relay.

Time inside is simulated and lies in the past: about two seconds pass with every
commit, from ``START_SECONDS`` on. All chance comes from one seed.
"""

from __future__ import annotations

import hashlib
import random
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engine.core import codec
from engine.simulate import records
from engine.simulate.records import Post, Scene
from engine.simulate.repository import Repository, Write, cid_of, encode, message, tid

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
_NAMES = [
    "ada",
    "bo",
    "cleo",
    "dan",
    "eve",
    "finn",
    "gus",
    "hana",
    "ivo",
    "jo",
    "kim",
    "lea",
    "max",
    "nia",
    "otto",
    "pia",
    "quin",
    "rosa",
    "sam",
    "tia",
]
_STAGE = (
    *("follow", "post", "list", "listitem", "threadgate", "postgate", "generator"),
    *("starterpack", "listblock", "verification", "block", "like", "repost", "foreign"),
)
"""What the first account does early, so that even a tiny network has every collection."""


@dataclass
class Account:
    """One account and what it can still change."""

    did: str
    handle: str
    key: str  # publicKeyMultibase
    resolves: bool
    repo: Repository
    active: bool = True
    status: str | None = None
    paths: list[str] = field(default_factory=list)  # records that may be deleted
    posts: list[Post] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The DID document as it is in the end."""
        method = {"id": f"{self.did}#atproto", "type": "Multikey", "controller": self.did}
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer"}
        return {
            "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
            "id": self.did,
            "alsoKnownAs": [f"at://{self.handle}"],
            "verificationMethod": [method | {"publicKeyMultibase": self.key}],
            "service": [service | {"serviceEndpoint": "https://pds.example.test"}],
        }


class Traffic:
    """One run; ``write`` receives the frames in order."""

    def __init__(
        self, seed: int, accounts: int, ops: int, write: Callable[[bytes], object]
    ) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.accounts = [self._account(seed, number) for number in range(accounts)]
        dids = [account.did for account in self.accounts]
        handles = {account.did: account.handle for account in self.accounts}
        self.scene = Scene(self.dice, dids, handles)
        self.wanted_ops = ops
        self.ops = 0
        self.frames = 0
        self.seq = 0
        self._write = write
        self._micros = START_SECONDS * 1_000_000
        self._bad = 0

    def run(self) -> None:
        """Write the whole network."""
        arrived: list[Account] = []
        spacing = self.wanted_ops / len(self.accounts) / 2
        while self.ops < self.wanted_ops or len(arrived) < len(self.accounts):
            if len(arrived) < len(self.accounts) and self.ops >= spacing * (len(arrived) - 3):
                arrived.append(self.accounts[len(arrived)])
                self._arrive(arrived[-1])
                if len(arrived) == 3:
                    for kind in _STAGE:
                        self._commit(arrived[0], [kind])
                    for collection in DECLARATIONS:
                        record = records.declaration(self.scene, collection, self._now())
                        self._send(arrived[0], [self._put(f"{collection}/self", record)])
                continue
            author = arrived[int(len(arrived) * self.dice.random() ** 1.3)]
            count = 1 if self.dice.random() < 0.85 else self.dice.randrange(2, 6)
            self._commit(author, self.dice.choices(list(MIX), list(MIX.values()), k=count))
        self._leave()

    # -- events -----------------------------------------------------------------------------

    def _arrive(self, account: Account) -> None:
        self._event("#identity", account.did, handle=account.handle)
        self._event("#account", account.did, active=True)
        rev, now = tid(self._tick()), self._now()
        self._frame(account.repo.sync(rev, self._next_seq(), now))
        name = account.handle.partition(".")[0]
        record = records.profile(self.scene, name, now)
        self._send(account, [self._put("app.bsky.actor.profile/self", record)])

    def _leave(self) -> None:
        """Events that change accounts; nothing is written by those that left."""
        renamed, returned, deactivated, taken, deleted = self.accounts[-5:]
        renamed.handle = f"renamed-{renamed.handle}"
        self._event("#identity", renamed.did, handle=renamed.handle)
        self._account_status(returned, "deactivated")
        self._account_status(returned, None)
        self._account_status(deactivated, "deactivated")
        self._account_status(taken, "takendown")
        self._account_status(deleted, "deleted")

    def _account_status(self, account: Account, status: str | None) -> None:
        account.active, account.status = status is None, status
        extra = {} if status is None else {"status": status}
        self._event("#account", account.did, active=account.active, **extra)

    def _event(self, kind: str, did: str, **fields: Any) -> None:
        self._tick()
        body = {"seq": self._next_seq(), "did": did, "time": self._now(), **fields}
        self._frame(message(kind, body))

    def _commit(self, account: Account, kinds: list[str]) -> None:
        writes: dict[str, Write] = {}
        for kind in kinds:
            write = self._make(account, kind)
            if write is not None:
                writes.setdefault(write.path, write)
        if writes:
            self._send(account, list(writes.values()))

    def _send(self, account: Account, writes: list[Write]) -> None:
        self._tick(self.dice.randrange(4_000_000))
        rev = tid(self._micros, clock=1)
        self._frame(account.repo.commit(writes, rev, self._next_seq(), self._now()))
        self.ops += len(writes)

    def _frame(self, frame: bytes) -> None:
        self._write(frame)
        self.frames += 1

    # -- ops --------------------------------------------------------------------------------

    def _make(self, account: Account, kind: str) -> Write | None:
        """One write of this kind; None where there is nothing to do it to."""
        scene, dice, now = self.scene, self.dice, self._now()
        if kind == "post":
            return self._post(account, self._new("app.bsky.feed.post"))
        if kind in ("like", "repost"):
            target = scene.some_post()
            if target is None:
                return None
            record = records.reaction(kind, target, now)
            return self._put(self._new(f"app.bsky.feed.{kind}"), record, account)
        if kind in ("follow", "block", "listblock"):
            collection = f"app.bsky.graph.{kind}"
            subject = scene.somebody()
            if kind == "listblock":
                if not scene.lists:
                    return None
                subject = dice.choice(scene.lists)[1]
            record = records.of_subject(collection, subject, now)
            return self._put(self._new(collection), record, account)
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
            return self._put(f"app.bsky.feed.{kind}/{rkey}", record, account)
        if kind == "declaration":
            collection = dice.choice(DECLARATIONS)
            record = records.declaration(scene, collection, now)
            return self._put(f"{collection}/self", record)
        if kind == "delete":
            return self._delete(account)
        if kind == "update":
            return self._update(account)
        if kind == "foreign":
            collection = dice.choice(FOREIGN)
            record = {"$type": collection, "title": scene.text(5), "createdAt": now}
            return self._put(self._new(collection), record, account)
        if kind == "bad":
            return self._bad_write(account)
        return self._curated(account, kind)

    def _post(self, account: Account, path: str) -> Write:
        record, root = records.post(self.scene, self._now())
        write = self._put(path, record, account)
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
        record = records.curated(scene, collection, self._now(), uri, scene.somebody())
        write = self._put(self._new(collection), record, account)
        made, cid = f"at://{account.did}/{write.path}", cid_of(write.record or b"")
        if kind == "list":
            account.lists.append(made)
            scene.lists.append((account.did, made, cid))
        elif kind == "starterpack":
            scene.packs.append((made, cid))
        elif kind == "generator":
            scene.generators.append((made, cid))
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
        name = account.handle.partition(".")[0]
        record = records.profile(self.scene, name, self._now())
        return self._put("app.bsky.actor.profile/self", record)

    def _bad_write(self, account: Account) -> Write | None:
        """One of the things that are refused, in turn."""
        self._bad += 1
        now, post = self._now(), {"$type": "app.bsky.feed.post", "text": "x"}
        path = self._new("app.bsky.feed.post")
        match self._bad % 8:
            case 1:
                return self._put(path, {"$type": "app.bsky.feed.post", "createdAt": now})
            case 2:
                return self._put(path, post | {"createdAt": now, "text": "a\0b"})
            case 3:
                return self._put(path, post | {"createdAt": "yesterday"})
            case 4:
                return self._put(path, post | {"createdAt": now, "extra": 1 << 60})
            case 5:
                write = self._put(path, post | {"createdAt": now})
                return Write(path, write.record, present=False)
            case 6:
                target = self.scene.some_post()
                if target is None or target.did == account.did:
                    return None
                record = records.threadgate(self.scene, target, [], now)
                return self._put(self._new("app.bsky.feed.threadgate"), record)
            case 7:
                self._frame(b"\xa2bop\x01at")  # a header that breaks off
                return None
            case _:
                subject = {"uri": "not a uri", "cid": "not a cid"}
                record = {"$type": "app.bsky.feed.like", "subject": subject, "createdAt": now}
                return self._put(self._new("app.bsky.feed.like"), record)

    def _put(self, path: str, record: dict[str, Any], owner: Account | None = None) -> Write:
        if owner is not None:
            owner.paths.append(path)
        return Write(path, encode(record))

    # -- clocks and numbers -----------------------------------------------------------------

    def _account(self, seed: int, number: int) -> Account:
        secret = hashlib.sha256(f"headrace {seed} {number}".encode()).digest()
        did = "did:plc:" + b32encode(secret).decode().lower()[:24]
        suffix = "" if number < len(_NAMES) else str(number // len(_NAMES))
        handle = f"{_NAMES[number % len(_NAMES)]}{suffix}.example.test"
        key = codec.public_key("ES256K", secret).removeprefix("did:key:")
        return Account(did, handle, key, number % 20 != 13, Repository(did))

    def _new(self, collection: str) -> str:
        return f"{collection}/{tid(self._tick(), clock=7)}"

    def _tick(self, microseconds: int = 0) -> int:
        self._micros += 1 + microseconds
        return self._micros

    def _now(self) -> str:
        moment = datetime.fromtimestamp(self._micros // 1_000_000, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{self._micros // 1000 % 1000:03}Z"

    def _next_seq(self) -> int:
        self.seq += 1 if self.dice.random() < 0.98 else 2  # relays skip numbers too
        return self.seq
