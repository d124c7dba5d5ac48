"""The indexer: shard streams in, rows out, exactly once."""

from engine.roles.indexer.role import IndexerRole

__all__ = ["IndexerRole"]
