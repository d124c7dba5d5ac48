"""Who takes which shards, decided by everyone alike from the same list of members.

Pure: the list comes from Postgres, and every member that reads the same list
comes to the same answer, so nobody has to be asked.
"""

from __future__ import annotations

from collections.abc import Iterable


def share(name: str, members: Iterable[str], shard_count: int) -> list[int]:
    """The shards of one member: every n-th, from its place among the sorted names.

    Empty where there are more members than shards, and for who is not a member.
    """
    names = sorted(set(members))
    if name not in names:
        return []
    return list(range(names.index(name), shard_count, len(names)))
