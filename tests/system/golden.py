"""The recorded networks and the judgement over a database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

EXACT_TABLES = (
    "record",
    "actor_sync",
    "actor",
    "list",
    "feed_generator",
    "starter_pack",
    "labeler",
    "profile",
    "post",
    "post_embed_image",
    "post_embed_gallery_image",
    "post_embed_external",
    "post_embed_record",
    "post_embed_video",
)
"""Tables that need no rule across records."""

COMPUTED_FLAGS = (
    "post.invalidReplyRoot",
    "post.violatesThreadGate",
    "post.violatesEmbeddingRules",
    "post.hasThreadGate",
    "post.hasPostGate",
)
"""Columns of post that such rules fill."""


def differences(
    shared: Path,
    network: str,
    database_url: str,
    *,
    schema: str = "public",
    ignore: Collection[str] = (),
) -> str:
    """What check.py says if a row differs, else an empty string."""
    result = subprocess.run(
        [
            sys.executable,
            str(shared / "golden" / "check.py"),
            database_url,
            "--schema",
            schema,
            "--golden",
            str(shared / network),
            "--tables",
            ",".join(EXACT_TABLES),
            "--ignore",
            ",".join([*COMPUTED_FLAGS, *ignore]),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    checked = sum(line.rstrip().endswith("ok") for line in result.stdout.splitlines())
    if result.returncode == 0 and checked >= len(EXACT_TABLES) - 3:
        return ""
    return result.stdout + result.stderr
