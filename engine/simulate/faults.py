"""What can be asked to go wrong, by name, and how often.

Faults of the network are in its frames: every n-th commit is announced damaged, while the
repository itself stays right, so that ``getRepo`` has the truth for whoever notices. Faults of a
relay are in how it is served (``feed``). All are counted, and come at the same places each time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from engine.errors import SettingsError
from engine.simulate.repository import Draft, Plain

FAR_MICROS = 4_102_444_800 * 1_000_000  # 2100-01-01
"""What a rev from the future counts from."""

NETWORK = {
    "bad-signature": "the commit is signed by nobody",
    "broken-chain": "since and prevData are those of an earlier commit",
    "missing-block": "the root of the tree or a record is not in the CAR",
    "wrong-cid": "a block is not what its CID says",
    "far-rev": "the rev, well signed, lies in the year 2100",
}
"""Each every n-th commit; where two meet, or one cannot be, it waits for the next commit."""

RELAY = {
    "drop": "every n-th frame is never sent",
    "disconnect": "the connection is cut after every n frames sent",
    "seq-restart": "after every n frames the relay forgets its numbers and begins again",
    "lag": "frames are sent so many seconds late",
}


def parse(texts: Sequence[str]) -> tuple[dict[str, int], dict[str, float]]:
    """``NAME=EVERY`` as faults of the network and of the relay.

    Raises:
        SettingsError: an unknown name, or no positive number.
    """
    network: dict[str, int] = {}
    relay: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in NETWORK and name not in RELAY:
            known = ", ".join([*NETWORK, *RELAY])
            raise SettingsError(f"{name!r} is no fault; there are {known}")
        try:
            number = float(value) if name == "lag" else int(value)
        except ValueError:
            number = 0
        if not 0 < number < 1 << 53:
            raise SettingsError(f"--fault {text}: {name} needs a positive number")
        if name in NETWORK:
            network[name] = int(number)
        else:
            relay[name] = number
    return network, relay


class Damage:
    """Damages every n-th commit, one fault a commit; ``counts`` says how many of each."""

    def __init__(self, every: Mapping[str, int], dice: random.Random) -> None:
        self.every = dict(every)
        self.counts: Counter[str] = Counter()
        self._dice = dice
        self._commits = 0
        self._due: list[str] = []

    def __call__(self, draft: Draft) -> None:
        """Apply the fault that is due, if one is and the commit allows it."""
        self._commits += 1
        self._due += [name for name, every in self.every.items() if self._commits % every == 0]
        for place, name in enumerate(self._due):
            if self._apply(name, draft):
                self.counts[name] += 1
                del self._due[place]
                return

    def _apply(self, name: str, draft: Draft) -> bool:
        match name:
            case "bad-signature":
                sig = bytearray(draft.fields["sig"])
                sig[self._dice.randrange(32)] ^= 1 << self._dice.randrange(8)
                draft.fields["sig"] = Plain(sig)
            case "broken-chain":
                if draft.earlier is None:
                    return False
                draft.body["since"], draft.body["prevData"] = draft.earlier
            case "missing-block":
                needed = [draft.fields["data"], *draft.records]
                del draft.blocks[self._dice.choice(needed)]
            case "wrong-cid":
                cid = self._dice.choice(list(draft.blocks))
                block = bytearray(draft.blocks[cid])
                block[self._dice.randrange(len(block))] ^= 1 << self._dice.randrange(8)
                draft.blocks[cid] = bytes(block)
            case "far-rev":
                draft.announce_rev(FAR_MICROS + self._commits)
        return True
