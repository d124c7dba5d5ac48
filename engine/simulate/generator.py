"""Make a network: seeded, so that the same arguments give the same bytes.

Every indexed collection occurs, in about the mix of the real network (three in
five ops are likes), with updates, deletes, identity and account events, records
of foreign collections, and a few bad records and frames. The result is a folder
as ``network`` reads it. Commits are unsigned (``repository``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from libipld import encode_cid

from engine.errors import SettingsError
from engine.simulate.traffic import Account, Traffic

ACCOUNTS_MIN = 10

OPS_PER_ACCOUNT = 75
"""Where the number of accounts is not given; small repositories keep their trees cheap."""


def generate(
    folder: Path, *, seed: int = 1, accounts: int | None = None, ops: int = 3000
) -> dict[str, int]:
    """Write a network into a folder, which is made and must be empty.

    Args:
        folder: where; frames are streamed to disk, repositories are kept in memory.
        seed: the same arguments give the same bytes.
        accounts: how many, or one for each ``OPS_PER_ACCOUNT`` ops.
        ops: at least this many record operations.

    Returns:
        Counts of what was written.

    Raises:
        SettingsError: the folder is not empty, or too few accounts.
    """
    count = accounts if accounts is not None else max(24, ops // OPS_PER_ACCOUNT)
    if count < ACCOUNTS_MIN:
        raise SettingsError(f"a network needs {ACCOUNTS_MIN} accounts, not {count}")
    cars = folder / "cars"
    cars.mkdir(parents=True, exist_ok=True)
    if any(cars.iterdir()) or len(list(folder.iterdir())) > 1:
        raise SettingsError(f"{folder} is not empty")
    with (folder / "frames.bin").open("wb", buffering=1 << 20) as file:
        traffic = Traffic(
            seed, count, ops, lambda one: file.write(len(one).to_bytes(4, "big") + one)
        )
        traffic.run()
    _write_state(folder, traffic.accounts)
    counts = {"accounts": count, "frames": traffic.frames, "ops": traffic.ops}
    counts |= {"seed": seed, "lastSeq": traffic.seq}
    (folder / "meta.json").write_bytes(orjson.dumps(counts, option=orjson.OPT_INDENT_2))
    return counts


def _write_state(folder: Path, accounts: list[Account]) -> None:
    listed: list[dict[str, Any]] = []
    errors = {"deactivated": "RepoDeactivated", "takendown": "RepoTakendown"}
    for account in accounts:
        entry: dict[str, Any] = {
            "did": account.did,
            "head": encode_cid(account.repo.head),
            "rev": account.repo.rev,
            "active": account.active,
        }
        name = folder / "cars" / account.did.replace(":", "_")
        if account.active:
            name.with_suffix(".car").write_bytes(account.repo.export())
        else:
            entry["status"] = account.status
            error = {"error": errors.get(account.status or "", "RepoNotFound"), "message": "gone"}
            answer = {"status": 400, "body": orjson.dumps(error).decode()}
            name.with_suffix(".error.json").write_bytes(orjson.dumps(answer))
        if account.status != "deleted":
            listed.append(entry)
    (folder / "listRepos.json").write_bytes(orjson.dumps(listed))
    documents = {account.did: account.document() for account in accounts}
    handles = {account.handle: account.did for account in accounts if account.resolves}
    identities = {"plc": documents, "handles": handles}
    (folder / "identities.json").write_bytes(orjson.dumps(identities))
