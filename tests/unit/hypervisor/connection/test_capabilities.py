"""KVM counts as usable only when the CPU can really do it."""

import xml.etree.ElementTree as ET

import pytest

from controller.hypervisor.connection.capabilities import kvm_usable


def capabilities(arch: str, kinds: tuple[str, ...], features: tuple[str, ...] = ()) -> ET.Element:
    cpu = "".join(f"<feature name='{name}'/>" for name in features)
    domains = "".join(f"<domain type='{kind}'/>" for kind in kinds)
    return ET.fromstring(
        f"<capabilities><host><cpu><arch>{arch}</arch><model>M</model>{cpu}</cpu></host>"
        f"<guest><os_type>hvm</os_type><arch name='{arch}'>{domains}</arch></guest>"
        "<guest><arch name='riscv64'><domain type='kvm'/></arch></guest></capabilities>"
    )


@pytest.mark.parametrize(
    ("arch", "kinds", "features", "usable"),
    [
        ("x86_64", ("qemu", "kvm"), ("vmx",), True),
        ("x86_64", ("qemu", "kvm"), ("svm",), True),
        ("x86_64", ("qemu", "kvm"), ("hypervisor",), False),
        ("x86_64", ("qemu",), ("vmx",), False),
        ("aarch64", ("qemu", "kvm"), (), True),
        ("aarch64", ("qemu",), (), False),
    ],
)
def test_kvm_needs_the_offer_and_on_x86_the_cpu(
    arch: str, kinds: tuple[str, ...], features: tuple[str, ...], usable: bool
) -> None:
    assert kvm_usable(capabilities(arch, kinds, features)) is usable


def test_a_feature_the_model_implies_counts() -> None:
    assert kvm_usable(capabilities("x86_64", ("kvm",)), frozenset({"svm"}))
