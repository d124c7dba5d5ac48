"""Settings: `sections` declares them, `load` reads them, ``docs/SETTINGS.md`` shows them."""

from __future__ import annotations

from engine.settings.load import (
    CONFIG_VARIABLE,
    Declared,
    Loaded,
    declared,
    load,
    load_with_sources,
)
from engine.settings.sections import (
    IdentitySettings,
    IndexerSettings,
    IngesterSettings,
    NetworkSettings,
    Settings,
)

__all__ = [
    "CONFIG_VARIABLE",
    "Declared",
    "IdentitySettings",
    "IndexerSettings",
    "IngesterSettings",
    "Loaded",
    "NetworkSettings",
    "Settings",
    "declared",
    "load",
    "load_with_sources",
]
