"""The demo's Debian image, built if it is not in the cache yet."""

import subprocess
from pathlib import Path

from bench.private_libvirtd import ROOT


def demo_image() -> Path:
    """The directory of ``debian12.{qcow2,vmlinuz,initrd}``; read-only."""
    built = subprocess.run(
        [str(ROOT / "deploy/demo/build-image.sh")], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(built.stdout.splitlines()[-1])
