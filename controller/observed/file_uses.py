"""Which files of a host its domains use, as far as that is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileUses:
    """``users``: by path, the domains that name the file, or have it in a backing chain.

    ``loose`` are the entries of ``users`` whose backing chain, or target of a link, is not known:
    disks in no pool, in a stopped pool, or not found.

    ``remembered`` are the files that guests' records name, with their backing chains, whether a
    domain uses them or not: a file in neither is unused.
    """

    users: Mapping[str, frozenset[str]]
    loose: Mapping[str, frozenset[str]] = field(default_factory=dict)
    remembered: frozenset[str] = frozenset()
