"""What the declarations of settings are made of."""

from __future__ import annotations

from msgspec import Struct

MIB = 1 << 20


class Section(Struct, frozen=True, kw_only=True):
    """One section of the file."""
