"""A recorded network on disk: what a relay, its hosts and the identity services said.

A folder holds

* ``frames.bin``: every ``com.atproto.sync.subscribeRepos`` message in order, each a
  4-byte big-endian length and the raw websocket message;
* ``listRepos.json``: the array of all ``listRepos`` entries;
* ``cars/DID.car`` or ``cars/DID.error.json``: what ``getRepo`` answered for each DID
  (``:`` written ``_``); an error is ``{"status": HTTP status, "body": text}``;
* ``identities.json``: ``plc`` (DID -> DID document, did:web documents too) and
  ``handles`` (handle -> DID; a handle that is absent does not resolve).

Nothing here is trusted to be valid: bad frames are part of what is replayed.
"""

from __future__ import annotations

import mmap
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import libipld
import orjson

from engine.errors import SettingsError

Document = dict[str, Any]


def frame_seq(frame: bytes) -> int | None:
    """The seq in a frame's body; None if the frame has none or cannot be read."""
    try:
        parts = libipld.decode_dag_cbor_multi(frame)
    except Exception:  # libipld has no common base class, and garbage is legal here
        return None
    body = parts[1] if len(parts) > 1 else None
    seq = body.get("seq") if isinstance(body, dict) else None
    return seq if type(seq) is int else None


class Frames(Protocol):
    """The log of a relay, in order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...

    def after(self, cursor: int) -> int:
        """Index of the first frame to send to a subscriber that holds ``cursor``."""

    @property
    def last_seq(self) -> int:
        """Highest seq in the log, 0 if there is none."""

    def append(self, frame: bytes) -> None:
        """Add one frame to the end of the log."""


class _Seqs:
    """Running maximum of the seqs, so that frames without one stay beside their neighbours."""

    def __init__(self, frames: Iterable[bytes]) -> None:
        self._seqs = array("q")
        self.last_seq = 0
        for frame in frames:
            self.add(frame)

    def add(self, frame: bytes) -> None:
        seq = frame_seq(frame)
        if seq is not None and self.last_seq < seq < 1 << 63:
            self.last_seq = seq
        self._seqs.append(self.last_seq)

    def after(self, cursor: int) -> int:
        return bisect_right(self._seqs, cursor)


class MemoryFrames:
    """Frames held in memory: for tests that write their own log."""

    def __init__(self, frames: Sequence[bytes] = ()) -> None:
        self._frames = list(frames)
        self._seqs = _Seqs(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> bytes:
        return self._frames[index]

    def after(self, cursor: int) -> int:
        """Index of the first frame whose seq is greater than ``cursor``."""
        return self._seqs.after(cursor)

    @property
    def last_seq(self) -> int:
        """Highest seq in the log, 0 if there is none."""
        return self._seqs.last_seq

    def append(self, frame: bytes) -> None:
        """Add one frame to the end of the log."""
        self._frames.append(frame)
        self._seqs.add(frame)


class FileFrames:
    """Frames of ``frames.bin``, mapped and not read: memory is two integers a frame."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                self._map: mmap.mmap | bytes = (
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
                )
        except OSError as error:
            raise SettingsError(f"no recorded network here: {error}") from error
        self._starts = array("Q")
        self._added: list[bytes] = []
        position = 0
        while position + 4 <= size:
            length = int.from_bytes(self._map[position : position + 4], "big")
            if position + 4 + length > size:
                raise SettingsError(f"{path}: cut off in the frame at byte {position}")
            self._starts.append(position + 4)
            position += 4 + length
        self._starts.append(position + 4)  # where the frame after the last would start
        self._recorded = len(self._starts) - 1
        self._seqs = _Seqs(self[index] for index in range(self._recorded))

    def __len__(self) -> int:
        return self._recorded + len(self._added)

    def __getitem__(self, index: int) -> bytes:
        if index >= self._recorded:
            return self._added[index - self._recorded]
        return self._map[self._starts[index] : self._starts[index + 1] - 4]

    def after(self, cursor: int) -> int:
        """Index of the first frame whose seq is greater than ``cursor``."""
        return self._seqs.after(cursor)

    @property
    def last_seq(self) -> int:
        """Highest seq in the log, 0 if there is none."""
        return self._seqs.last_seq

    def append(self, frame: bytes) -> None:
        """Add one frame to the end of the log, in memory only."""
        self._added.append(frame)
        self._seqs.add(frame)


@dataclass
class Network:
    """Everything the simulated servers answer from. Tests may change it while it is served."""

    frames: Frames = field(default_factory=MemoryFrames)
    repos: list[Document] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)  # DID -> DID document
    handles: dict[str, str] = field(default_factory=dict)  # lower-case handle -> DID
    cars: Path | None = None

    def repo(self, did: str) -> Document | None:
        """The ``listRepos`` entry of a DID."""
        return next((repo for repo in self.repos if repo.get("did") == did), None)

    def car_path(self, did: str) -> Path | None:
        """Where the repository's CAR lies; None if it was not recorded."""
        return self._car_file(did, ".car")

    def car_error(self, did: str) -> tuple[int, str] | None:
        """The HTTP status and body that ``getRepo`` answered instead of a CAR."""
        path = self._car_file(did, ".error.json")
        if path is None:
            return None
        answer = orjson.loads(path.read_bytes())
        return int(answer["status"]), str(answer["body"])

    def _car_file(self, did: str, suffix: str) -> Path | None:
        if self.cars is None or "/" in did or "\\" in did:
            return None
        path = self.cars / (did.replace(":", "_") + suffix)
        return path if path.is_file() else None


def load(path: Path) -> Network:
    """Read a recorded network's folder.

    Only ``frames.bin`` is required: a folder without the rest is a relay whose
    repositories and identities are all unknown.

    Raises:
        SettingsError: the folder is no recorded network, or is damaged.
    """
    identities = _json(path / "identities.json", {})
    handles = identities.get("handles", {})
    return Network(
        frames=FileFrames(path / "frames.bin"),
        repos=_json(path / "listRepos.json", []),
        documents=identities.get("plc", {}),
        handles={handle.lower(): did for handle, did in handles.items()},
        cars=path / "cars",
    )


def _json(path: Path, default: Any) -> Any:
    if not path.exists():
        return default
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
