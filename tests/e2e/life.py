"""Micro guests under a daemon of a test's own, and how a test changes them and looks at them.

A test writes a guest's document and waits until the daemon has carried it out; what it judges by is
libvirt's word and the inside of the guest.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt
import yaml

from controller.cli.client.client import Client
from controller.observed.domain import NAMESPACE
from tests.e2e.daemon_site import Site, a_port, a_site
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.e2e.system_libvirtd import AVAILABLE, SystemLibvirtd
from tests.micro import micro
from tests.waiting import wait_until

Spec = dict[str, Any]
SETTLED = 60.0
"""Seconds in which a change without a boot is carried out, on a busy machine under TCG."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Run:
    """One boot of one domain: the same before and after means that nobody noticed anything."""

    uuid: str
    id: int
    boot: str


@dataclass
class Life:
    """The daemon's site, and the guests that the test has written."""

    site: Site
    connection: libvirt.virConnect
    specs: dict[str, Spec] = field(default_factory=dict)

    # --- Documents --------------------------------------------------------------------------------

    def spec(self, name: str, **changes: Any) -> Spec:
        """A guest with a web server, a data disk, room to grow, and ``changes``."""
        port = self.site.ports.setdefault(name, a_port())
        usual: Spec = {
            "image": "one",
            "cpu": {"vcpus": 1, "max": 2},
            "memory": {"size": "128Mi", "max": "160Mi"},
            "shutdownTimeout": "15s",
            "disks": [{"name": "data", "size": "16Mi"}],
            "interfaces": [{"name": "lan", "user": {"forwards": [f"127.0.0.1:{port}:80/tcp"]}}],
            "services": [
                {
                    "name": "web",
                    "files": [{"path": "/srv/hello.txt", "content": "hello {{ guest.name }}\n"}],
                    "probes": [{"name": "http", "httpGet": {"port": 80}, "periodSeconds": 1.0}],
                }
            ],
        }
        return usual | changes

    def write(self, name: str, spec: Spec) -> None:
        self.specs[name] = spec
        document = {
            "apiVersion": "guestkeeper/v1alpha1",
            "kind": "Guest",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.site.write(f"{name}.yaml", yaml.safe_dump(document))

    def read(self, name: str, spec: Spec) -> None:
        """Writes the document and waits until the daemon has read it."""
        before = self.item(name)["digest"]
        self.write(name, spec)
        wait_until(
            lambda: self.item(name)["digest"] != before, 20, f"the daemon read {name}'s document"
        )

    def put(self, name: str, **changes: Any) -> Spec:
        """Changes fields of the spec, waits until all is as wanted; returns the spec of before."""
        before = self.specs[name]
        self.read(name, before | changes)
        self.settled(name)
        return before

    # --- What the daemon says ---------------------------------------------------------------------

    def item(self, name: str) -> dict[str, Any]:
        """All that the daemon knows of the guest."""
        with Client(self.site.root / "gk.sock") as client:
            return dict(client.get(f"guests/{name}")["item"])

    def condition(self, name: str, type: str) -> tuple[str, str, str]:
        """Status, reason and message; empty where the guest has no such condition."""
        found = [one for one in self.item(name)["conditions"] if one["type"] == type]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("",) * 3

    def settled(self, name: str, timeout: float = SETTLED) -> None:
        """Waits until the guest is Synced and Ready with the present document."""

        def is_settled() -> bool:
            item = self.item(name)
            told.update(
                {key: item[key] for key in ("sync", "ready", "sentence", "failure", "changes")}
            )
            applied = item["digest"] == item["applied_digest"]
            return applied and (item["sync"], item["ready"]) == ("Synced", "True")

        told: dict[str, Any] = {}
        try:
            wait_until(is_settled, timeout, f"{name} is as its document says")
        except AssertionError as error:
            error.add_note(f"the daemon says: {told}")
            raise

    @contextmanager
    def repaired(self, name: str) -> Iterator[None]:
        """What is done in the ``with`` makes the daemon act; afterwards all is as wanted again."""
        before = self._steps(name)
        yield
        wait_until(
            lambda: self._steps(name) > before, SETTLED, f"the daemon does something to {name}"
        )
        self.settled(name)

    def _steps(self, name: str) -> int:
        """How many steps daemons have done for the guest so far, by their logs."""
        logs = (path.read_text() for path in self.site.root.glob("daemon-*.log"))
        lines = (line for log in logs for line in log.splitlines())
        return sum("executing step" in line and f'"{name}"' in line for line in lines)

    def told(self, name: str, type: str, reason: str, timeout: float = SETTLED) -> str:
        """Waits for a condition's reason; returns its message."""
        try:
            wait_until(
                lambda: self.condition(name, type)[1] == reason, timeout, f"{name}: {type} {reason}"
            )
        except AssertionError as error:
            error.add_note(f"it is {self.condition(name, type)}: {self.item(name)['sentence']}")
            raise
        return self.condition(name, type)[2]

    def plans_nothing(self, name: str) -> None:
        done = self.site.run("plan", name)
        assert done.returncode == 0, f"exit {done.returncode}: {done.stdout}{done.stderr}"

    # --- What is ----------------------------------------------------------------------------------

    def domain(self, name: str) -> libvirt.virDomain:
        return self.connection.lookupByName(name)

    def inside(self, name: str, script: str) -> str:
        return micro.inside(self.domain(name), script).strip()

    def run(self, name: str) -> Run:
        domain = self.domain(name)
        boot = self.inside(name, "cat /proc/sys/kernel/random/boot_id")
        return Run(domain.UUIDString(), domain.ID(), boot)

    def system_disk(self, name: str) -> str:
        """The volume that the domain runs from."""
        disks = self.item(name)["domain"]["disks"]
        return str(next(disk["volume"] for disk in disks if disk["name"] == "disk-system"))

    def mark(self, name: str) -> str:
        """Guestkeeper's element in the domain's metadata; '' while there is no domain."""
        try:
            return str(
                self.domain(name).metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, 0)
            )
        except libvirt.libvirtError:
            return ""

    def sees(self, name: str, look: Callable[[], str], wanted: str) -> None:
        """Waits until ``look`` shows it; a guest or device that is not there yet counts as not."""
        shown = ""

        def is_shown() -> bool:
            nonlocal shown
            shown = look()
            return shown == wanted

        not_yet = (libvirt.libvirtError, AssertionError)
        try:
            wait_until(is_shown, SETTLED, f"{name} shows {wanted!r}", ignoring=not_yet)
        except AssertionError as error:
            error.add_note(f"it showed {shown!r}; the daemon says: {self.item(name)['sentence']}")
            raise


