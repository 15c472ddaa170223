"""What a row of the table of fields says, and the documents that every row changes one thing of.

A row is data: where a field stands, what is written before and after, what carrying that out may
cost a running guest, and where the new value then shows. The tests that carry rows out are
``libvirt/test_every_field.py`` and ``e2e/test_every_field_real.py``.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from controller.desired.effective import EffectiveGuest
from controller.observed.domain import DiskConfig, DomainConfig, DomainView, NicConfig
from controller.observed.health import ProbeTarget
from controller.observed.inside import InsideView

Tree = Mapping[str, Any]


class Takes(StrEnum):
    """What it takes to carry a change out: the schema's classes, and two ways that it is not."""

    CONTROLLER = "controller"
    GUEST = "guest"
    LIVE = "live"
    RESTART = "restart"
    REPLACE = "replace"
    IMMUTABLE = "immutable"
    REFUSED = "refused"  # the document is not good: its last good version stays
    ANOTHER = "another"  # it becomes the document of something else


class On(StrEnum):
    """Where a row can be carried out."""

    TEST = "test"  # libvirt's test driver; the insides, images and probes are ``FakeWorld``'s
    FAKE = "fake"  # ``FakeWorld`` alone: what no driver here can run
    QEMU = "qemu"  # real QEMU with a micro guest


@dataclass(frozen=True, slots=True)
class Seen:
    """What a row is judged by: the running guest, and what the daemon makes of its document."""

    domain: DomainView
    inside: InsideView | None
    probes: tuple[ProbeTarget, ...]
    guest: EffectiveGuest
    base: str
    capacities: Mapping[str, int]  # of the disks' volumes, by alias, in bytes

    @property
    def live(self) -> DomainConfig:
        assert self.domain.live is not None
        return self.domain.live

    def disk(self, alias: str) -> DiskConfig | None:
        return next((disk for disk in self.live.disks if disk.alias == alias), None)

    def nic(self, alias: str) -> NicConfig | None:
        return next((nic for nic in self.live.nics if nic.alias == alias), None)

    @property
    def probe(self) -> ProbeTarget:
        """The first probe of what the table changes."""
        return self.probes[0]

    def file(self, path: str) -> str:
        """A file's owner, group, mode and digest; '' where it is not there."""
        fact = self.inside.files.get(path) if self.inside is not None else None
        if fact is None or fact.sha256 is None:
            return ""
        return f"{fact.owner}:{fact.group} {fact.mode:o} {fact.sha256}"


@dataclass(frozen=True, slots=True)
class Row:
    """One field. ``before`` and ``after`` are merged into the document that ``path`` is of.

    They begin at the document's ``spec`` for a field of it, else at its top; a list replaces a
    list, None a value. ``beside`` is merged into other documents, before and after alike.
    """

    path: str
    takes: Takes
    after: Tree
    before: Tree = field(default_factory=dict)
    beside: Mapping[str, Tree] = field(default_factory=dict)
    on: frozenset[On] = frozenset({On.TEST})
    named: str = ""
    """The field as the daemon calls it, where it has to be told of."""
    says: str = ""
    """Of a refusal: what it says."""
    shows: Callable[[Seen], bool] | None = None
    """True after, false before, as libvirt, the guest and the prober have it."""
    inside: tuple[str, str] | None = None
    """On QEMU: a shell command in the guest, and what it prints afterwards."""
    back: Takes | None = None
    """What changing it back takes, where that is not the same."""
    why: str = ""
    """Why it does not take what the schema says."""

    @property
    def kind(self) -> str:
        return self.path.partition(".")[0]

    @property
    def id(self) -> str:
        return self.path if not self.why else f"{self.path} ({self.why})"


def row(
    path: str,
    takes: Takes,
    after: Tree,
    *,
    on: tuple[On, ...] = (On.TEST,),
    before: Tree | None = None,
    beside: Mapping[str, Tree] | None = None,
    **more: Any,
) -> Row:
    """A ``Row``, shorter to write; ``path`` of a Guest's spec may leave ``Guest.spec.`` out."""
    if path.partition(".")[0] not in ("Guest", "Image", "Service"):
        path = f"Guest.spec.{path}"
    return Row(path, takes, after, before or {}, beside or {}, frozenset(on), **more)


def merged(base: Tree, *changes: Tree) -> dict[str, Any]:
    """``base`` with mappings merged at every depth, all else replaced."""
    result = dict(base)
    for change in changes:
        for key, value in change.items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- The documents -------------------------------------------------------------------------------

WEB = {
    "name": "web",
    "packages": ["nginx"],
    "files": [{"path": "/etc/web.conf", "content": "size {{ values.size }}\n"}],
    "unit": "nginx.service",
    "values": {"size": 1},
    "probes": [{"name": "up", "tcpSocket": {"port": 80, "from": "guest"}}],
}
APP = {
    "packages": ["curl"],
    "files": [{"path": "/etc/app.conf", "content": "size {{ values.size }}\n"}],
    "unit": "app.service",
    "values": {"size": 1},
    "probes": [{"name": "up", "tcpSocket": {"port": 22, "from": "guest"}}],
}
DATA = {"name": "data", "size": "16Mi"}
PORT, OTHER_PORT = "18080", "18081"
LAN = {"name": "lan", "user": {"forwards": [f"127.0.0.1:{PORT}:80/tcp"]}}
MAC, OTHER_MAC = "52:54:00:00:be:ef", "52:54:00:00:be:f0"
DMZ = {"name": "dmz", "mac": MAC, "network": "net-one"}
GUEST = {
    "image": "one",
    "cpu": {"vcpus": 1, "max": 2},
    "memory": {"size": "128Mi", "max": "160Mi"},
    "shutdownTimeout": "15s",
    "disks": [DATA],
    "cdroms": [{"name": "drive", "volume": "tools.iso"}],
    "interfaces": [LAN, DMZ],
    "services": [WEB, {"use": "app"}],
}
IMAGE = {
    "osFamily": "debian",
    "source": {"file": "one.qcow2"},
    "boot": {"kernel": "vmlinuz", "initrd": "initrd", "args": "quiet"},
}
SOURCES = {"one.conf": "of one file\n", "other.conf": "of another file\n"}
"""Files beside the documents."""


def documents(name: str) -> dict[str, dict[str, Any]]:
    """What is in the directory before anything is changed; the first of each kind is changed."""
    return {
        "Guest": _document("Guest", name, GUEST),
        "Image": _document("Image", "one", IMAGE),
        "Service": _document("Service", "app", APP),
        "Image two": _document("Image", "two", merged(IMAGE, {"source": {"file": "two.qcow2"}})),
        "Service spare": _document("Service", "spare", {"packages": ["less"]}),
    }


def _document(kind: str, name: str, spec: Tree) -> dict[str, Any]:
    return {
        "apiVersion": "guestkeeper/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }


def changed(
    base: Mapping[str, dict[str, Any]], row: Row, *, after: bool
) -> dict[str, dict[str, Any]]:
    """The documents of ``base`` as ``row`` has them before or after."""
    result = dict(base)
    for kind, spec in row.beside.items():
        result[kind] = merged(result[kind], {"spec": spec})
    top = f"{row.kind}.spec"
    in_spec = row.path == top or row.path.startswith(f"{top}.")
    for change in (row.before, *((row.after,) if after else ())):
        result[row.kind] = merged(result[row.kind], {"spec": change} if in_spec else change)
    return result
