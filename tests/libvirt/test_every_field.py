"""Every field of the schema, changed on a running guest and changed back, on libvirt's test driver.

The loop and the documents are the daemon's own, the domains libvirt's; images, insides and probes
are ``FakeWorld``'s. Rows that need what the driver lacks are carried out on real QEMU, in
``e2e/test_every_field_real.py``.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.desired.catalog.catalog import Catalog
from controller.desired.catalog.loader import Loader
from controller.desired.effective import EffectiveGuest, EffectiveImage
from controller.execution.executor import Executor, Ports
from controller.execution.knowledge import Knowledge
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.hypervisor import Hypervisor
from controller.images.fetch.sources import Role
from controller.images.pool.base_volumes import install_base_stem, volume_name
from controller.loop.look import Look
from controller.loop.reconciler import Reconciler
from controller.loop.status import StatusStore
from controller.observed.domain import DomainView
from controller.observed.host import VolumeView
from controller.observed.image import ImageState, ImageView
from controller.observed.inside import InsideView
from controller.planning.plan import Plan
from tests.factories import POLICY
from tests.fakes import FakeWorld, InlineOperations
from tests.field_checks import Documents, check_row, schema_fields
from tests.field_rows import SOURCES, On, Row, Seen, Takes, digest, documents
from tests.field_table import ROWS
from tests.libvirt.nodes import absent_but_bases, node
from tests.unit.desired.support import SHIPPED, put

pytestmark = pytest.mark.libvirt
HERE = [row for row in ROWS if row.on & {On.TEST, On.FAKE}]
TEMPLATES = {
    "ks": (SHIPPED / "minimal.ks.j2").read_text() + "# {{ values.word | default('') }}\n",
    "preseed": (SHIPPED / "minimal.preseed.j2").read_text() + "# {{ values.word | default('') }}\n",
    "autoinstall": (SHIPPED / "minimal.autoinstall.j2").read_text()
    + "  timezone: {{ values.word | default('UTC') }}\n",
}


class Inside(FakeWorld):
    """The insides also tell which of root's keys are there."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, set[str]] = {}

    def _seen(self, guest: EffectiveGuest) -> InsideView:
        missing = _keys(guest) - self.keys.get(guest.name, set())
        return replace(super()._seen(guest), missing_ssh_keys=len(missing))

    def apply(self, guest: EffectiveGuest, domain: DomainView, services: Any) -> InsideView:
        self.keys.setdefault(guest.name, set()).update(_keys(guest))
        view = super().apply(guest, domain, services)
        return replace(view, missing_ssh_keys=0)


def _keys(guest: EffectiveGuest) -> set[str]:
    return {f"{ref.file} {ref.credential}" for ref in guest.spec.ssh_authorized_keys_from}


class Domains:
    """libvirt's domains with the agent that the test driver has not, and the insides' disks."""

    def __init__(self, hypervisor: Any, inside: FakeWorld) -> None:
        self._hypervisor = hypervisor
        self._inside = inside
        self.started_at = inside.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hypervisor, name)

    def domain(self, host: str, name: str) -> DomainView | None:
        view = self._hypervisor.domain(host, name)
        if view is None or view.live is None:
            return view
        return replace(view, agent_connected=True, started_at=self.started_at)

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        return absent_but_bases(self._hypervisor, host, pool, names)

    def start(self, host: str, name: str) -> None:
        system = self.domain(host, name).config.disks[0].volume
        if self._inside.booted.get(name) != system:
            self._inside.insides.pop(name, None)
            self._inside.booted[name] = system
        self._hypervisor.start(host, name)
        self.started_at = self._inside.now


class Images:
    """Every image is ready, under the names that its base and kernel really would have."""

    def view(self, host: str, pool: str, image: EffectiveImage) -> ImageView:
        spec, name = image.spec, image.name
        base = f"{install_base_stem(name, image.content)}01234567.qcow2"
        if image.install is None:
            content = spec.source.sha256 or digest(str(spec.source.file))
            base = volume_name(name, Role.DISK, content, "qcow2")
        kernel, initrd = None, None
        if spec.boot is not None:
            kernel = f"/gk/{spec.boot.kernel}"
            initrd = f"/gk/{spec.boot.initrd}" if spec.boot.initrd else None
        return ImageView(
            name, host, pool, ImageState.READY, base=base, base_path=f"/gk/{base}",
            capacity=image.install.disk_size if image.install else 2**20,
            kernel_path=kernel, initrd_path=initrd,
        )  # fmt: skip

    def seed(self, host: str, pool: str, volume: str, **_: object) -> None:
        raise AssertionError("nothing here is made by cloud-init")


class CatalogDesired:
    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def guest(self, name: str) -> tuple[EffectiveGuest | None, bool]:
        snapshot = self.catalog.snapshot
        orphan = snapshot.orphans.get(name)
        return snapshot.guests.get(name) or orphan, orphan is not None

    def problems(self, name: str) -> tuple[str, ...]:
        return tuple(str(one) for one in self.catalog.snapshot.document_problems(name))


