"""``docs/SETTINGS.md``, made from the declarations: ``python -m engine.ops.settings_doc``."""

from __future__ import annotations

from engine import settings
from engine.settings import Declared, Settings, predecessor

_HEAD = f"""\
# Settings

Made by `make docs` from `engine/settings/sections.py`; do not edit.

Each setting is a key of a TOML file (`--config FILE` or `{settings.CONFIG_VARIABLE}`) and a
variable of the environment, which wins. An empty variable counts as not set. Lists are TOML
arrays, or strings separated by commas. An unknown key in the file is refused, and so is an unknown
variable that begins like a section (`INGESTER_` ...); other variables are left alone.

`headrace settings` shows the effective values and where each came from.

```toml
metrics_port = 4100

[ingester]
relay_hosts = ["relay1.us-east.bsky.network"]
```"""


def render() -> str:
    """The whole page."""
    parts = [_HEAD]
    section = None
    for item in settings.declared():
        if item.section != section:
            section = item.section
            title = f"[{section}]" if section else "Top level"
            about = _about(section)
            parts.append(
                f"\n## {title}\n\n{about}| variable | default | meaning |\n| --- | --- | --- |"
            )
        parts.append(f"| `{item.variable}` | {_default(item)} | {_meaning(item)} |")
    parts.append(_predecessor())
    return "\n".join(parts) + "\n"


_OF_OLD = """
## Variables of the pipeline that Headrace replaces

Whoever ran its `ingester`, `backfiller` and `indexer` can start Headrace with the environment they
have; none of its variables is refused. *Honoured*: a setting above has its name and its meaning.
*Mapped*: it becomes the setting named, unless that is set in the environment itself. The others are
named once at start. A value that cannot be is refused, where it used to be replaced by the default.

| variable | fate | setting | why or how |
| --- | --- | --- | --- |"""


def _predecessor() -> str:
    targets = {item.name: f"`{item.variable}`" for item in settings.declared()}
    rows = (
        f"| `{one.name}` | {one.fate} | {targets.get(one.target, '')} | {one.reason} |"
        for one in predecessor.TABLE
    )
    return "\n".join((_OF_OLD, *rows))


def _about(section: str) -> str:
    if not section:
        return ""
    text = (type(getattr(Settings(), section)).__doc__ or "").strip()
    return f"{text}\n\n"


def _default(item: Declared) -> str:
    if item.default is None:
        return "not set"
    if item.is_list:
        return " ".join(f"`{part}`" for part in item.default)
    if item.default == "":
        return "empty"
    value = str(item.default).lower() if isinstance(item.default, bool) else str(item.default)
    return f"`{value}`"


def _meaning(item: Declared) -> str:
    unit = f" In {item.unit}." if item.unit else ""
    bounds = f" {item.bounds}." if item.bounds else ""
    return (item.description + unit + bounds).replace("|", "\\|")


if __name__ == "__main__":
    print(render(), end="")
