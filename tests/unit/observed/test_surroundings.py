"""What of a definition decides what can be changed, read from libvirt's XML."""

import pytest

from controller.observed.domain_xml import parse_config
from controller.observed.surroundings import Surroundings, letters

BARE = "<domain><name>a</name><features><acpi/></features>{}</domain>"


@pytest.mark.parametrize(
    ("xml", "around"),
    [
        (BARE.format(""), Surroundings()),
        ("<domain/>", Surroundings(acpi=False)),
        (
            BARE.format("<devices><memballoon model='none'/></devices>"),
            Surroundings(balloon=False),
        ),
        (BARE.format("<devices><memballoon model='virtio'/></devices>"), Surroundings()),
        (
            BARE.format(
                "<cpu><numa><cell id='0' cpus='0-1,4' memory='32' unit='MiB'/>"
                "<cell id='1' cpus='2-3' memory='32'/></numa></cpu>"
            ),
            Surroundings(cell_vcpus=5, cell_memory=True),
        ),
        (BARE.format("<cpu><numa><cell cpus='x'/></numa></cpu>"), Surroundings()),
        (
            BARE.format(
                "<devices><disk><driver io='native'/><target dev='vda'/></disk>"
                "<disk><driver io='threads'/><target dev='vdb'/></disk></devices>"
            ),
            Surroundings(native_io=frozenset({"vda"})),
        ),
        (
            BARE.format(
                "<devices><interface><mac address='52:54:00:00:00:01'/><driver iommu='on'/>"
                "</interface><interface><mac address='52:54:00:00:00:02'/>"
                "<driver name='vhost' queues='2'/></interface></devices>"
            ),
            Surroundings(virtio_only=frozenset({"52:54:00:00:00:01"})),
        ),
    ],
)
def test_what_is_read(xml: str, around: Surroundings) -> None:
    assert parse_config(xml).around == around


def test_a_place_on_the_scsi_controller_is_taken_under_its_own_name_too() -> None:
    disk = (
        "<disk><target dev='sda' bus='{bus}'/><address type='drive' controller='{controller}'"
        " bus='0' target='0' unit='1'/></disk>"
    )

    def taken(bus: str, controller: int) -> frozenset[str]:
        xml = disk.format(bus=bus, controller=controller)
        return parse_config(BARE.format(f"<devices>{xml}</devices>")).taken

    assert taken("scsi", 0) == {"sda", "sdb"}
    assert taken("scsi", 1) == taken("sata", 0) == {"sda"}


def test_how_disks_are_lettered() -> None:
    assert [letters(index) for index in (0, 25, 26, 701, 702)] == ["a", "z", "aa", "zz", "aaa"]
