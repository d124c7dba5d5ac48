"""Tools: collect a report, then render it; no role is imported here."""
