"""Every setting, declared once: type, default, unit, bounds and meaning.

A setting at top level is a key of the TOML file and, in upper case, a variable of the
environment; a setting in a section is ``[section] key`` and ``SECTION_KEY``. A later source
wins: default, file, environment. Lists are TOML arrays or strings separated by commas; an
empty variable counts as not set. The file may hold nothing that is not declared here; other
programs' variables are none of our business.

``docs/SETTINGS.md`` is made from these declarations.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from engine.errors import SettingsError

CONFIG_VARIABLE = "HEADRACE_CONFIG"
"""Names the TOML file where no ``--config`` is given."""

MIB = 1 << 20


class _Section(Struct, frozen=True, kw_only=True):
    """One section of the file."""


class IngesterSettings(_Section, frozen=True, kw_only=True):
    """Reading relays."""

    relay_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Relays to read, all of them at once. A bare host means wss://; ws:// and "
            "http:// are for tests and private networks. Kept as URLs with a scheme."
        ),
    ] = ("wss://relay1.us-east.bsky.network", "wss://relay1.us-west.bsky.network")
    initial_cursor: Annotated[
        str,
        Meta(
            description="Where to begin on a relay without a known position: `oldest` that it "
            "still serves, `live`, or a seq (the first frame asked for is the one after it)."
        ),
    ] = "oldest"
    high_water_mark: Annotated[
        int,
        Meta(
            ge=1,
            description="Stop reading the relays while the streams of one source hold this many "
            "events. Frames wait at the relay and nothing is lost while it still serves them.",
            extra={"unit": "events"},
        ),
    ] = 100_000
    high_water_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            description="The same limit in bytes of entries; whichever is reached first holds. "
            "Redis needs about one and a half times as much memory.",
            extra={"unit": "bytes"},
        ),
    ] = 512 * MIB
    batch_size: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Append at most this many frames in one round trip. An upper limit only.",
            extra={"unit": "frames"},
        ),
    ] = 1000
    batch_timeout_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="A frame waits at most this long for others. An upper limit only: what "
            "has arrived is sent as soon as the last append is answered.",
            extra={"unit": "milliseconds"},
        ),
    ] = 1000
    silence_timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            description="Connect again to a relay that sent no frame for this long.",
            extra={"unit": "seconds"},
        ),
    ] = 30.0


class IndexerSettings(_Section, frozen=True, kw_only=True):
    """Writing rows."""

    processes: Annotated[
        int, Meta(ge=0, le=1024, description="Indexer processes; 0 means one a core.")
    ] = 0
    batch_bytes: Annotated[
        int,
        Meta(
            ge=1 << 16,
            le=256 * MIB,
            description="Close a batch at this many bytes of entries. Larger batches copy faster "
            "and hold memory longer: a process may hold two at once.",
            extra={"unit": "bytes"},
        ),
    ] = 8 * MIB
    retention_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="Keep committed entries in their stream at least this long.",
            extra={"unit": "seconds"},
        ),
    ] = 1.0
    retention_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Let go of committed entries earlier where a stream keeps more than this.",
            extra={"unit": "bytes"},
        ),
    ] = 16 * MIB


class IdentitySettings(_Section, frozen=True, kw_only=True):
    """Looking up DIDs and handles."""

    handle_resolver: Annotated[
        str,
        Meta(
            description="URL of an XRPC service that answers com.atproto.identity.resolveHandle. "
            "Empty: DNS and https://HANDLE/.well-known/atproto-did."
        ),
    ] = ""
    concurrency: Annotated[int, Meta(ge=1, le=1024, description="Look-ups at the same time.")] = 16
    timeout_seconds: Annotated[
        float,
        Meta(gt=0, le=300, description="Limit of one request.", extra={"unit": "seconds"}),
    ] = 5.0


class NetworkSettings(_Section, frozen=True, kw_only=True):
    """What requests may reach."""

    allow_private: Annotated[
        bool,
        Meta(
            description="Allow requests to loopback, private and link-local addresses. For tests "
            "and private networks: documents of strangers name the hosts that we ask."
        ),
    ] = False


class Settings(_Section, frozen=True, kw_only=True):
    """The settings of one deployment. Build it with `load`, which checks and normalizes."""

    database_url: Annotated[
        str | None,
        Meta(
            description="Postgres to write, `postgresql://...`. Not set: `headrace up` starts one "
            "of its own in DATA_DIR.",
            extra={"secret": True},
        ),
    ] = None
    database_schema: Annotated[
        str, Meta(min_length=1, max_length=63, description="Schema of the data plane's tables.")
    ] = "public"
    database_state_schema: Annotated[
        str, Meta(min_length=1, max_length=63, description="Schema of Headrace's own tables.")
    ] = "headrace"
    redis_url: Annotated[
        str | None,
        Meta(
            description="Redis or Valkey, `redis://...` or `unix:///...`. Not set: `headrace up` "
            "starts one of its own in DATA_DIR.",
            extra={"secret": True},
        ),
    ] = None
    redis_key_prefix: Annotated[
        str, Meta(max_length=200, description="Put before every key in Redis.")
    ] = ""
    data_dir: Annotated[
        str, Meta(min_length=1, description="Folder of the embedded services' data.")
    ] = ".data"
    plc_url: Annotated[str, Meta(description="Directory of did:plc documents.")] = (
        "https://plc.directory"
    )
    metrics_host: Annotated[
        str, Meta(min_length=1, description="Address on which `headrace up` answers `/status`.")
    ] = "127.0.0.1"
    metrics_port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of `/status`; 0 means any free port.")
    ] = 4100
    shard_count: Annotated[
        int,
        Meta(
            ge=1,
            le=4096,
            description="Streams a source. Fixed when the database is first used, so that all "
            "events of a DID stay in one stream.",
        ),
    ] = 16
    log_level: Annotated[
        str,
        Meta(
            description="`debug`, `info`, `warning` or `error`; `ROLE=LEVEL` for one role; several "
            "separated by commas."
        ),
    ] = "info"
    filter_collections: Annotated[
        tuple[str, ...],
        Meta(
            description="Collections to carry: full names, or a prefix with `.*` at its end. Other "
            "records are counted and left out before they are decoded."
        ),
    ] = ("app.bsky.*", "chat.bsky.*", "com.germnetwork.declaration")
    ingester: IngesterSettings = IngesterSettings()
    indexer: IndexerSettings = IndexerSettings()
    identity: IdentitySettings = IdentitySettings()
    network: NetworkSettings = NetworkSettings()


class Declared(Struct, frozen=True):
    """One setting as declared."""

    section: str  # "" at top level
    key: str
    hint: Any  # the annotated type
    default: Any
    description: str
    unit: str | None
    secret: bool

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
    sources: dict[str, str]  # declared name -> "default" | "file PATH" | "environment"


def declared(struct: type[_Section] = Settings, section: str = "") -> Iterator[Declared]:
    """Every setting, top level first, in the order of declaration."""
    hints = get_type_hints(struct, include_extras=True)
    nested: list[tuple[type[_Section], str]] = []
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, _Section):
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
        )
    for inner, name in nested:
        yield from declared(inner, name)


def load(config: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The effective settings of this process. See `load_with_sources`."""
    return load_with_sources(config, environ).settings


