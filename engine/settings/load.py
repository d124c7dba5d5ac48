"""From a file and the environment to checked settings, knowing where each came from."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from engine import failpoints
from engine.core import urls
from engine.errors import SettingsError
from engine.settings import predecessor
from engine.settings.advice import Notice, notices
from engine.settings.section import Section
from engine.settings.sections import BUILT, ROLES, Settings

CONFIG_VARIABLE = "HEADRACE_CONFIG"
"""Names the TOML file where no ``--config`` is given."""

SUPERVISOR_VARIABLE = "HEADRACE_SUPERVISOR"
"""Process id of the supervisor, in the environment of its processes."""


class Declared(Struct, frozen=True):
    """One setting as declared."""

    section: str  # "" at top level
    key: str
    hint: Any  # the annotated type
    default: Any
    description: str
    unit: str | None
    secret: bool
    bounds: str  # for people: "1 to 100"; "" if there are none

    @property
    def name(self) -> str:
        """As in the file: ``key`` or ``section.key``."""
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def variable(self) -> str:
        """As in the environment."""
        return f"{self.section}_{self.key}".strip("_").upper()

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return get_origin(get_args(self.hint)[0]) is tuple


class Loaded(Struct, frozen=True):
    """Settings, and where each of them came from."""

    settings: Settings
    sources: dict[str, str]
    """Declared name -> ``default``, ``file PATH``, ``environment``, or the variables of the
    predecessor that it was mapped from."""
    notices: tuple[Notice, ...] = ()
    """What whoever starts a deployment should read once."""


def declared(struct: type[Section] = Settings, section: str = "") -> Iterator[Declared]:
    """Every setting, top level first, in the order of declaration."""
    hints = get_type_hints(struct, include_extras=True)
    nested: list[tuple[type[Section], str]] = []
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Section):
            nested.append((hint, field.name))
            continue
        meta = next(arg for arg in get_args(hint) if isinstance(arg, Meta))
        extra = meta.extra or {}
        yield Declared(
            section=section,
            key=field.name,
            hint=hint,
            default=field.default,
            description=meta.description or "",
            unit=extra.get("unit"),
            secret=bool(extra.get("secret")),
            bounds=_bounds(meta),
        )
    for inner, name in nested:
        yield from declared(inner, name)


def _bounds(meta: Meta) -> str:
    lowest = meta.ge if meta.ge is not None else meta.gt
    if meta.ge is None and lowest is not None:
        return f"Above {lowest:g}" + (f", up to {meta.le:g}" if meta.le is not None else "")
    if lowest is not None and meta.le is not None:
        return f"{lowest} to {meta.le}"
    return f"At least {lowest}" if lowest is not None else ""


def load(config: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The effective settings of this process. See `load_with_sources`."""
    return load_with_sources(config, environ).settings


