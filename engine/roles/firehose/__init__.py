"""The firehose ingester: relays' frames in, entries of the live shard streams out."""

from engine.roles.firehose.role import FirehoseRole

__all__ = ["FirehoseRole"]
