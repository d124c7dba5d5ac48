"""What labelers of a simulated network say: signed labels, and taking them back.

The form is that of ``com.atproto.label.defs#label`` version 1: the signature, by the key
``#atproto_label`` of the labeler's DID document, is over the label without ``sig``.
"""

from __future__ import annotations

import random
from typing import Any

from libipld import encode_cid

from engine.simulate.keys import Key
from engine.simulate.records import Post
from engine.simulate.repository import Plain, encode, encode_plain

VALUES = ("spam", "porn", "sexual", "graphic-media", "bot", "!hide", "!warn")

STANDING = 500
"""Labels that may still be taken back; bounds memory."""

Label = dict[str, Any]


class Labeler:
    """One labeler's log of labels."""

    def __init__(self, did: str, key: Key, dice: random.Random) -> None:
        self.did = did
        self.seq = 0
        self._key = key
        self._dice = dice
        self._standing: list[Label] = []

    def frame(self, targets: list[Post], now: str) -> bytes:
        """The next ``subscribeLabels`` message: some labels, not all of them new."""
        return self.message([self._label(target, now) for target in targets])

    def message(self, labels: list[Label]) -> bytes:
        """The next message with these labels, as they are."""
        self.seq += 1
        body = {"seq": self.seq, "labels": labels}
        return encode({"op": 1, "t": "#labels"}) + encode_plain(body)

    def rotate(self, key: Key) -> None:
        """Sign with another key from now on; the document is the caller's to change."""
        self._key = key

    def document(self, endpoint: str = "https://labeler.invalid") -> dict[str, Any]:
        """A DID document of this labeler as it is now."""
        return {
            "id": self.did,
            "verificationMethod": [
                {
                    "id": f"{self.did}#atproto_label",
                    "type": "Multikey",
                    "controller": self.did,
                    "publicKeyMultibase": self._key.multibase,
                }
            ],
            "service": [
                {"id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": endpoint}
            ],
        }

    def _label(self, target: Post, now: str) -> Label:
        if self._standing and self._dice.random() < 0.2:
            place = self._dice.randrange(len(self._standing))
            return self.signed({**self._standing.pop(place), "neg": True, "cts": now})
        label: Label = {"ver": 1, "src": self.did, "val": self._dice.choice(VALUES), "cts": now}
        match self._dice.randrange(4):
            case 0:
                label["uri"] = target.did
            case 1:
                label["uri"] = target.uri
            case _:
                label |= {"uri": target.uri, "cid": encode_cid(target.cid)}
        if self._dice.random() < 0.15:
            label["exp"] = self._dice.choice(["2025-06-01", "2100-01-01"]) + "T00:00:00.000Z"
        if len(self._standing) < STANDING:
            self._standing.append(label)
        return self.signed(label)

    def signed(self, label: Label) -> Label:
        """A label with its signature; what it had before is left out."""
        label = {name: value for name, value in label.items() if name != "sig"}
        return {**label, "sig": Plain(self._key.sign(encode(label)))}
