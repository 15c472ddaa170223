"""Answer files as the installers get them: read back by the programs that are said to read them."""

import gzip
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from controller.desired.effective import EffectiveInstall, InstallKind
from controller.desired.schema.image import Delivery
from controller.images.install import answer_media
from controller.images.install.builder_config import arguments, builder_config, timeout
from controller.observed.build import BuildDrive
from controller.observed.host import HostView
from tests.factories import an_install_image
from tests.unit.images.install.test_build import HASH, Keyring

HOST = HostView("local", "qemu:///system", reachable=True)


def an_install(**changes: object) -> EffectiveInstall:
    install = an_install_image().install
    assert install is not None
    return replace(install, **changes)  # type: ignore[arg-type]


def test_cpio_itself_unpacks_the_overlay_of_an_initrd(tmp_path: Path) -> None:
    overlay = answer_media.initrd_overlay(an_install(), b"poweroff\n")
    archive = gzip.decompress(overlay)
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive, check=True, cwd=tmp_path)
    assert (tmp_path / "ks.cfg").read_bytes() == b"poweroff\n"
    assert (tmp_path / "ks.cfg").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("kind", "delivery", "in_initrd", "label"),
    [
        (InstallKind.KICKSTART, Delivery.INITRD, "ks.cfg", ""),
        (InstallKind.KICKSTART, Delivery.OEMDRV, "", "OEMDRV"),
        (InstallKind.PRESEED, None, "preseed.cfg", ""),
        (InstallKind.AUTOINSTALL, None, "", "CIDATA"),
    ],
)
def test_each_kind_finds_its_answer_file_at_one_place(
    kind: InstallKind, delivery: Delivery | None, in_initrd: str, label: str
) -> None:
    install = an_install(kind=kind, delivery=delivery)
    overlay = answer_media.initrd_overlay(install, b"answer")
    iso = answer_media.answer_iso(install, b"answer")
    assert bool(overlay) == bool(in_initrd)
    assert bool(iso) == bool(label)
    assert label.encode() in iso


@pytest.mark.skipif(shutil.which("blkid") is None, reason="blkid tells labels")
def test_the_volume_of_an_answer_file_has_the_label_that_is_looked_for(tmp_path: Path) -> None:
    install = an_install(delivery=Delivery.OEMDRV)
    (tmp_path / "answer.iso").write_bytes(answer_media.answer_iso(install, b"poweroff\n"))
    told = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "LABEL", "answer.iso"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "OEMDRV"


def test_keys_are_put_in_whole_and_in_order() -> None:
    image = an_install_image(
        answer="echo @guestkeeper:authorized-keys-base64@ | base64 -d\n",
        kickstart={"sshAuthorizedKeysFrom": [{"file": "/admin.pub"}, {"file": "/ops.pub"}]},
    )
    keyring = Keyring()
    keyring.values["/ops.pub"] = "ssh-ed25519 BBBB ops\nssh-ed25519 CCCC ops2\n"
    assert image.install is not None
    script = answer_media.fill("rocky9", image.install, keyring).decode()
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [
        "ssh-ed25519 AAAA admin",
        "ssh-ed25519 BBBB ops",
        "ssh-ed25519 CCCC ops2",
    ]


def test_an_answer_file_without_secrets_is_as_it_was_rendered() -> None:
    assert answer_media.fill("x", an_install(answer=f"# {HASH}\n"), Keyring()) == (
        f"# {HASH}\n".encode()
    )


def location(**fields: object) -> EffectiveInstall:
    made = an_install_image(kickstart={"location": fields}).install
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("install", "words"),
    [
        (
            location(tree="http://127.0.0.1/os/"),
            "inst.ks=file:/ks.cfg inst.cmdline inst.ksstrict inst.notmux inst.nosave=all"
            " inst.repo=http://127.0.0.1/os/ console=ttyS0",
        ),
        (
            replace(location(iso={"volume": "r.iso"}), delivery=Delivery.OEMDRV),
            "inst.cmdline inst.ksstrict inst.notmux inst.nosave=all inst.repo=cdrom console=ttyS0",
        ),
        (
            replace(
                location(kernel="k", initrd="i", args="ip=dhcp"),
                kind=InstallKind.PRESEED,
                delivery=None,
            ),
            "auto=true priority=critical console=ttyS0 ip=dhcp",
        ),
        (
            replace(location(kernel="k", initrd="i"), kind=InstallKind.AUTOINSTALL, delivery=None),
            "autoinstall console=ttyS0",
        ),
    ],
)
def test_the_kernel_arguments_of_each_kind(install: EffectiveInstall, words: str) -> None:
    assert arguments(install) == words


def test_the_builder_has_the_answer_and_the_iso_as_drives() -> None:
    image = an_install_image(
        kickstart={"location": {"iso": {"pool": "isos", "volume": "r.iso"}}, "delivery": "oemdrv"},
        builder={"vcpus": 4, "memory": "4Gi", "network": "lan", "firmware": "efi"},
    )
    assert image.install is not None
    config = builder_config(
        "rocky9.build-1",
        image,
        image.install,
        HOST,
        pool="default",
        disk="gk-base",
    ).with_media("/k", "/i", "answer.iso")
    assert config.drives == (BuildDrive("default", "answer.iso"), BuildDrive("isos", "r.iso"))
    assert (config.vcpus, config.memory, config.network) == (4, 4 << 30, "lan")
    assert (config.firmware, config.accelerator) == ("efi", "tcg")
    assert config.without_installer.drives == ()


def test_an_installer_without_kvm_gets_more_time() -> None:
    image = an_install_image()
    assert timeout(image, HOST) == 180 * 60
    assert timeout(image, replace(HOST, kvm=True)) == 45 * 60
    assert timeout(an_install_image(timeout="10m"), HOST) == 600
