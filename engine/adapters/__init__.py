"""Edges: each module knows one outside thing, translates its errors and decides nothing."""
