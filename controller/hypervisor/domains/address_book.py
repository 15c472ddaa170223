"""Index of which domain of a host has which address, updated each time a domain is read.

Every look at a guest searches for its addresses, so that may not go through all domains.
"""

from collections.abc import Iterable

from controller.observed.addresses import AddressUse, clash, key_of
from controller.observed.domain import DomainView


class AddressBook:
    """Domains by address. Not thread-safe: ``HostIndex`` calls it under its lock."""

    def __init__(self) -> None:
        self._holders: dict[str, set[str]] = {}  # key of an address -> domains
        self._keys: dict[str, frozenset[str]] = {}
        self.strangers: set[str] = set()
        """Domains that are foreign or not known yet, and changed since they were read: no guest's
        reconcile reads them. They stay here until they are read or gone."""

    def note(self, view: DomainView) -> None:
        """Stores the addresses of a domain that was read."""
        self.strangers.discard(view.name)
        has = _defined(view) | _running(view)
        keys = frozenset(key_of(address) for address in has)
        before = self._keys.get(view.name, frozenset())
        if keys == before:
            return
        self._keys[view.name] = keys
        for key in before - keys:
            self._holders[key].discard(view.name)
        for key in keys - before:
            self._holders.setdefault(key, set()).add(view.name)

    def forget(self, name: str) -> None:
        """Removes a domain that is gone."""
        self.strangers.discard(name)
        for key in self._keys.pop(name, ()):
            self._holders[key].discard(name)

    def holders(self, addresses: Iterable[str]) -> set[str]:
        """The names of domains that may have one of ``addresses``."""
        return {name for one in addresses for name in self._holders.get(key_of(one), ())}


def uses_of(view: DomainView, addresses: Iterable[str]) -> list[AddressUse]:
    """Those of ``addresses`` that the domain has, running or in its definition."""
    defined, running = _defined(view), _running(view)
    found = []
    for address in addresses:
        in_definition = any(clash(address, one) for one in defined)
        as_it_runs = any(clash(address, one) for one in running)
        if in_definition or as_it_runs:
            found.append(AddressUse(address, view.name, as_it_runs, in_definition, view.ours))
    return found


def _defined(view: DomainView) -> frozenset[str]:
    return view.config.addresses


def _running(view: DomainView) -> frozenset[str]:
    return view.live.addresses if view.live is not None else frozenset()
