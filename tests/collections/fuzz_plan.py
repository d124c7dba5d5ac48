"""The plan as the fuzz targets read it: the crate's tests run without an interpreter."""

from __future__ import annotations

import msgspec

from engine.collections import to_plan


def document() -> str:
    """All collections, laid out for reading."""
    return msgspec.json.format(to_plan().encode(), indent=1).decode()


if __name__ == "__main__":
    print(document())
