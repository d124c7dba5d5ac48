"""Make a network out of a seed: the same arguments give the same bytes.

Every indexed collection occurs, in about the mix of the real network (three in five ops are
likes), with updates, deletes, identity and account events, records of foreign collections, and
a few bad records and frames; commits, trees and labels are signed and whole unless faults are
asked for. It is made while it is served (``Synthetic``) or into a folder as ``network`` reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson

from engine.errors import SettingsError
from engine.simulate.accounts import Account
from engine.simulate.network import Document, MemoryFrames, Network, file_name
from engine.simulate.traffic import Traffic
from engine.simulate.writes import MIX

ACCOUNTS_MIN = 10

OPS_PER_ACCOUNT = 75
"""Where the number of accounts is not given; small repositories keep their trees cheap."""

ACCOUNTS_ENDLESS = 500
"""Where neither accounts nor ops are given."""

AHEAD_FRAMES = 256
"""Made before the fastest subscriber asks for them."""

WINDOW_BYTES = 128 << 20
"""Of frames that a late subscriber may still ask for; older ones are gone."""


class Synthetic(Network):
    """A network that is made as its fastest subscriber reads it; safe to serve from threads.

    Memory is the window of frames and the repositories, which stop growing at
    ``writes.RECORDS_MAX`` records. Hosts are ahead of the relay, as they are in reality: what
    ``getRepo`` answers may be newer than the last frame that was sent.

    With ``record``, everything that is made is also written there, in the form of ``network``;
    frames at once, the rest at the end of the context. The folder is made and must be empty.

    Args:
        seed: the same arguments give the same bytes.
        accounts: how many, or one for each ``OPS_PER_ACCOUNT`` ops.
        ops: at least this many record operations; None never ends.
        faults: names of ``faults.NETWORK``, each every so many commits.
        record: a folder to keep it in.
        window_bytes: of frames held in memory.
        mix: per cent of ops by kind, as ``writes.MIX`` has them.

    Raises:
        SettingsError: the folder is not empty, or too few accounts.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        accounts: int | None = None,
        ops: int | None = None,
        faults: Mapping[str, int] | None = None,
        record: Path | None = None,
        window_bytes: int = WINDOW_BYTES,
        mix: Mapping[str, float] = MIX,
    ) -> None:
        default = ACCOUNTS_ENDLESS if ops is None else max(24, ops // OPS_PER_ACCOUNT)
        count = accounts if accounts is not None else default
        if count < ACCOUNTS_MIN:
            raise SettingsError(f"a network needs {ACCOUNTS_MIN} accounts, not {count}")
        self._lock = threading.RLock()
        self._seed = seed
        self._recording = None if record is None else _Recording(record)
        self._log = _Made(self, window_bytes)
        self._traffic = Traffic(self, seed, count, ops, faults or {}, mix)
        self._steps = self._traffic.steps()
        self._accounts = {account.did: account for account in self._traffic.accounts}
        super().__init__(
            self._log,
            documents={did: account.document() for did, account in self._accounts.items()},
            handles={a.handle: did for did, a in self._accounts.items() if a.resolves},
            labels={
                did: MemoryFrames(limit_bytes=window_bytes)
                for did, account in self._accounts.items()
                if account.label_key is not None
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._recording is not None:
            with self._lock:
                self._recording.close(self, self.counts)

    @property
    def counts(self) -> dict[str, int]:
        """What was made so far; a fault's name counts the commits that have it."""
        with self._lock:
            made = self._traffic
            counts = {"seed": self._seed, "accounts": len(self._accounts), "frames": made.frames}
            counts |= {"commits": made.commits, "ops": made.ops, "labels": made.labels}
            return counts | {"lastSeq": made.seq} | dict(made.damage.counts)

    def advance(self) -> bool:
        """Make the next few frames; False once there are no more."""
        with self._lock:
            return next(self._steps, self) is not self

    # -- what the servers ask for -------------------------------------------------------------

    def listed(self, host: str | None = None) -> list[Document]:
        """The ``listRepos`` entries of now, of one PDS or of all."""
        with self._lock:
            return [
                account.entry()
                for account in self._traffic.arrived
                if account.status != "deleted" and host in (None, account.host)
            ]

    def repo(self, did: str) -> Document | None:
        """The ``listRepos`` entry of a DID."""
        with self._lock:
            account = self._accounts.get(did)
            there = account is not None and account.repo.head and account.status != "deleted"
            return account.entry() if account is not None and there else None

    def export(self, did: str) -> bytes | None:
        """The repository's CAR as it is now."""
        with self._lock:
            account = self._accounts.get(did)
            there = account is not None and account.repo.head and account.active
            return account.repo.export() if account is not None and there else None

    def car_error(self, did: str) -> tuple[int, str] | None:
        """Why ``getRepo`` has no CAR of an account that there is."""
        with self._lock:
            account = self._accounts.get(did)
            if account is None or account.active:
                return None
            return 400, orjson.dumps(account.export_error()).decode()

    # -- what the traffic hands over ----------------------------------------------------------

    def frame(self, frame: bytes) -> None:
        """Take the relay's next message."""
        self._log.append(frame)
        if self._recording is not None:
            self._recording.frame("frames.bin", frame)

    def labels_frame(self, did: str, frame: bytes) -> None:
        """Take a labeler's next message."""
        self.labels[did].append(frame)
        if self._recording is not None:
            self._recording.frame(f"labels/{file_name(did)}.bin", frame)

    def identity(self, account: Account, old_handle: str) -> None:
        """An account's document changed."""
        self.documents[account.did] = account.document()
        if account.resolves:
            self.handles.pop(old_handle, None)
            self.handles[account.handle] = account.did


class _Made(MemoryFrames):
    """The relay's log of a network that is still being made."""

    def __init__(self, network: Synthetic, limit_bytes: int) -> None:
        super().__init__(limit_bytes=limit_bytes, keep_frames=2 * AHEAD_FRAMES)
        self._network = network

    def __getitem__(self, index: int) -> bytes:
        with self._network._lock:
            return super().__getitem__(index)

    def after(self, cursor: int) -> int:
        """Index of the first frame whose seq is greater than ``cursor``."""
        with self._network._lock:
            return super().after(cursor)

    def more(self, index: int) -> bool:
        """Make what that subscriber needs, and a little more until ``AHEAD_FRAMES`` wait."""
        for _ in range(2):  # one for the frame that is sent, one to get ahead
            if len(self) <= index + AHEAD_FRAMES:
                self._network.advance()
        while len(self) <= index and self._network.advance():
            pass
        return len(self) > index


class _Recording:
    """A folder that is being written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SettingsError(f"{folder} is not empty")
        self._folder = folder
        for name in ("cars", "labels"):
            (folder / name).mkdir()
        self._stack = ExitStack()
        self._files = {"frames.bin": self._open("frames.bin")}

    def _open(self, name: str) -> BinaryIO:
        file = (self._folder / name).open("wb", buffering=1 << 20)
        return self._stack.enter_context(file)

    def frame(self, name: str, frame: bytes) -> None:
        if name not in self._files:
            self._files[name] = self._open(name)
        self._files[name].write(len(frame).to_bytes(4, "big") + frame)

    def close(self, network: Network, counts: dict[str, int]) -> None:
        self._stack.close()
        for did in network.documents:
            export, error = network.export(did), network.car_error(did)
            path = self._folder / "cars" / file_name(did)
            if isinstance(export, bytes):
                path.with_suffix(".car").write_bytes(export)
            elif error is not None:
                answer = {"status": error[0], "body": error[1]}
                path.with_suffix(".error.json").write_bytes(orjson.dumps(answer))
        identities = {"plc": network.documents, "handles": network.handles}
        for name, value in (("listRepos", network.listed()), ("identities", identities)):
            (self._folder / f"{name}.json").write_bytes(orjson.dumps(value))
        meta = orjson.dumps(counts, option=orjson.OPT_INDENT_2)
        (self._folder / "meta.json").write_bytes(meta)


def generate(
    folder: Path,
    *,
    seed: int = 1,
    accounts: int | None = None,
    ops: int = 3000,
    faults: Mapping[str, int] | None = None,
    mix: Mapping[str, float] = MIX,
) -> dict[str, int]:
    """Write a whole network into a folder, at full speed; counts of what was written.

    Arguments and errors are those of ``Synthetic``, which is recorded. Frames are streamed to
    disk, repositories are kept in memory.
    """
    with Synthetic(
        seed, accounts=accounts, ops=ops, faults=faults, record=folder, window_bytes=0, mix=mix
    ) as network:
        while network.advance():
            pass
        return network.counts
