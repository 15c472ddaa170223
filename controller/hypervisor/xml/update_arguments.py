"""Updates user interfaces, which are QEMU arguments (``<qemu:arg>``), in a definition.

Only the parts that we own are changed in an argument: forwards, MAC address, model. The rest
(``restrict``, ``net``, ``bootindex``, the slot) is the operator's, as is every other argument.
"""

import xml.etree.ElementTree as ET
from itertools import pairwise

from controller.errors import PermanentError
from controller.hypervisor.xml.root_bus import given_slots, is_pcie
from controller.observed.adopted_devices import AdoptedDevices
from controller.observed.qemu_arguments import (
    QEMU_NAMESPACE,
    SLOT,
    TEST_ARGUMENTS_NAMESPACE,
    UserNic,
    argument_lines,
    forward_of,
    slots_of,
    user_nics,
)

_QEMU_LINE = f"{{{QEMU_NAMESPACE}}}commandline"
_TEST_LINE = f"{{{TEST_ARGUMENTS_NAMESPACE}}}commandline"
_SLOTS = range(0x10, 0x1A)
"""The same slots as in a new definition (``render``)."""


def update_arguments(has: ET.Element, wanted: ET.Element) -> None:
    """Changes ``has``, so that its user interfaces of ours are those of ``wanted``.

    Raises ``PermanentError`` if no slot is free for another one.
    """
    old, new = _ours(has), _ours(wanted)
    for alias, nic in old.items():
        if alias in new:
            _take_over(nic, new[alias])
        else:
            _remove(has, nic.identity)
    for alias, nic in new.items():
        if alias not in old:
            _add(has, wanted, nic)
    _drop_empty(has)


def _ours(root: ET.Element) -> dict[str, UserNic]:
    adopted = AdoptedDevices(root)
    return {alias: nic for nic in user_nics(root) if (alias := adopted.alias_of_user(nic))}


def _take_over(nic: UserNic, new: UserNic) -> None:
    if nic.forwards != new.forwards:
        kind, *words = _words(nic.netdev)
        known = {_forward(word): word for word in words if _forward(word)}
        wanted = [word for word in _words(new.netdev) if _forward(word)]
        first = next((n for n, word in enumerate(words) if _forward(word)), len(words))
        forwards = [known.get(_forward(word), word) for word in wanted]
        rest = [word for word in words[first:] if not _forward(word)]
        _write(nic.netdev, [kind, *words[:first], *forwards, *rest])
    if nic.mac != new.mac:
        address = f"mac={new.mac}"
        words = [address if _is(word, "mac") else word for word in _words(nic.device)]
        _write(nic.device, words if address in words else [*words, address])
    if nic.model != new.model:
        _write(nic.device, [_words(new.device)[0], *_words(nic.device)[1:]])


def _words(argument: ET.Element) -> list[str]:
    """The argument split at commas; ``_write`` restores a doubled (escaped) comma as it was."""
    return argument.get("value", "").split(",")


def _is(word: str, key: str) -> bool:
    return word.partition("=")[0] == key


def _forward(word: str) -> str:
    """The forward of a ``hostfwd`` word, as documents write it; '' for other words."""
    return forward_of(word.partition("=")[2]) if _is(word, "hostfwd") else ""


def _write(argument: ET.Element, words: list[str]) -> None:
    argument.set("value", ",".join(words))


def _remove(root: ET.Element, identity: str) -> None:
    """Removes both arguments, or the one an edit left: QEMU refuses a second one of the same id."""
    ours = {"-netdev": f"id={identity}", "-device": f"netdev={identity}"}
    for line in argument_lines(root):
        for option, argument in list(pairwise(line)):
            if ours.get(option.get("value", ""), "?") in _words(argument)[1:]:
                line.remove(option)
                line.remove(argument)


def _add(root: ET.Element, wanted: ET.Element, nic: UserNic) -> None:
    _remove(root, nic.identity)
    (theirs,) = argument_lines(wanted)
    line = _line(root, theirs.tag)
    taken = slots_of(line) | (given_slots(root) if is_pcie(root) else set())
    free = next((slot for slot in _SLOTS if slot not in taken), None)
    if free is None:
        raise PermanentError(
            f"no slot is left for another user interface ({nic.identity}); remove one"
        )
    device = SLOT.sub(f"{free:#x}", nic.device.get("value", ""))
    tag = nic.netdev.tag
    for value in ("-netdev", nic.netdev.get("value", ""), "-device", device):
        ET.SubElement(line, tag, value=value)


def _drop_empty(root: ET.Element) -> None:
    for parent in (root, *root.findall("metadata")):
        for line in parent.findall(_QEMU_LINE) + parent.findall(_TEST_LINE):
            if not len(line):
                parent.remove(line)


def _line(root: ET.Element, tag: str) -> ET.Element:
    if tag == _QEMU_LINE:
        parent = root
    else:
        metadata = root.find("metadata")
        parent = metadata if metadata is not None else ET.SubElement(root, "metadata")
    line = parent.find(tag)
    return line if line is not None else ET.SubElement(parent, tag)
