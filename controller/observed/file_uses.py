"""Which files of a host its domains use, as far as that can be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileUses:
    """By path, the names of the domains that name it or stand on it.

    ``loose`` are those of ``users`` of which nobody knows what they stand on, or are a link to:
    disks in no pool, in a pool that is stopped, or not to be found.

    ``remembered`` is what guests' records name, with what that stands on, be it used by a domain
    or not: what is in neither is unused.
    """

    users: Mapping[str, frozenset[str]]
    loose: Mapping[str, frozenset[str]] = field(default_factory=dict)
    remembered: frozenset[str] = frozenset()
