"""Where the serial log stands, and that it is read only where it can be."""

from pathlib import Path

import pytest

from controller.hypervisor.guest_io import serial_log as module
from controller.hypervisor.guest_io.serial_log import last_of, serial_log


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("qemu:///system", True),
        ("qemu+ssh://far/system", True),
        ("qemu+unix:///system?socket=/run/x", True),
        ("qemu:///session", False),
        ("test:///default", False),
    ],
)
def test_it_is_kept_by_the_systems_libvirt_only(uri: str, kept: bool) -> None:
    assert (serial_log(uri, "web1") is not None) is kept


def test_the_last_part_is_read_here_and_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DIRECTORY", tmp_path)
    assert last_of("qemu:///system", "web1", 10) == b""
    (tmp_path / "web1-serial.log").write_bytes(b"0123456789abcdef")
    assert last_of("qemu:///system", "web1", 10) == b"6789abcdef"
    assert last_of("qemu:///system", "web1", 100) == b"0123456789abcdef"
    assert last_of("qemu+ssh://far/system", "web1", 10) == b""
