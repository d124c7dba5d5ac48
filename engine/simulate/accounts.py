"""Accounts of a simulated network: who they are, where they live, what they can still change."""

from __future__ import annotations

import hashlib
from base64 import b32encode
from dataclasses import dataclass, field
from typing import Any

from libipld import encode_cid

from engine.simulate.keys import K256, P256, Key
from engine.simulate.records import Post
from engine.simulate.repository import Repository

HOSTS = tuple(f"https://pds{number}.example.test" for number in (1, 2, 3))
"""As the DID documents name them; whoever serves the network puts addresses in their place."""

LABELERS = 2
"""So many of the first accounts label others."""

_NAMES = (
    *("ada", "bo", "cleo", "dan", "eve", "finn", "gus", "hana", "ivo", "jo"),
    *("kim", "lea", "max", "nia", "otto", "pia", "quin", "rosa", "sam", "tia"),
)
_ERRORS = {"deactivated": "RepoDeactivated", "takendown": "RepoTakendown"}


@dataclass
class Account:
    """One account and what it can still change."""

    did: str
    handle: str
    host: str
    resolves: bool
    repo: Repository
    label_key: Key | None = None
    active: bool = True
    status: str | None = None
    paths: list[str] = field(default_factory=list)  # records that may be deleted
    posts: list[Post] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called for short."""
        return self.handle.partition(".")[0]

    def document(self) -> dict[str, Any]:
        """The DID document as it is now."""
        keys = {"atproto": self.repo.key}
        services = [("atproto_pds", "AtprotoPersonalDataServer", self.host)]
        if self.label_key is not None:
            keys["atproto_label"] = self.label_key
            endpoint = f"https://{self.name}.labels.example.test"
            services.append(("atproto_labeler", "AtprotoLabeler", endpoint))
        return {
            "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
            "id": self.did,
            "alsoKnownAs": [f"at://{self.handle}"],
            "verificationMethod": [
                {
                    "id": f"{self.did}#{name}",
                    "type": "Multikey",
                    "controller": self.did,
                    "publicKeyMultibase": key.multibase,
                }
                for name, key in keys.items()
            ],
            "service": [
                {"id": f"#{name}", "type": kind, "serviceEndpoint": endpoint}
                for name, kind, endpoint in services
            ],
        }

    def entry(self) -> dict[str, Any]:
        """What ``listRepos`` says of it."""
        entry: dict[str, Any] = {
            "did": self.did,
            "head": encode_cid(self.repo.head),
            "rev": self.repo.rev,
            "active": self.active,
        }
        return entry if self.status is None else entry | {"status": self.status}

    def export_error(self) -> dict[str, str]:
        """What ``getRepo`` says where the account is not active."""
        return {"error": _ERRORS.get(self.status or "", "RepoNotFound"), "message": "gone"}


def make(seed: int, number: int) -> Account:
    """The account of that number; a third has keys of P-256, one in twenty no working handle."""
    secret = _secret(seed, number, "")
    did = "did:plc:" + b32encode(secret).decode().lower()[:24]
    suffix = "" if number < len(_NAMES) else str(number // len(_NAMES))
    key = Key(P256 if number % 3 == 1 else K256, secret)
    label_key = Key(K256, _secret(seed, number, " labels")) if number < LABELERS else None
    return Account(
        did,
        f"{_NAMES[number % len(_NAMES)]}{suffix}.example.test",
        HOSTS[number % len(HOSTS)],
        number % 20 != 13,
        Repository(did, key),
        label_key,
    )


def _secret(seed: int, number: int, use: str) -> bytes:
    return hashlib.sha256(f"headrace {seed} {number}{use}".encode()).digest()
