"""What an actor says of itself: profile, status, labeler, declarations."""

from __future__ import annotations

from engine.collections.declare import (
    Collection,
    Column,
    Notice,
    Notices,
    Source,
    blob,
    plain,
    text,
)

PROFILE = plain(
    "app.bsky.actor.profile",
    "profile",
    text("displayName"),
    text("description"),
    blob("avatarCid", "avatar"),
    blob("bannerCid", "banner"),
    text("joinedViaStarterPackUri", "joinedViaStarterPack.uri"),
    Column("createdAt", Source.TEXT_OR_NOW, "createdAt"),
    self_only=True,
    insert_uris=("joinedViaStarterPack.uri",),
    notices=Notices(
        (
            Notice(
                "starterpack-joined",
                "joinedViaStarterPack.uri",
                at_event=True,
            ),
        ),
        stay=True,
    ),
)

LABELER = plain("app.bsky.labeler.service", "labeler", self_only=True)

STATUS = Collection("app.bsky.actor.status", self_only=True)
NOTIFICATION_DECLARATION = Collection("app.bsky.notification.declaration", self_only=True)
GERM_DECLARATION = Collection("com.germnetwork.declaration", self_only=True)
CHAT_DECLARATION = Collection("chat.bsky.actor.declaration", self_only=True, validated=False)

ACTOR = (PROFILE, LABELER, STATUS, NOTIFICATION_DECLARATION, GERM_DECLARATION, CHAT_DECLARATION)
