"""Who follows, blocks, lists and vouches for whom."""

from __future__ import annotations

from engine.collections.declare import (
    Belongs,
    Column,
    Count,
    Notice,
    Notices,
    Source,
    blob,
    plain,
    plain_json,
    text,
)
from engine.core.wire import Reason

FOLLOW = plain(
    "app.bsky.graph.follow",
    "follow",
    text("subjectDid", "subject"),
    unique=("creator", "subjectDid"),
    counts=(
        Count("profile_agg", "followersCount", "subjectDid"),
        Count("profile_agg", "followsCount", "creator"),
    ),
    notices=Notices((Notice("follow", "subject", about=False),)),
)

BLOCK = plain(
    "app.bsky.graph.block",
    "actor_block",
    text("subjectDid", "subject"),
    unique=("creator", "subjectDid"),
)

LIST = plain(
    "app.bsky.graph.list",
    "list",
    text("name"),
    text("purpose"),
    text("description"),
    plain_json("descriptionFacets"),
    blob("avatarCid", "avatar"),
)

LISTITEM = plain(
    "app.bsky.graph.listitem",
    "list_item",
    text("subjectDid", "subject"),
    text("listUri", "list"),
    unique=("listUri", "subjectDid"),
    belongs=Belongs("list", Reason.CREATOR_MISMATCH),
)

LISTBLOCK = plain(
    "app.bsky.graph.listblock",
    "list_block",
    text("subjectUri", "subject"),
    unique=("creator", "subjectUri"),
)

STARTERPACK = plain("app.bsky.graph.starterpack", "starter_pack", text("name"))

VERIFICATION = plain(
    "app.bsky.graph.verification",
    "verification",
    Column("rkey", Source.RKEY),
    text("subject"),
    text("handle"),
    text("displayName"),
    unique=("subject", "creator"),
    notices=Notices((Notice("verified", "subject", about=False),), stay=True, undone="unverified"),
)

GRAPH = (FOLLOW, BLOCK, LIST, LISTITEM, LISTBLOCK, STARTERPACK, VERIFICATION)
