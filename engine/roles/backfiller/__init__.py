"""The backfiller role: repositories from the queue, fetched from their own hosts and proved."""

from engine.roles.backfiller.ledger import CONNECTIONS
from engine.roles.backfiller.role import BackfillerRole

__all__ = ["CONNECTIONS", "BackfillerRole"]
