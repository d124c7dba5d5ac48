"""Measurements: the method stands in README.md, before the numbers."""
