"""Finds MAC addresses and ports that a guest wants but another domain of its host has.

Documents are compared with each other when they are loaded; this is about what domains *have*:
derived addresses, those of domains that are not ours, and those that a running guest keeps until
its cold boot, whatever its document says by now.
"""

from collections.abc import Container, Iterable
from dataclasses import replace

from controller.desired.effective import EffectiveGuest
from controller.observed.addresses import AddressUse, is_mac, port_of
from controller.observed.domain import DomainConfig, DomainView, NicConfig
from controller.observed.guest import Observed
from controller.planning.compare.changes import nic_path
from controller.planning.host.trouble import Trouble
from controller.planning.wanted.domain import wanted_nics

LOOK_AGAIN = 15.0
"""Seconds until the next look: another domain may release an address without an event of this
guest."""


def wanted_addresses(
    guest: EffectiveGuest, domain: DomainView | None, seed: str
) -> tuple[str, ...]:
    """Every address (MAC, forwarded port) that the guest wants."""
    return tuple(one for nic in wanted_nics(guest, domain, seed) for one in addresses_of(nic))


def addresses_of(nic: NicConfig) -> tuple[str, ...]:
    ports = (port_of(forward) for forward in nic.forwards)
    return (nic.mac.lower(), *(port for port in ports if port))


def newcomer(
    nics: Iterable[NicConfig], observed: Observed, mine: Container[str] = ()
) -> tuple[NicConfig, AddressUse] | None:
    """The first interface that cannot be added to a guest, and who has its address. ``mine`` are
    the addresses that the guest already has.

    A port that only the definition of a foreign domain has, which is off, is free.
    """
    for nic, use in _uses(nics, observed):
        if use.address in mine:
            continue
        if use.running or use.is_mac or use.ours:
            return nic, use
    return None


def cannot_start(config: DomainConfig, observed: Observed) -> tuple[NicConfig, AddressUse] | None:
    """The first interface that keeps a domain from starting, because a running domain has its
    address.

    The same MAC address in QEMU's own user network is no conflict.
    """
    for nic, use in _uses(config.nics, observed):
        if use.running and not (use.is_mac and nic.kind == "user"):
            return nic, use
    return None


def _uses(nics: Iterable[NicConfig], observed: Observed) -> Iterable[tuple[NicConfig, AddressUse]]:
    for nic in nics if observed.address_uses else ():
        for address in addresses_of(nic):
            for use in observed.address_uses:
                if use.address == address:
                    yield nic, use


def told(nic: NicConfig, use: AddressUse) -> str:
    """The message: who has the address, and what to do."""
    what = f"MAC address {use.address}" if use.is_mac else f"port {use.address} of the host"
    who = f"guest {use.holder}" if use.ours else f"domain {use.holder} (not Guestkeeper's)"
    where = nic_path(nic.alias)
    free = "write another mac" if is_mac(use.address) else "write another port"
    if use.ours and use.running and not use.defined:
        return (
            f"{where}: {who} runs with {what} until its next cold boot: guestkeeper restart"
            f" {use.holder}; or {free}"
        )
    if use.ours:
        return f"{where}: {who} has {what}: {free}"
    off = "; or shut that domain down" if use.running else ""
    return f"{where}: {who} has {what}: {free}{off}"


def address_trouble(nic: NicConfig, use: AddressUse) -> Trouble:
    """Why a guest with that interface cannot be started, as a ``Trouble``."""
    return Trouble("MacTaken" if use.is_mac else "PortTaken", told(nic, use))


def without_clashes(
    domain: DomainView, wanted: DomainConfig, observed: Observed
) -> tuple[DomainConfig, tuple[tuple[NicConfig, AddressUse], ...]]:
    """``wanted``, but with interfaces whose address is taken left as they are; and those, each with
    the use of its address. Addresses that the guest already has are no clash.
    """
    if not observed.address_uses:
        return wanted, ()
    has = {nic.alias: nic for nic in domain.config.nics}
    mine = {one for nic in _all(domain) for one in addresses_of(nic)}
    nics, refused = [], []
    for nic in wanted.nics:
        found = newcomer((nic,), observed, mine)
        if found is None:
            nics.append(nic)
            continue
        refused.append(found)
        if nic.alias in has:
            nics.append(has[nic.alias])
    return replace(wanted, nics=tuple(nics)), tuple(refused)


def _all(domain: DomainView) -> tuple[NicConfig, ...]:
    return (*domain.config.nics, *(domain.live.nics if domain.live is not None else ()))