class House:
    """The loop over one directory of documents, in this thread; a ``Site`` of one guest."""

    def __init__(self, root: Path, name: str, hypervisor: Any, inside: Inside) -> None:
        self.name, self.root, self.insides = name, root, inside
        self.catalog = Catalog(root, ["local", "other"], loaders=[Loader(root, shipped=SHIPPED)])
        self.desired = CatalogDesired(self.catalog)
        self.written: Documents = {}
        for file, text in SOURCES.items():
            put(root / file, text)
        for suffix, text in TEMPLATES.items():
            put(root / f"mine.{suffix}.j2", text)
            put(root / f"other.{suffix}.j2", f"{text}# other\n")
        self.world = Domains(hypervisor, inside)
        self.status = StatusStore()
        knowledge, operations = Knowledge(), InlineOperations()
        ports = Ports(self.world, inside, Images(), inside, inside)  # type: ignore[arg-type]
        clock = lambda: inside.now  # noqa: E731
        look = Look(ports, knowledge, operations, POLICY.seed, clock=clock)
        for host in ("local", "other"):
            look.listed(host, ())
        self.executor = Executor(ports, knowledge, operations, clock=clock)
        self.reconciler = Reconciler(
            self.desired, ports, look, self.executor, knowledge, self.status, POLICY, clock=clock
        )

    def write(self, documents: Documents) -> None:
        for file, document in documents.items():
            if self.written.get(file) != document:
                put(self.root / f"{file.replace(' ', '-')}.yaml", yaml.safe_dump(document))
        self.written = documents
        self.insides.now += 60.0
        self.catalog.scan()

    def settle(self) -> Plan:
        last: Plan | None = None
        for _ in range(40):
            result = self.reconciler.reconcile(self.name)
            status = self.status.get(self.name)
            assert status is not None
            assert result.word != "error", status.plan.sentence
            if status.plan == last and not last.steps:  # what it changed about probes is seen, too
                return last
            last = status.plan
        raise AssertionError(f"does not settle: {status.plan.sentence}")

    def ask(self, **changes: Any) -> None:
        self.executor.record("local", self.name, **changes)

    def domain(self) -> DomainView:
        found = self.world.domain("local", self.name)
        assert isinstance(found, DomainView)
        return found

    def boot(self) -> str:
        return ""

    def inside(self, script: str) -> str | None:
        return None

    def problems(self) -> str:
        return "\n".join(str(problem) for problem in self.catalog.snapshot.problems)

    def seen(self) -> Seen:
        guest, _ = self.desired.guest(self.name)
        assert guest is not None
        return Seen(
            self.domain(),
            self.insides.insides.get(self.name),
            self.insides.targets.get(self.name, ()),
            guest,
            Images().view("local", "gk", guest.image).base or "",
            {},
        )

    def close(self) -> None:
        """What the test made, and no more."""
        if isinstance(self.world.domain("local", self.name), DomainView):
            self.world.destroy("local", self.name)
            self.world.undefine("local", self.name)


@pytest.fixture(scope="module")
def hypervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    hosts = []
    for name in ("local", "other"):
        path = tmp_path_factory.mktemp("driver") / "node.xml"
        path.write_text(node("net-one", "net-two"))
        pools = {"gk": f"/{name}/gk", "spare": f"/{name}/spare"}
        hosts.append(HostConfig(name, f"test://{path}", "gk", pools))
    one = Hypervisor(hosts)
    one.open()
    yield one
    one.close()


def test_every_field_of_the_schema_has_its_row_with_its_class() -> None:
    declared = {one.path: one for one in schema_fields()}
    plain = {row.path: row for row in ROWS if not row.why}
    assert sorted(set(declared) - set(plain)) == [], "fields without a row"
    assert sorted({row.path for row in ROWS} - set(declared)) == [], "rows without a field"
    for path, row in plain.items():
        one = declared[path]
        if not one.supported:
            assert row.takes is Takes.REFUSED, path
        elif one.change is not None:
            assert row.takes.value == one.change.value, path


@pytest.mark.parametrize("row", HERE, ids=[row.id for row in HERE])
def test_a_field_is_changed_at_its_price_and_changed_back(
    row: Row, hypervisor: Hypervisor, tmp_path: Path
) -> None:
    name = f"row{ROWS.index(row)}"
    inside = Inside()
    house = House(tmp_path, name, inside if On.FAKE in row.on else hypervisor, inside)
    if On.FAKE in row.on:
        view = VolumeView("default", "tools.iso", "/pool/tools.iso", "iso", 1, 0, None)
        inside.volumes_there["default", "tools.iso"] = view
    try:
        check_row(house, documents(name), row)
    finally:
        house.close()
