"""Writes a domain's interface or CD-ROM drive as document fields, if documents can express it.

A device that documents cannot express stays as it is: adoption takes over only the others. Pure.
"""

from typing import Any

from pydantic import BaseModel, ValidationError

from controller.desired.schema.guest import Cdrom, Interface
from controller.observed.domain import LIBVIRT_USER, DiskConfig, NicConfig

NIC_KINDS = ("network", "bridge", "user")
"""The kinds of interfaces that documents can express. Interfaces of other kinds are left alone."""


def interface_words(nic: NicConfig) -> dict[str, Any] | None:
    """The fields for ``interfaces`` except ``name``; None if documents cannot express it."""
    return None if why_no_interface(nic) else _fields(nic)


def why_no_interface(nic: NicConfig) -> str:
    """Why documents cannot express the interface; '' if they can."""
    if nic.kind not in NIC_KINDS or nic.source == LIBVIRT_USER:
        return f"not one of {', '.join(NIC_KINDS)}"
    if not nic.mac:
        return "without a MAC address"
    if nic.kind == "user" and nic.model != "virtio":
        return "user networking of another model than virtio"
    return _objection(Interface, {"name": "net0", **_fields(nic)})


def told_interface(nic: NicConfig) -> str:
    """A description of the interface for people."""
    source = "of libvirt's own" if nic.source == LIBVIRT_USER else nic.source
    return f"{nic.kind} {source}".rstrip() + f", model {nic.model or 'unknown'}"


def _fields(nic: NicConfig) -> dict[str, Any]:
    words: dict[str, Any] = {"mac": nic.mac}
    if nic.kind == "user":
        words["user"] = {"forwards": list(nic.forwards)} if nic.forwards else {}
        return words
    words[nic.kind] = nic.source
    if nic.model != "virtio":
        words["model"] = nic.model
    if nic.link != "up":
        words["link"] = nic.link
    return words


def medium_words(drive: DiskConfig) -> dict[str, Any] | None:
    """The fields for the medium in a CD-ROM drive; None if documents cannot express it."""
    if drive.volume is None:
        return {}
    if not drive.pool:
        return None
    words = {"pool": drive.pool, "volume": drive.volume}
    return None if _objection(Cdrom, {"name": "cd0", **words}) else words


def _objection(model: type[BaseModel], words: dict[str, Any]) -> str:
    try:
        model.model_validate(words)
    except ValidationError as error:
        problem = error.errors()[0]
        place = next((str(part) for part in problem["loc"] if isinstance(part, str)), "")
        return f"{place} {problem['msg']}".strip()
    return ""
