"""Every form in which a domain XML can name a file of the host counts as using it."""

import xml.etree.ElementTree as ET

from controller.hypervisor.storage.file_usage import Named, note_named, note_remembered
from controller.observed.domain import (
    DiskVolume,
    GuestRecord,
    Ownership,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    SystemDisk,
)
from controller.observed.domain_xml import ownership_element

XML = """<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<os><loader readonly='yes' type='pflash'>/fw/code.fd</loader>
<nvram template='/fw/vars.fd'>/nvram/a.fd</nvram><kernel>/k</kernel><initrd>/i</initrd></os>
<devices>
<disk type='file' device='disk'><source file='/d/top.qcow2'/>
 <backingStore type='file'><format type='qcow2'/><source file='/d/middle.qcow2'/>
  <backingStore type='block'><source dev='/dev/base'/><backingStore/></backingStore>
 </backingStore>
 <mirror type='file' job='copy'><source file='/d/copy.qcow2'/></mirror></disk>
<disk type='volume' device='cdrom'><source pool='isos' volume='rocky.iso'/></disk>
<disk type='network' device='disk'><source protocol='rbd' name='pool/image'/></disk>
<disk type='file' device='cdrom'/>
<interface type='bridge'><source bridge='br0'/></interface>
</devices>
<qemu:commandline><qemu:arg value='-drive'/><qemu:arg value='if=virtio,file=/d/raw.img,x=y'/>
<qemu:arg value='-cdrom'/><qemu:arg value='/d/plain.iso'/><qemu:arg value='-blockdev'/>
<qemu:arg value='{"driver":"qcow2","file":{"driver":"file","filename":"\\/d\\/json.qcow2"}}'/>
</qemu:commandline></domain>"""


def test_what_the_memory_of_a_guest_names_is_noted() -> None:
    old = SystemDisk("gk", "old", "base-1", "/k1", "/i1")
    new = SystemDisk("gk", "new", "base-2", "/k2")
    record = GuestRecord(
        replacement=Replacement(new, old, "image", ReplacePhase.PREPARING, 1.0),
        retired=(RetiredDisk(SystemDisk("gk", "older", kernel="/k0"), 1.0, "replaced"),),
        volumes=(DiskVolume("disk-data", "big", "data"),),
    )
    root = ET.fromstring("<domain><metadata/></domain>")
    root[0].append(ownership_element(Ownership("u", "web1", 1, "", "", record)))
    named = Named()
    note_named(ET.tostring(root, encoding="unicode"), named)
    assert named == Named(), "no device of its domain is on them"
    note_remembered(ET.tostring(root, encoding="unicode"), named)
    assert named.paths == {"/k0", "/k1", "/i1", "/k2"}
    names = ("old", "base-1", "new", "base-2", "older")
    assert named.volumes == {("big", "data"), *(("gk", name) for name in names)}


def test_every_path_and_volume_is_noted() -> None:
    named = Named()
    note_named(XML, named)
    assert named.volumes == {("isos", "rocky.iso")}
    assert named.paths == {
        "/fw/code.fd",
        "/nvram/a.fd",
        "/k",
        "/i",
        "/d/top.qcow2",
        "/d/middle.qcow2",
        "/dev/base",
        "/d/copy.qcow2",
        "/d/raw.img",
        "/d/plain.iso",
        "/d/json.qcow2",
    }
    # A medium, a raw device, firmware and kernels stand on nothing.
    assert named.disks == {
        "/d/top.qcow2",
        "/d/middle.qcow2",
        "/d/copy.qcow2",
        "/d/raw.img",
        "/d/plain.iso",
        "/d/json.qcow2",
    }
    assert named.disk_volumes == set()


def test_disks_that_may_stand_on_others_are_told_apart() -> None:
    disks = (
        "<disk type='block' device='disk'><driver type='qcow2'/><source dev='/dev/vg/a'/></disk>"
        "<disk type='file' device='disk'><driver type='raw'/><source file='/srv/link.img'/></disk>"
        "<disk type='volume' device='disk'><source pool='old' volume='a'/></disk>"
        "<disk type='volume' device='floppy'><source pool='old' volume='b'/></disk>"
    )
    named = Named()
    note_named(f"<domain><devices>{disks}</devices></domain>", named)
    assert named.disks == {"/dev/vg/a", "/srv/link.img"}
    assert named.disk_volumes == {("old", "a")}
