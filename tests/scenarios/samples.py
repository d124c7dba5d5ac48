"""One good record of every indexed collection."""

from __future__ import annotations

from tests.scenarios.dsl import ALICE, BOB, Record, ref

SAMPLES: dict[str, tuple[str | None, str, Record]] = {
    # short name: its table, an rkey, its fields
    "post": ("post", "1", {"text": "hello"}),
    "like": ("like", "1", {"subject": ref(BOB / "post/1")}),
    "repost": ("repost", "1", {"subject": ref(BOB / "post/1")}),
    "generator": ("feed_generator", "1", {"did": "did:web:feeds.test", "displayName": "feed"}),
    "threadgate": ("thread_gate", "1", {"post": ALICE / "post/1"}),
    "postgate": ("post_gate", "1", {"post": ALICE / "post/1"}),
    "follow": ("follow", "1", {"subject": BOB}),
    "block": ("actor_block", "1", {"subject": BOB}),
    "list": ("list", "1", {"name": "list", "purpose": "app.bsky.graph.defs#curatelist"}),
    "listitem": ("list_item", "1", {"subject": BOB, "list": ALICE / "list/1"}),
    "listblock": ("list_block", "1", {"subject": BOB / "list/1"}),
    "starterpack": ("starter_pack", "1", {"name": "pack", "list": ALICE / "list/1"}),
    "verification": (
        "verification", "1", {"subject": BOB, "handle": BOB.handle, "displayName": "Bob"},
    ),
    "profile": ("profile", "self", {"displayName": "Alice"}),
    "labeler": ("labeler", "self", {"policies": {"labelValues": []}}),
    "status": (None, "self", {"status": "app.bsky.actor.status#live"}),
    "notifications": (None, "self", {"allowSubscriptions": "followers"}),
    "chat": (None, "self", {"allowIncoming": "all"}),
    "germ": (None, "self", {"version": "1.0.0", "currentKey": b"key"}),
}  # fmt: skip
"""By short name. Records of ALICE."""

DECLARATIONS = ("status", "notifications", "chat", "germ")
"""Those without a table of their own."""
