"""What each indexed collection means in Postgres, as data."""

from __future__ import annotations

from collections.abc import Mapping

from engine.collections import declare
from engine.collections.actor import ACTOR
from engine.collections.declare import Collection, Plan
from engine.collections.feed import FEED
from engine.collections.graph import GRAPH

COLLECTIONS: tuple[Collection, ...] = (*FEED, *GRAPH, *ACTOR)
"""All 19 indexed collections; records of any other are not stored."""

if len({collection.nsid for collection in COLLECTIONS}) != len(COLLECTIONS):
    raise ValueError("a collection is declared twice")


def to_plan(variants: Mapping[str, str | bool] | None = None) -> Plan:
    """The plan of all collections for one database (see ``declare.to_plan``)."""
    return declare.to_plan(COLLECTIONS, variants or {})
