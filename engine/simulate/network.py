"""What a relay, its hosts, labelers and the identity services say; and such a network on disk.

A folder holds

* ``frames.bin``: every ``com.atproto.sync.subscribeRepos`` message in order, each a
  4-byte big-endian length and the raw websocket message;
* ``labels/DID.bin``: the same for each labeler's ``com.atproto.label.subscribeLabels``;
* ``listRepos.json``: the array of all ``listRepos`` entries;
* ``cars/DID.car`` or ``cars/DID.error.json``: what ``getRepo`` answered for each DID
  (``:`` written ``_``, here and above); an error is ``{"status": HTTP status, "body": text}``;
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

    def seq_at(self, index: int) -> int:
        """Highest seq of the log up to and with this frame; 0 before the first."""

    @property
    def first(self) -> int:
        """Index of the oldest frame that is still held."""

    @property
    def last_seq(self) -> int:
        """Highest seq in the log, 0 if there is none."""

    def append(self, frame: bytes) -> None:
        """Add one frame to the end of the log."""

    def more(self, index: int) -> bool:
        """Make what can be made for a subscriber at ``index``; whether that frame is there."""


class _Seqs:
    """Running maximum of the seqs, so that frames without one stay beside their neighbours."""

    def __init__(self, frames: Iterable[bytes]) -> None:
        self._seqs = array("q")
        self.first = 0
        self.last_seq = 0
        self._forgotten = 0  # the seq before the first that is held
        for frame in frames:
            self.add(frame)

    def add(self, frame: bytes) -> None:
        seq = frame_seq(frame)
        if seq is not None and self.last_seq < seq < 1 << 63:
            self.last_seq = seq
        self._seqs.append(self.last_seq)

    def after(self, cursor: int) -> int:
        return self.first + bisect_right(self._seqs, cursor)

    def at(self, index: int) -> int:
        place = min(index, self.first + len(self._seqs) - 1) - self.first
        return self._seqs[place] if place >= 0 else self._forgotten

    def forget(self, count: int) -> None:
        if count > 0:
            self._forgotten = self._seqs[count - 1]
            del self._seqs[:count]
            self.first += count


class _Log:
    """What logs share: their numbers."""

    _seqs: _Seqs

    def after(self, cursor: int) -> int:
        """Index of the first frame whose seq is greater than ``cursor``."""
        return self._seqs.after(cursor)

    def seq_at(self, index: int) -> int:
        """Highest seq up to and with this frame, or before the oldest that is held."""
        return self._seqs.at(index)

    @property
    def first(self) -> int:
        """Index of the oldest frame that is still held."""
        return self._seqs.first

    @property
    def last_seq(self) -> int:
        """Highest seq in the log, 0 if there is none."""
        return self._seqs.last_seq

    def __len__(self) -> int:
        raise NotImplementedError

    def more(self, index: int) -> bool:
        """Whether that frame is there; nothing is made."""
        return index < len(self)


class MemoryFrames(_Log):
    """Frames held in memory; beyond ``limit_bytes`` the older half is forgotten.

    The last ``keep_frames`` stay in any case.
    """

    def __init__(
        self,
        frames: Sequence[bytes] = (),
        limit_bytes: int | None = None,
        keep_frames: int = 0,
    ) -> None:
        self._frames = list(frames)
        self._seqs = _Seqs(self._frames)
        self._limit_bytes = limit_bytes
        self._keep_frames = keep_frames
        self._bytes = sum(len(frame) for frame in self._frames)

    def __len__(self) -> int:
        return self.first + len(self._frames)

    def __getitem__(self, index: int) -> bytes:
        return self._frames[index - self.first]

    def append(self, frame: bytes) -> None:
        """Add one frame to the end of the log."""
        self._frames.append(frame)
        self._seqs.add(frame)
        self._bytes += len(frame)
        if self._limit_bytes is not None and self._bytes > self._limit_bytes:
            count = min((len(self._frames) + 1) // 2, len(self._frames) - self._keep_frames)
            count = max(count, 0)
            self._bytes -= sum(len(frame) for frame in self._frames[:count])
            del self._frames[:count]
            self._seqs.forget(count)


class FileFrames(_Log):
    """Frames of a file, mapped and not read: memory is two integers a frame."""

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

    def append(self, frame: bytes) -> None:
        """Add one frame to the end of the log, in memory only."""
        self._added.append(frame)
        self._seqs.add(frame)


@dataclass
class Network:
    """Everything the simulated servers answer from. Tests may change it while it is served.

    One network may be served several times at once, as several relays have it.
    """

    frames: Frames = field(default_factory=MemoryFrames)
    repos: list[Document] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)  # DID -> DID document
    handles: dict[str, str] = field(default_factory=dict)  # lower-case handle -> DID
    labels: dict[str, Frames] = field(default_factory=dict)  # a labeler's DID -> its log
    cars: Path | None = None
    operations: list[Document] | None = None  # the directory's log; None: one that fits documents

    def listed(self, host: str | None = None) -> list[Document]:
        """All ``listRepos`` entries, or those of one PDS, as DID documents name it."""
        repos = self.repos
        if host is None:
            return repos
        return [repo for repo in repos if self.host_of(str(repo.get("did"))) == host]

    def repo(self, did: str) -> Document | None:
        """The ``listRepos`` entry of a DID."""
        return next((repo for repo in self.repos if repo.get("did") == did), None)

    def host_of(self, did: str) -> str | None:
        """The PDS in an account's document."""
        return endpoint(self.documents.get(did), "#atproto_pds")

    def hosts(self) -> list[str]:
        """Every PDS that documents name."""
        found = (endpoint(document, "#atproto_pds") for document in self.documents.values())
        return sorted({host for host in found if host is not None})

    def export(self, did: str) -> Path | bytes | None:
        """The repository's CAR, or where it lies; None if there is none."""
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
        path = self.cars / (file_name(did) + suffix)
        return path if path.is_file() else None


def endpoint(document: Document | None, name: str) -> str | None:
    """The endpoint of a DID document's service, by the end of its id."""
    services = (document or {}).get("service")
    for service in services if isinstance(services, list) else []:
        if isinstance(service, dict) and str(service.get("id", "")).endswith(name):
            found = service.get("serviceEndpoint")
            return found if isinstance(found, str) else None
    return None


def file_name(did: str) -> str:
    """A DID as part of a file's name."""
    return did.replace(":", "_")


def load(path: Path) -> Network:
    """Read a recorded network's folder.

    Only ``frames.bin`` is required: a folder without the rest is a relay whose
    repositories and identities are all unknown.

    Raises:
        SettingsError: the folder is no recorded network, or is damaged.
    """
    identities = _json(path / "identities.json", {})
    handles = identities.get("handles", {})
    documents = identities.get("plc", {})
    logs = {did: path / "labels" / f"{file_name(did)}.bin" for did in documents}
    return Network(
        frames=FileFrames(path / "frames.bin"),
        repos=_json(path / "listRepos.json", []),
        documents=documents,
        labels={did: FileFrames(log) for did, log in logs.items() if log.exists()},
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
