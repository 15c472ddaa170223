"""Image documents with unattended installs, as the tests write them."""

from typing import Any

import yaml

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveImage, EffectiveInstall

TREE = "https://mirror.example.org/os/"
END = 'poweroff\n%packages\n@core\n%end\n{% include "snippets/ks-success.ks.j2" %}\n'
"""The end of a kickstart's template with all that it must say."""


def kickstart(name: str = "rocky9", *, spec: dict[str, Any] | None = None, **fields: Any) -> str:
    """An Image document by kickstart; ``fields`` are the kickstart's, ``spec`` the Image's."""
    source = {
        "template": "minimal.ks.j2",
        "version": "RHEL9",
        "location": {"tree": TREE},
        **fields,
    }
    return document(name, "rhel", {"kickstart": source}, spec)


def document(
    name: str, family: str, source: dict[str, Any], spec: dict[str, Any] | None = None
) -> str:
    data = {
        "apiVersion": "guestkeeper/v1alpha1",
        "kind": "Image",
        "metadata": {"name": name},
        "spec": {"osFamily": family, "source": source, **(spec or {})},
    }
    return yaml.safe_dump(data, sort_keys=False)


def install_of(snapshot: Snapshot, name: str = "rocky9") -> EffectiveInstall:
    install = image_of(snapshot, name).install
    assert install is not None
    return install


def image_of(snapshot: Snapshot, name: str = "rocky9") -> EffectiveImage:
    assert snapshot.problems == ()
    return snapshot.images[name]
