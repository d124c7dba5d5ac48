"""URLs as operators write them, brought to one spelling or refused; and fit to be logged.

A check raises ValueError, whose message says what would be right.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

_SCHEMES = {"wss": "wss", "https": "wss", "ws": "ws", "http": "ws"}
_HOST = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")
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


def origin(text: str, *, plain: bool = False) -> str:
    """``https://host[:port]`` of a host as a list, a document or an operator names it.

    One spelling for one host: lower case, no path, no default port. A bare name is meant with
    https, or http where ``plain``.
    """
    text = text.strip()
    parts = urlsplit(text if "://" in text else f"{'http' if plain else 'https'}://{text}")
    host, port = parts.hostname, parts.port
    if parts.scheme not in ("http", "https") or not host or not _HOST.fullmatch(host):
        raise ValueError(f"{text[:100]}: not a host")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{text[:100]}: a host, without a path")
    name = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}[parts.scheme]
    return f"{parts.scheme}://{name}" + ("" if port in (None, default) else f":{port}")


def http_url(relay: str) -> str:
    """Where a relay of the settings answers what is no stream: ``http(s)://host[:port]``."""
    return re.sub(r"^ws", "http", relay)


def web_url(text: str) -> str:
    """An ``http://`` or ``https://`` URL without a slash at its end; empty stays empty."""
    url = text.strip().rstrip("/")
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("expected an http:// or https:// URL")
    return url


def address_and_port(text: str, default: int) -> tuple[str, int]:
    """``1.2.3.4``, ``1.2.3.4:5353``, ``::1`` or ``[::1]:5353``, as an address and a port."""
    text = text.strip()
    try:
        return str(ipaddress.ip_address(text)), default
    except ValueError:
        pass
    try:
        parts = urlsplit(f"//{text}")
        address, port = str(ipaddress.ip_address(parts.hostname or "")), parts.port or default
    except ValueError:
        raise ValueError(f"{text[:100]}: expected ADDRESS or ADDRESS:PORT") from None
    if text != (f"[{address}]:{port}" if ":" in address else f"{address}:{port}"):
        raise ValueError(f"{text[:100]}: expected ADDRESS or ADDRESS:PORT")
    return address, port


def with_scheme(*schemes: str) -> Callable[[str | None], str | None]:
    """A check that lets URLs of these schemes pass unchanged."""

    def check(url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in schemes:
            raise ValueError(f"expected a URL that begins with {' or '.join(schemes)} and ://")
        return url

    return check


def masked_url(url: str) -> str:
    """A URL fit for a log: its password, wherever it stands, is left out."""
    url = re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:***@", url)
    return re.sub(r"([?&]\w*pass\w*=)[^&]*", r"\1***", url)
