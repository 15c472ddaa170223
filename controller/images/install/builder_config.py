"""The configuration of a builder domain: accelerator, timeout, kernel arguments, drives."""

from controller.desired.effective import EffectiveImage, EffectiveInstall, InstallKind
from controller.desired.schema.image import Delivery
from controller.desired.schema.model import Accelerator
from controller.observed.build import BuildDrive, BuilderConfig
from controller.observed.host import HostView

TIMEOUT_KVM, TIMEOUT_TCG = 45 * 60.0, 180 * 60.0


def accelerator(image: EffectiveImage, host: HostView) -> str:
    """The builder's accelerator: ``kvm`` or ``tcg``."""
    wanted = image.spec.builder.accelerator
    if wanted is Accelerator.AUTO:
        return "kvm" if host.kvm else "tcg"
    return wanted.value


def timeout(image: EffectiveImage, host: HostView) -> float:
    """The seconds that an attempt may take."""
    if image.spec.timeout is not None:
        return image.spec.timeout
    return TIMEOUT_KVM if accelerator(image, host) == "kvm" else TIMEOUT_TCG


def arguments(install: EffectiveInstall) -> str:
    """The installer's kernel arguments: the place of the answer file, no questions, a serial
    console. The Image's own arguments come last, and so win.
    """
    location = install.location
    if install.kind is InstallKind.KICKSTART:
        # nosave: else Anaconda copies its logs and kickstart in after the last %post inspected.
        words = ["inst.cmdline", "inst.ksstrict", "inst.notmux", "inst.nosave=all"]
        if install.delivery is Delivery.INITRD:
            # Without inst.ks Anaconda looks on a volume labelled OEMDRV.
            words.insert(0, "inst.ks=file:/ks.cfg")
        repo = location.tree or location.repo or ("cdrom" if location.iso is not None else None)
        if repo is not None:
            words.append(f"inst.repo={repo}")
    elif install.kind is InstallKind.PRESEED:
        words = ["auto=true", "priority=critical"]
    else:
        words = ["autoinstall"]
    return " ".join([*words, "console=ttyS0", *location.args.split()])


def builder_config(
    name: str,
    image: EffectiveImage,
    install: EffectiveInstall,
    host: HostView,
    *,
    pool: str,
    disk: str,
) -> BuilderConfig:
    """The builder without the media uploaded to start it: kernel, initrd, the answer ISO."""
    builder, iso = image.spec.builder, install.location.iso
    drives = (BuildDrive(iso.pool or pool, iso.volume),) if iso is not None else ()
    return BuilderConfig(
        name=name,
        accelerator=accelerator(image, host),
        vcpus=builder.vcpus,
        memory=builder.memory,
        pool=pool,
        disk=disk,
        args=arguments(install),
        drives=drives,
        firmware=builder.firmware.value,
        network=builder.network,
        bridge=builder.bridge,
    )