def load_with_sources(
    config: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> Loaded:
    """Read the file and the environment over the defaults. Reads no clock, opens no socket.

    The order, a later one wins: default, file, what follows from a variable of the predecessor,
    our own variable.

    Args:
        config: the TOML file; None takes ``HEADRACE_CONFIG``, and no file where that is not set.
        environ: the environment, `os.environ` by default.

    Raises:
        SettingsError: a key that does not exist or a value that cannot be, with its source.
    """
    environ = os.environ if environ is None else environ
    refuse_unknown(environ)
    failpoints.parse(environ.get(failpoints.VARIABLE, ""))
    path = config or environ.get(CONFIG_VARIABLE) or None
    from_file = _read_file(Path(path)) if path else {}
    mapped = {item.target: item for item in predecessor.mapped(environ, BUILT)}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for item in declared():
        text = environ.get(item.variable, "").strip()
        of_old = mapped.get(item.name)
        if text:
            source, label, raw, strict = "environment", item.variable, text, False
        elif of_old is not None and of_old.text:
            source = " and ".join(of_old.variables)
            label, raw, strict = item.variable, of_old.text, False
        elif item.name in from_file:
            source, label, raw, strict = f"file {path}", item.name, from_file[item.name], True
        else:
            sources[item.name] = "default"
            continue
        try:
            value = _checked(item, raw, strict=strict)
        except ValueError as error:
            shown = "" if item.secret else f" = {raw!r}"
            raise SettingsError(f"{label}{shown} (from the {source}): {error}") from error
        sources[item.name] = source
        if item.section:
            values.setdefault(item.section, {})[item.key] = value
        else:
            values[item.key] = value
    settings = msgspec.convert(values, Settings)
    return Loaded(settings, sources, notices(settings, sources, environ))


_OURS_TOO = ("HEADRACE", "DB_POOL")
"""Prefixes of our variables beside those of the sections."""


def variables() -> frozenset[str]:
    """Every variable that `load` reads: ours and the predecessor's."""
    of_processes = {CONFIG_VARIABLE, SUPERVISOR_VARIABLE, failpoints.VARIABLE}
    return frozenset({item.variable for item in declared()} | of_processes | predecessor.NAMES)


def refuse_unknown(environ: Mapping[str, str]) -> None:
    """Refuse variables that look like settings and are none; pure.

    A variable belongs to us by the prefix of a section. What Kubernetes sets for a service of
    that name (``INDEXER_SERVICE_HOST``, ``INDEXER_PORT_9090_TCP`` ...) is left alone.

    Raises:
        SettingsError: each of them by name, with the likely one.
    """
    known = variables()
    words = {item.section.upper() for item in declared() if item.section} | set(_OURS_TOO)
    prefixes = tuple(f"{word}_" for word in words)
    strange = [
        name
        for name, value in sorted(environ.items())
        if name.startswith(prefixes)
        and name not in known
        and not _OF_KUBERNETES.search(name)
        and not re.match(r"(tcp|udp|sctp)://", value)
    ]
    if strange:
        raise SettingsError(
            "unknown in the environment: "
            + ", ".join(near_miss(name, known) for name in strange)
            + "; docs/SETTINGS.md has every setting"
        )


_OF_KUBERNETES = re.compile(
    r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)


def near_miss(name: str, known: Iterable[str]) -> str:
    """``NAME``, with the known name that it was probably meant to be, if there is one."""
    likely = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    return f"{name} (did you mean {likely[0]}?)" if likely else name


def _read_file(path: Path) -> dict[str, Any]:
    """The file's settings by declared name."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path}: {error}") from error
    items = list(declared())
    names = {item.name for item in items}
    sections = {item.section for item in items if item.section}
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if key in sections:
            if not isinstance(value, dict):
                raise SettingsError(f"settings file {path}: {key} is a section, [{key}]")
            flat |= {f"{key}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[key] = value
    unknown = sorted(set(flat) - names)
    if unknown:
        listed = ", ".join(near_miss(name, names) for name in unknown)
        raise SettingsError(f"settings file {path}: unknown {listed}")
    return flat


def _checked(item: Declared, raw: Any, *, strict: bool) -> Any:
    """One value, converted, bounded and normalized; ValueError says what is wrong."""
    if item.is_list and isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    value = msgspec.convert(raw, item.hint, strict=strict)
    normalize = _NORMALIZED.get(item.name)
    return value if normalize is None else normalize(value)


def _relay_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(urls.relay_url(host) for host in hosts if host.strip()))
    if not named:
        raise ValueError("no relay is named")
    names = [url.partition("://")[2] for url in named]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is named twice, with different schemes")
    return named


def _hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(urls.origin(host) for host in hosts if host.strip()))


def _web_urls(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(urls.web_url(url) for url in given if url.strip()))


def _labelers(names: tuple[str, ...]) -> tuple[str, ...]:
    """DIDs as they are, hosts as URLs of websockets; each once."""
    found = [name.strip() for name in names if name.strip()]
    return tuple(
        dict.fromkeys(name if name.startswith("did:") else urls.relay_url(name) for name in found)
    )


def _signatures(word: str) -> str:
    if word not in ("enforce", "count", "off"):
        raise ValueError("expected enforce, count or off")
    return word


def _initial_cursor(text: str) -> str:
    word = text.strip().lower()
    if word in ("oldest", "live"):
        return word
    if word.isascii() and word.isdigit() and int(word) < 1 << 63:
        return str(int(word))
    raise ValueError("expected oldest, live or a seq")


def _collections(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise ValueError("no collection is named")
    for pattern in patterns:
        stem = pattern.removesuffix("*").removesuffix(".")
        if "*" in stem or (pattern.endswith("*") and pattern not in ("*", f"{stem}.*")):
            raise ValueError(f"{pattern}: only a whole name, or a prefix followed by .*")
    return tuple(dict.fromkeys(patterns))


def _roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    for role in roles:
        check_role(role)
    return tuple(role for role in BUILT if role in roles)


def _name_servers(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        urls.address_and_port(name, 53)
    return names


def check_role(role: str) -> str:
    """The role itself; ValueError where there is none of that name, or not in this version."""
    if role not in ROLES:
        raise ValueError(f"{role!r} is no role; there are {', '.join(BUILT)}")
    if role not in BUILT:
        raise ValueError(f"this version has no role {role}; it has {', '.join(BUILT)}")
    return role


_LOGS = (*ROLES, "up", "reshard")
"""Who writes a log of its own, as LOG_LEVEL may name them."""


def _log_level(text: str) -> str:
    """As given; the levels themselves are read by ``log``."""
    named = [part.partition("=")[0].strip() for part in text.split(",") if "=" in part]
    strange = [near_miss(name, _LOGS) for name in named if name not in _LOGS]
    if strange:
        raise ValueError(f"no role: {', '.join(strange)}; there are {', '.join(_LOGS)}")
    return text


_NORMALIZED: dict[str, Any] = {
    "log_level": _log_level,
    "roles": _roles,
    "database_url": urls.with_scheme("postgresql", "postgres"),
    "redis_url": urls.with_scheme("redis", "rediss", "unix"),
    "plc_url": urls.web_url,
    "plc_mirrors": _web_urls,
    "filter_collections": _collections,
    "ingester.relay_hosts": _relay_hosts,
    "ingester.initial_cursor": _initial_cursor,
    "lister.hosts": _hosts,
    "identity.handle_resolver": urls.web_url,
    "identity.name_servers": _name_servers,
    "labels.labelers": _labelers,
    "labels.signatures": _signatures,
}
