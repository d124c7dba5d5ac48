"""The lexicon documents of the indexed collections, and of what their records refer to.

Plain JSON files, one a namespace identifier, with only the definitions that a record can
reach. README.md says where they come from.
"""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def documents() -> bytes:
    """All documents as one JSON array, as the extension compiles it, sorted by file name."""
    files = resources.files(__name__).iterdir()
    texts = sorted((file.name, file.read_bytes()) for file in files if file.name.endswith(".json"))
    return b"[" + b",".join(text for _, text in texts) + b"]"