@contextmanager
def a_life(prefix: str, settings: str = "", images: tuple[str, ...] = ("one",)) -> Iterator[Life]:
    """A running daemon with micro images of the same names as their disks, and no guests."""
    files = micro.build()
    libvirtd_of = SystemLibvirtd if AVAILABLE else PrivateLibvirtd
    # Every look reads everything: not all that happens behind libvirt's back makes an event.
    deep = f"slow_resync_seconds = 2\n{settings}"
    with a_site(prefix, deep, libvirtd_of, resync=2) as site:
        for name in ("vmlinuz", "initrd"):
            shutil.copy(files / name, site.images / name)
        for name in micro.IMAGES:
            shutil.copy(files / f"{name}.qcow2", site.images / f"{name}.qcow2")
        for name in images:
            site.write(f"image-{name}.yaml", micro.image_document(name, name))
        site.start()
        connection = libvirt.open(site.libvirtd.uri)
        try:
            yield Life(site, connection)
        finally:
            connection.close()


@contextmanager
def two_networks(life: Life, word: str) -> Iterator[tuple[str, str]]:
    """A libvirt network and a bridge (by their names) that lead nowhere.

    ``word`` tells this session's from another's; a bridge's name has at most 15 letters.
    """
    first, second = (f"gk{word}{letter}" for letter in "ab")
    network: libvirt.virNetwork | None = None
    try:
        for bridge in (first, second):
            _ip("link", "add", bridge, "type", "bridge")
            _ip("link", "set", bridge, "up")
        network = life.connection.networkCreateXML(
            f"<network><name>{first}</name><forward mode='bridge'/>"
            f"<bridge name='{first}'/></network>"
        )
        yield first, second
    finally:
        if network is not None:
            network.destroy()
        for bridge in (first, second):
            if Path(f"/sys/class/net/{bridge}").exists():
                _ip("link", "delete", bridge)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)
