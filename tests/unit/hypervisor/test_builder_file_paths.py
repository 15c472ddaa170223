"""Every form in which a domain XML can name a file of the host counts as using it."""

from controller.hypervisor.file_paths import Named, note_named

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
<qemu:arg value='-cdrom'/><qemu:arg value='/d/plain.iso'/></qemu:commandline></domain>"""


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
    }
