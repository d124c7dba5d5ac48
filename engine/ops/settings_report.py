"""``headrace settings``: the effective values, and where each of them came from.

Passwords are left out, wherever they stand in a URL.
"""

from __future__ import annotations

import msgspec
import orjson

from engine import settings
from engine.core import urls
from engine.settings import Declared, Loaded


def render_json(loaded: Loaded) -> bytes:
    """One JSON document, for programs."""
    values = [
        {
            "name": item.name,
            "variable": item.variable,
            "value": _value(loaded, item),
            "source": loaded.sources[item.name],
        }
        for item in settings.declared()
    ]
    return orjson.dumps({"settings": values, "notices": msgspec.to_builtins(loaded.notices)})


def render_text(loaded: Loaded) -> str:
    """A table of variable, value and source, then what the start would say about them."""
    rows = [
        (item.variable, _text(_value(loaded, item)), loaded.sources[item.name])
        for item in settings.declared()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:{widths[0]}}  {value:{widths[1]}}  {source}" for name, value, source in rows]
    lines += [f"{notice.variable}: {notice.text}" for notice in loaded.notices]
    return "\n".join(lines)


def _value(loaded: Loaded, item: Declared) -> object:
    """The effective value, as TOML and JSON have it."""
    holder = getattr(loaded.settings, item.section) if item.section else loaded.settings
    value = getattr(holder, item.key)
    if isinstance(value, tuple):
        return [urls.masked_url(part) for part in value]
    return urls.masked_url(value) if isinstance(value, str) else value


def _text(value: object) -> str:
    if value is None:
        return "(not set)"
    if isinstance(value, list):
        return ",".join(value) or "(empty)"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else "(empty)"
