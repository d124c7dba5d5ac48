"""Settings: `sections` declares them, `load` reads them, ``docs/SETTINGS.md`` shows them.

`predecessor` knows the variables of the pipeline that Headrace replaces; `advice` says what an
operator should hear about the values.
"""

from __future__ import annotations

from engine.settings.advice import Notice
from engine.settings.backfill import BackfillerSettings, ListerSettings
from engine.settings.labels import LabelsSettings
from engine.settings.load import (
    CONFIG_VARIABLE,
    SUPERVISOR_VARIABLE,
    Declared,
    Loaded,
    check_role,
    declared,
    load,
    load_with_sources,
    variables,
)
from engine.settings.sections import (
    BUILT,
    ROLES,
    IdentitySettings,
    IndexerSettings,
    IngesterSettings,
    NetworkSettings,
    Settings,
)

__all__ = [
    "BUILT",
    "CONFIG_VARIABLE",
    "ROLES",
    "SUPERVISOR_VARIABLE",
    "BackfillerSettings",
    "Declared",
    "IdentitySettings",
    "IndexerSettings",
    "IngesterSettings",
    "LabelsSettings",
    "ListerSettings",
    "Loaded",
    "NetworkSettings",
    "Notice",
    "Settings",
    "check_role",
    "declared",
    "load",
    "load_with_sources",
    "variables",
]
