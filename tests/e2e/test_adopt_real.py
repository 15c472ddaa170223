"""A foreign domain on real QEMU: exported, taken over by a daemon, and running all the time."""

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import libvirt
import pytest

from tests.e2e.daemon_site import Site, a_port, a_site
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: blank}
spec: {osFamily: debian, source: {file: blank.qcow2}}
"""
MACS = ["52:54:00:00:aa:01", "52:54:00:00:aa:02"]
FOREIGN = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>NAME</name><description>made long ago, by hand</description>
<memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os><features><acpi/></features>
<cpu mode='maximum'/><devices>
<controller type='scsi' index='0' model='virtio-scsi'/>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>
 <source file='POOL/old-root.qcow2'/><target dev='sda' bus='scsi'/>
 <serial>root-1</serial><alias name='ua-root'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/>
 <source file='POOL/old-data.img'/><target dev='vda' bus='virtio'/>
 <iotune><total_iops_sec>500</total_iops_sec><total_iops_sec_max>900</total_iops_sec_max>
  <total_iops_sec_max_length>5</total_iops_sec_max_length></iotune></disk>
<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
<interface type='user'><mac address='MAC2'/><model type='virtio'/></interface>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<serial type='pty'/>
</devices><qemu:commandline>
 <qemu:arg value='-netdev'/>
 <qemu:arg value='user,id=u0,restrict=on,hostfwd=tcp:127.0.0.1:PORT-:80'/>
 <qemu:arg value='-device'/>
 <qemu:arg value='virtio-net-pci,netdev=u0,mac=MAC1,bus=pcie.0,addr=0x10'/>
</qemu:commandline>
<qemu:override><qemu:device alias='ua-root'><qemu:frontend>
 <qemu:property name='rotation_rate' type='unsigned' value='1'/>
</qemu:frontend></qemu:device></qemu:override></domain>"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with a_site("adopt") as made:
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", made.images / "blank.qcow2", "16M"],
            check=True,
        )
        made.write("image.yaml", IMAGE)
        yield made


@pytest.fixture
def connection(site: Site) -> Iterator[libvirt.virConnect]:
    opened = libvirt.open(site.libvirtd.uri)
    yield opened
    opened.close()


def foreign(site: Site, connection: libvirt.virConnect, name: str) -> libvirt.virDomain:
    pool = site.libvirtd.root / "pool"
    for file, kind in (("old-root.qcow2", "qcow2"), ("old-data.img", "raw")):
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, pool / file, "32M"], check=True)
        if site.libvirtd.user is not None:
            owner = pool.stat()
            os.chown(pool / file, owner.st_uid, owner.st_gid)
    xml = FOREIGN.replace("NAME", name).replace("POOL", str(pool))
    xml = xml.replace("MAC1", MACS[0]).replace("MAC2", MACS[1])
    xml = xml.replace("PORT", str(site.ports.setdefault(name, a_port())))
    domain = connection.defineXML(xml)
    domain.create()
    return domain


def aliases(domain: libvirt.virDomain) -> set[str]:
    found = ET.fromstring(domain.XMLDesc()).iterfind("devices/*/alias")
    return {one.get("name", "") for one in found} & {
        "ua-root",
        "ua-disk-system",
        "ua-disk-vda",
        "ua-cdrom-sdb",
    }


def test_a_foreign_domain_is_exported_adopted_and_never_stops(
    site: Site, connection: libvirt.virConnect
) -> None:
    domain = foreign(site, connection, "old")
    qemu, run = site.qemu("old"), domain.ID()

    site.start()

    def pooled() -> bool:
        return len(connection.storagePoolLookupByName("gk").listVolumes()) == 2

    wait_until(pooled, 30, "the pool of the settings is made", ignoring=(libvirt.libvirtError,))
    exported = site.run("export", "old")
    assert exported.returncode == 0, exported.stderr
    assert f"#   interface: {MACS[1]} (user of libvirt's own, model virtio: " in exported.stdout
    assert "kept as it is, and not managed: interface: " in exported.stderr
    site.write("old.yaml", exported.stdout)
    planned = site.run("plan", "old")
    assert planned.returncode == 1
    assert "guestkeeper adopt old" in planned.stdout + planned.stderr

    done = site.run("wait", "old", "--for=condition=Synced=False", "--timeout=30")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = site.run("adopt", "old", "--dry-run")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "would change nothing" in shown.stdout
    assert "urn:guestkeeper" not in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)

    adopted = site.run("adopt", "old", "--yes", "-o", "json")
    assert adopted.returncode == 0, adopted.stderr
    assert json.loads(adopted.stdout)["item"]["adopted"] is True
    site.wait_ready("old", timeout=60)
    item = site.guest("old")
    assert (item["sync"], item["changes"], item["domain"]["ours"]) == ("Synced", [], True)
    assert (site.qemu("old"), domain.ID()) == (qemu, run)
    assert site.run("plan", "old").returncode == 0

    # From here on it is a guest as every other: changed while it runs ...
    text = exported.stdout.replace("made long ago, by hand", "looked after")
    text = text.replace("totalIopsSec: 500", "totalIopsSec: 700")
    site.write("old.yaml", text.replace("size: 32Mi", "size: 48Mi"))

    def changed() -> bool:
        live = domain.XMLDesc()
        sizes = {domain.blockInfo(target)[0] for target in ("sda", "vda")}
        done = "looked after" in live and "<total_iops_sec>700" in live
        return done and sizes == {48 * 2**20}

    wait_until(changed, 60, "the running domain has it")
    assert (site.qemu("old"), domain.ID()) == (qemu, run)

    # ... and started again where it dies, with our aliases and all that was not ours to touch.
    before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert aliases(domain) == {"ua-root"}
    burst = (
        "<total_iops_sec_max>900</total_iops_sec_max>",
        "<total_iops_sec_max_length>5</total_iops_sec_max_length>",
    )
    for kept in burst:
        assert kept in domain.XMLDesc()
        assert kept in before
    domain.destroy()
    wait_until(domain.isActive, 60, "it runs again")
    wait_until(
        lambda: aliases(domain) == {"ua-root", "ua-disk-vda", "ua-cdrom-sdb"},
        30,
        "it runs with our aliases, and with that of the operator",
    )
    after = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    forward = f"hostfwd=tcp:127.0.0.1:{site.ports['old']}"
    override, path = "<qemu:device alias='ua-root'>", "/pool/old-root.qcow2'"
    net = f"user,id=u0,restrict=on,{forward}"
    for kept in ("<serial>root-1</serial>", "bus='scsi'", MACS[1], net, override, path, *burst):
        assert kept in before
        assert kept in after
    site.wait_ready("old", timeout=60)
    assert site.guest("old")["changes"] == []
