"""The labels role: labelers' streams into the stream of labels, and from there into rows."""

from engine.roles.labels.role import LabelsRole

__all__ = ["LabelsRole"]
