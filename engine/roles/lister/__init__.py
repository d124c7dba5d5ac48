"""The lister: finds every repository, and keeps the queue of those to fetch filled."""

from engine.roles.lister.role import CONNECTIONS, ListerRole

__all__ = ["CONNECTIONS", "ListerRole"]
