"""Which processes a machine runs: pure, settings and cores in, a list out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from engine import settings as settings_module
from engine.errors import SettingsError
from engine.settings import BUILT, ROLES, Settings

ALONE = frozenset({"firehose", "labels", "identity"})
"""Roles of which a deployment has one process: who moves cursors, who writes labels or handles."""


class ProcessSpec(Struct, frozen=True):
    """One process: ``headrace run ROLE --slot SLOT --host HOST --core CORE``."""

    role: str
    slot: int  # which of the role's processes on this host, from 0
    core: int | None  # pinned to it; None leaves it to the kernel
    host: str

    @property
    def name(self) -> str:
        """In this host's logs: the role, and the slot where there can be several."""
        return f"{self.role}/{self.slot}" if self._of_several else self.role

    @property
    def shared_name(self) -> str:
        """In both stores and in the status: with the host where other hosts may have such a one.

        A role that is alone in its deployment is not named by the host that it happens to be on.
        """
        return f"{self.name}@{self.host}" if self._of_several else self.name

    @property
    def _of_several(self) -> bool:
        return self.role not in ALONE

    @property
    def arguments(self) -> list[str]:
        """What follows ``headrace`` on the command line."""
        words = ["run", self.role, "--slot", str(self.slot), "--host", self.host]
        return words if self.core is None else [*words, "--core", str(self.core)]


def check_role(role: str) -> str:
    """The role itself.

    Raises:
        SettingsError: there is no such role, or not in this version.
    """
    try:
        return settings_module.check_role(role)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def has_labelers(settings: Settings) -> bool:
    """Whether any labeler is, or can be, known."""
    return bool(settings.labels.labelers) or settings.labels.discover


def plan(
    settings: Settings,
    cores: Sequence[int],
    roles: Collection[str] | None = None,
    *,
    host: str,
) -> list[ProcessSpec]:
    """The processes of ``headrace up`` on these cores.

    Indexers take the cores from the front, one each, and begin again where there
    are more of them; the other roles, which mostly wait, take them from the back.
    More indexers than shards would have nothing to do, so the shards are the limit.

    Args:
        settings: those of the deployment.
        cores: numbers of the cores to pin to; none: nothing is pinned.
        roles: only these; by default those of the settings, which by default are all; without
            `labels` then, where no labeler is known or looked for.
        host: this machine's name, which no other of the deployment has.

    Raises:
        SettingsError: a role that does not exist.
    """
    # What has nothing to do is not started, unless the caller asks for it by name.
    useful = [
        role
        for role in settings.roles or BUILT
        if role != "labels" or settings.roles == ("labels",) or has_labelers(settings)
    ]
    chosen = {check_role(role) for role in roles or useful}
    wanted = [role for role in ROLES if role in chosen]
    indexers = min(settings.indexer.processes or max(1, len(cores)), settings.shard_count)
    specs: list[ProcessSpec] = []
    from_back = 0
    for role in wanted:
        if role == "indexer":
            for slot in range(indexers):
                core = cores[slot % len(cores)] if cores else None
                specs.append(ProcessSpec(role, slot, core, host))
        else:
            core = cores[-1 - from_back % len(cores)] if cores else None
            from_back += 1
            specs.append(ProcessSpec(role, 0, core, host))
    return specs