def load_with_sources(
    config: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> Loaded:
    """Read the file and the environment over the defaults.

    Args:
        config: the TOML file; None takes ``HEADRACE_CONFIG``, and no file where that is not set.
        environ: the environment, `os.environ` by default.

    Raises:
        SettingsError: a key that does not exist or a value that cannot be, with its source.
    """
    environ = os.environ if environ is None else environ
    path = config or environ.get(CONFIG_VARIABLE) or None
    from_file = _read_file(Path(path)) if path else {}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for item in declared():
        text = environ.get(item.variable, "")
        if text.strip():
            source, label, raw, strict = "environment", item.variable, text.strip(), False
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
    return Loaded(msgspec.convert(values, Settings), sources)


def masked_url(url: str) -> str:
    """A URL fit for a log: its password, wherever it stands, is left out."""
    url = re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:***@", url)
    return re.sub(r"([?&]\w*pass\w*=)[^&]*", r"\1***", url)


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
        raise SettingsError(f"settings file {path}: unknown {', '.join(unknown)}")
    return flat


def _checked(item: Declared, raw: Any, *, strict: bool) -> Any:
    """One value, converted, bounded and normalized; ValueError says what is wrong."""
    if item.is_list and isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    value = msgspec.convert(raw, item.hint, strict=strict)
    normalize = _NORMALIZED.get(item.name)
    return value if normalize is None else normalize(value)


def _relay_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(relay_url(host) for host in hosts if host.strip()))
    if not urls:
        raise ValueError("no relay is named")
    names = [url.partition("://")[2] for url in urls]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is named twice, with different schemes")
    return urls


_SCHEMES = {"wss": "wss", "https": "wss", "ws": "ws", "http": "ws"}
_DEFAULT_PORTS = {"wss": 443, "ws": 80}


def relay_url(host: str) -> str:
    """``wss://host[:port]`` or ``ws://host[:port]`` of a relay as an operator writes it.

    One spelling for one relay, so that its cursor is found again: lower case, no path, no
    default port. ``streams.canonical_host`` of the result names the relay.
    """
    text = host.strip()
    parts = urlsplit(text if "://" in text else f"wss://{text}")
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError(f"{text}: a relay is wss://, ws://, https://, http:// or a bare host")
    if not parts.hostname or parts.username is not None or any(c.isspace() for c in text):
        raise ValueError(f"{text}: not a host")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{text}: a relay is a host, without a path")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port
    return f"{scheme}://{name}" + ("" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}")


def _initial_cursor(text: str) -> str:
    word = text.strip().lower()
    if word in ("oldest", "live"):
        return word
    if word.isascii() and word.isdigit() and int(word) < 1 << 63:
        return str(int(word))
    raise ValueError("expected oldest, live or a seq")


def _web_url(text: str) -> str:
    url = text.strip().rstrip("/")
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("expected an http:// or https:// URL")
    return url


def _with_scheme(*schemes: str) -> Any:
    def check(url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in schemes:
            raise ValueError(f"expected a URL that begins with {' or '.join(schemes)} and ://")
        return url

    return check


def _collections(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise ValueError("no collection is named")
    for pattern in patterns:
        stem = pattern.removesuffix("*").removesuffix(".")
        if "*" in stem or (pattern.endswith("*") and pattern not in ("*", f"{stem}.*")):
            raise ValueError(f"{pattern}: only a whole name, or a prefix followed by .*")
    return tuple(dict.fromkeys(patterns))


_NORMALIZED: dict[str, Any] = {
    "database_url": _with_scheme("postgresql", "postgres"),
    "redis_url": _with_scheme("redis", "rediss", "unix"),
    "plc_url": _web_url,
    "filter_collections": _collections,
    "ingester.relay_hosts": _relay_hosts,
    "ingester.initial_cursor": _initial_cursor,
    "identity.handle_resolver": _web_url,
}
