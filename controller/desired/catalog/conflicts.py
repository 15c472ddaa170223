"""Find guests that conflict: the same port of a host, or the same MAC address.

Conflicts are found before anything is started, because QEMU's own message ("could not set up host
forwarding rule") names neither the other guest nor the line. A guest that already has the port
keeps it, so that a new document can never take it away from a guest that serves on it; of two new
guests the first, by file and line, gets it.

This compares documents, so problems name their lines. The addresses that domains really have,
whatever their documents say, are judged by ``planning/host/addresses.py``.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from controller.desired.effective import EffectiveGuest
from controller.desired.text.parse import LoadedDocument
from controller.desired.text.problems import Problem

_ANY = "0.0.0.0"  # noqa: S104 - compared with, never listened on
_Slot = tuple[str | int, ...]
_Taken = dict[_Slot, list[tuple["_Claim", EffectiveGuest]]]


class _Claim(NamedTuple):
    slot: _Slot  # what is looked up: host, protocol, port; or the MAC address
    address: str  # of a forward; empty for a MAC address
    interface: int
    forward: int

    def meets(self, other: "_Claim") -> bool:
        return self.address == other.address or _ANY in (self.address, other.address)

    @property
    def field(self) -> str:
        where = f"spec.interfaces[{self.interface}]"
        return f"{where}.user.forwards[{self.forward}]" if self.address else f"{where}.mac"

    @property
    def words(self) -> str:
        if not self.address:
            return str(self.slot[0])
        host, protocol, port = self.slot
        return f"{self.address}:{port}/{protocol} of host {host}"


def _claims(guest: EffectiveGuest) -> Iterator[_Claim]:
    for index, interface in enumerate(guest.spec.interfaces):
        if interface.mac is not None:
            yield _Claim((interface.mac,), "", index, 0)
        if interface.user is not None:
            for number, forward in enumerate(interface.user.forwards):
                slot = (guest.spec.host, forward.protocol, forward.host_port)
                yield _Claim(slot, forward.address, index, number)


def find_clashes(
    candidates: Mapping[str, tuple[EffectiveGuest, LoadedDocument]],
    current: Mapping[str, EffectiveGuest],
) -> dict[str, tuple[Problem, ...]]:
    """The problems of guests whose documents ask for what another guest has.

    ``candidates`` are guests as their documents ask, ``current`` as they last were good. A guest
    that is refused stays as it was; what it keeps counts against the others as well.
    """
    refused: dict[str, tuple[Problem, ...]] = {}
    while True:
        found = _round(candidates, current, refused)
        if not found:
            return refused
        refused.update(found)


def _round(
    candidates: Mapping[str, tuple[EffectiveGuest, LoadedDocument]],
    current: Mapping[str, EffectiveGuest],
    refused: Mapping[str, tuple[Problem, ...]],
) -> dict[str, tuple[Problem, ...]]:
    taken: _Taken = {}
    newcomers: list[tuple[str, int, str, list[_Claim]]] = []
    for name in sorted(current.keys() | candidates.keys()):
        held = current.get(name)
        if name not in candidates or name in refused or candidates[name][0] is held:
            if held is not None:
                for claim in _claims(held):
                    taken.setdefault(claim.slot, []).append((claim, held))
            continue
        guest, document = candidates[name]
        before = {(c.slot, c.address) for c in _claims(held)} if held is not None else set()
        wanted = list(_claims(guest))
        for claim in wanted:
            if (claim.slot, claim.address) in before:
                taken.setdefault(claim.slot, []).append((claim, guest))
        if wanted:
            newcomers.append((document.origin.file, document.origin.line, name, wanted))
    found: dict[str, tuple[Problem, ...]] = {}
    for _, _, name, wanted in sorted(newcomers, key=lambda item: item[:3]):
        guest, document = candidates[name]
        problems = _judge(name, wanted, taken, document)
        if problems:
            found[name] = problems
        else:
            for claim in wanted:
                taken.setdefault(claim.slot, []).append((claim, guest))
    return found


def _judge(
    name: str, wanted: list[_Claim], taken: _Taken, document: LoadedDocument
) -> tuple[Problem, ...]:
    problems = []
    for index, claim in enumerate(wanted):
        if any(claim.slot == c.slot and claim.meets(c) for c in wanted[:index]):
            message = f"{claim.words} is given twice in this guest; keep one"
            problems.append(document.problem(claim.field, message))
            continue
        for other, owner in taken.get(claim.slot, ()):
            if owner.name != name and claim.meets(other):
                what = "port" if claim.address else "MAC address"
                message = (
                    f"{claim.words} is taken by Guest {owner.name} ({owner.origin});"
                    f" write another {what}"
                )
                problems.append(document.problem(claim.field, message))
                break
    return tuple(problems)
