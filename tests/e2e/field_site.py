"""A micro guest on real QEMU under the daemon's own house, for the table of fields.

The house runs in this process and its passes in the test's own thread, so that a change is carried
out as soon as it is written, and nothing is looked at while somebody edits behind its back.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import yaml

from controller.daemon.house import House
from controller.desired.schema.fields import Change
from controller.observed.domain import DomainView
from controller.planning.conditions import ConditionType
from controller.planning.plan import Plan
from controller.settings import Settings
from tests.e2e.daemon_site import a_port
from tests.e2e.life import two_networks
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.e2e.system_libvirtd import SystemLibvirtd
from tests.field_checks import Documents
from tests.field_rows import OTHER_PORT, PORT, Seen, documents, merged
from tests.micro import micro
from tests.standin.standin import iso
from tests.waiting import INTERVAL, WaitedInVainError

SETTLED = 60.0
"""Seconds for a boot, on a busy machine under TCG."""
_WAITS = ("RestartRequired", "ReplaceRequired", "ChangeRefused")
_MEDIA = {"gk/tools.iso": "TOOLS", "gk/other.iso": "OTHER", "spare/tools.iso": "SPARE"}
_WEB = {
    "name": "web",
    "files": [{"path": "/srv/hello.txt", "content": "hello\n"}],
    "probes": [{"name": "http", "httpGet": {"port": 80}, "periodSeconds": 1.0}],
}


class RealSite:
    """Satisfies ``field_checks.Site``."""

    def __init__(self, house: House, connection: libvirt.virConnect, name: str) -> None:
        self.house, self.connection, self.name = house, connection, name
        self.words: dict[str, str] = {}
        """What of the table's documents is called otherwise here."""
        self._written: Documents = {}
        usual = documents(name)
        usual["Guest"] = merged(usual["Guest"], {"spec": {"services": [_WEB]}})
        self.base: Documents = usual

    def write(self, documents: Documents) -> None:
        for file, document in documents.items():
            if self._written.get(file) == document:
                continue
            text = yaml.safe_dump(document)
            for word, real in self.words.items():
                text = text.replace(word, real)
            path = self.house.settings.desired_dir / f"{file.replace(' ', '-')}.yaml"
            path.write_text(text)
        self._written = documents
        self.house.catalog.scan()
        assert self.house.catalog.snapshot.problems == ()

    def settle(self) -> Plan:
        deadline = time.monotonic() + SETTLED
        last: Plan | None = None
        while time.monotonic() < deadline:
            self.house.reconciler.reconcile(self.name)
            status = self.house.status.get(self.name)
            assert status is not None
            busy = self.house.operations.current(self.name)
            if status.plan == last and not last.steps and busy is None and _is_at_rest(last):
                return last
            if status.plan == last:
                time.sleep(INTERVAL)
            last = status.plan
        raise WaitedInVainError(f"does not settle: {last and (last.sentence, last.changes)}")

    def ask(self, **changes: Any) -> None:
        self.house.executor.record("local", self.name, **changes)

    def domain(self) -> DomainView:
        found = self.house.hypervisor.domain("local", self.name)
        assert found is not None
        return found

    def by_hand(self) -> libvirt.virDomain:
        """The domain by a connection of its own, as virsh has it."""
        return self.connection.lookupByName(self.name)

    def told(self) -> dict[str, Change]:
        """What is not as wanted, once the daemon has read every domain's XML again."""
        self.house.hypervisor.resync("local", deep=True)
        guest = self.house.catalog.snapshot.guests[self.name]
        made = self.house.reconciler.preview(guest)[1]
        return {change.path: change.change for change in made.changes}

    def inside(self, script: str) -> str:
        return micro.inside(self.by_hand(), f"{script}; true").strip()

    def boot(self) -> str:
        return self.inside("cat /proc/sys/kernel/random/boot_id")

    def problems(self) -> str:
        return "\n".join(str(problem) for problem in self.house.catalog.snapshot.problems)

    def seen(self) -> Seen:
        domain, status = self.domain(), self.house.status.get(self.name)
        assert status is not None
        owner = domain.ownership
        return Seen(
            domain,
            self.house.knowledge.inside(self.name),
            status.plan.probes,
            self.house.catalog.snapshot.guests[self.name],
            owner.base if owner is not None else "",
            {
                disk.alias: volume.capacity
                for disk in domain.config.disks
                if disk.volume is not None
                and (volume := self.house.hypervisor.volume("local", disk.pool, disk.volume))
            },
        )


def _is_at_rest(plan: Plan) -> bool:
    synced = plan.condition(ConditionType.SYNCED)
    waits = synced is not None and synced.reason in _WAITS
    return plan.settled or (waits and plan.is_true(ConditionType.READY))


@contextmanager
def a_real_site(name: str, word: str) -> Iterator[RealSite]:
    """Everything is removed, whatever the tests left. ``word`` names networks (``two_networks``).

    Needs root, for bridges.
    """
    files = micro.build()
    root = Path(tempfile.mkdtemp(prefix="gk", dir="/tmp"))  # short: libvirt's socket paths are long
    root.chmod(0o755)
    for directory in ("l", "desired", "images", "state", "cache"):
        (root / directory).mkdir(mode=0o755)
    for file in ("vmlinuz", "initrd", "one.qcow2", "two.qcow2"):
        shutil.copy(files / file, root / "images" / file)
    libvirtd = SystemLibvirtd(root / "l")
    libvirtd.start()
    try:
        connection = libvirt.open(libvirtd.uri)
        house = House(_settings(root, libvirtd), journal=":memory:")
        try:
            site = RealSite(house, connection, name)
            with two_networks(site, word) as (one, two), _second_network(connection, two):
                house.open()
                _put_media(libvirtd, connection)
                site.words = {
                    PORT: str(a_port()), OTHER_PORT: str(a_port()),
                    "net-one": one, "net-two": f"{two}-two", "br-two": two,
                    "args: quiet": f"args: {micro.ARGS}",
                }  # fmt: skip
                yield site
                _remove(connection)
        finally:
            house.close()
            _remove(connection)
            connection.close()
    finally:
        libvirtd.stop()
        shutil.rmtree(root)


def _settings(root: Path, libvirtd: PrivateLibvirtd) -> Settings:
    pools = {name: f"{libvirtd.root}/pool/{name}" for name in ("gk", "spare")}
    return Settings.model_validate(
        {
            "desired_dir": root / "desired",
            "state_dir": root / "state",
            "cache_dir": root / "cache",
            "images_dir": root / "images",
            "socket": root / "gk.sock",
            "listen": "",
            "identity": "fields",
            "hosts": {"local": {"uri": libvirtd.uri, "pool": "gk", "pools": pools}},
        }
    )


def _put_media(libvirtd: PrivateLibvirtd, connection: libvirt.virConnect) -> None:
    for place, label in _MEDIA.items():
        (libvirtd.root / "pool" / place).write_bytes(iso(label, {"readme": label}))
    for pool in connection.listAllStoragePools():
        pool.refresh()


@contextmanager
def _second_network(connection: libvirt.virConnect, bridge: str) -> Iterator[None]:
    network = connection.networkCreateXML(
        f"<network><name>{bridge}-two</name><forward mode='bridge'/>"
        f"<bridge name='{bridge}'/></network>"
    )
    try:
        yield
    finally:
        network.destroy()


def _remove(connection: libvirt.virConnect) -> None:
    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        if domain.isPersistent():
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    for pool in connection.listAllStoragePools():
        if pool.isActive():
            pool.destroy()
        pool.undefine()
