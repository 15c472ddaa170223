"""User interfaces stand where the machine has a bus for them."""

import xml.etree.ElementTree as ET

import pytest

from controller.errors import PermanentError
from controller.hypervisor.xml.root_bus import place_user_nics
from controller.observed.qemu_arguments import QEMU_NAMESPACE

OURS = "virtio-net-pci,netdev=ua-nic-{0},id=ua-nic-{0},mac=52:54:00:00:00:0{1},bus={2},addr={3}"
THEIRS = "virtio-net-pci,netdev=hand,bus=pci.0,addr=0x1f"


def placed(
    root_model: str, *devices: str, machine: str = "", slots: tuple[int, ...] = ()
) -> list[str]:
    words = [word for device in devices for word in ("-device", device)]
    line = "".join(f"<q:arg value='{word}'/>" for word in words)
    controller = f"<controller type='pci' model='{root_model}'/>" if root_model else ""
    there = "".join(
        f"<disk><address type='pci' bus='0x00' slot='{slot:#x}'/></disk>"
        "<disk><address type='pci' bus='0x01' slot='0x1e'/></disk>"
        for slot in slots
    )
    root = ET.fromstring(
        f"<domain xmlns:q='{QEMU_NAMESPACE}'><os><type machine='{machine}'/></os>"
        f"<devices>{controller}{there}</devices><q:commandline>{line}</q:commandline></domain>"
    )
    place_user_nics(root)
    values = [arg.get("value", "") for arg in root.iter(f"{{{QEMU_NAMESPACE}}}arg")]
    return values[1::2]


@pytest.mark.parametrize(
    ("model", "machine"), [("pci-root", ""), ("", "pc-i440fx-7.2"), ("", "pc")]
)
def test_on_i440fx_they_stand_on_its_bus_in_free_slots_from_the_top(
    model: str, machine: str
) -> None:
    one, two = OURS.format("a", 1, "pcie.0", "0x10"), OURS.format("b", 2, "pcie.0", "0x11")
    made = placed(model, one, two, THEIRS, machine=machine, slots=(0x1E, 0x02))
    assert made == [
        OURS.format("a", 1, "pci.0", "0x1d"),
        OURS.format("b", 2, "pci.0", "0x1c"),
        THEIRS,
    ]
    assert placed(model, *made, machine=machine) == made, "and keep their slots"


@pytest.mark.parametrize(("model", "machine"), [("pcie-root", "pc-q35-7.2"), ("", "q35"), ("", "")])
def test_on_q35_they_stay_as_they_are(model: str, machine: str) -> None:
    one = OURS.format("a", 1, "pcie.0", "0x10")
    assert placed(model, one, THEIRS, machine=machine) == [one, THEIRS]


def test_a_full_bus_is_told() -> None:
    with pytest.raises(PermanentError, match="no slot"):
        placed("pci-root", OURS.format("a", 1, "pcie.0", "0x10"), slots=tuple(range(32)))
