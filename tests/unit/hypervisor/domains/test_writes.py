"""What libvirt has to say may get lost on its way to us."""

import libvirt
import pytest

from controller.hypervisor.domains.guarded_writes import element_of
from tests.libvirt_errors import error_of

LOST = libvirt.libvirtError("virDomainGetMetadata() failed")
LOST.err = None
NO_ELEMENT = error_of(libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_FROM_QEMU, "not found")


class Domain:
    def __init__(self, *answers: str | libvirt.libvirtError) -> None:
        self.answers = list(answers)

    def isPersistent(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def metadata(self, *_: object) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, libvirt.libvirtError):
            raise answer
        return answer


def test_an_error_without_words_is_asked_again_once() -> None:
    assert element_of(Domain(LOST, NO_ELEMENT), "urn:x") is None  # type: ignore[arg-type]
    assert element_of(Domain(LOST, "<x/>"), "urn:x") == "<x/>"  # type: ignore[arg-type]
    with pytest.raises(libvirt.libvirtError):
        element_of(Domain(LOST, LOST), "urn:x")  # type: ignore[arg-type]
