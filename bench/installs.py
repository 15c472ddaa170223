"""Guests of an installed image: one build for ten, then each as quick and as small as any other.

The installer is the tests' stand-in; how long it takes says nothing of Anaconda, and is told for
information only.
"""

import shutil
import time

import libvirt

from bench.daemon_process import DaemonProcess, daemon_process
from bench.documents import GUEST
from bench.lifecycle import TIMEOUT, create_bound, in_turns
from bench.private_libvirtd import private_libvirtd, settings_beside, wait_until
from bench.progress import say
from bench.result import Result
from bench.scratch import POOL, PREFIX, put
from tests.standin import standin

GUESTS = 10
OVERLAY_SHARE = 0.02
INSTALL_TIMEOUT = 900.0
IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {{name: installed}}
spec:
  osFamily: debian
  source:
    kickstart:
      template: server.ks.j2
      version: RHEL9
      location: {{tree: "{tree}"}}
      values: {{standin: [root full]}}
  disk: {{size: 2Gi}}
  builder: {{vcpus: 1, memory: 512Mi}}
"""


def measure(runs: int = 5) -> list[Result]:
    """Medians of ``runs``, after one that is not counted."""
    files = standin.build()
    with private_libvirtd() as libvirtd, standin.serve(files / "tree") as tree:
        settings = settings_beside(libvirtd)
        shutil.copy(standin.HERE / "server.ks.j2", settings.desired_dir)
        put(settings.desired_dir, "image.yaml", IMAGE.format(tree=tree.url))
        with daemon_process(settings) as daemon:
            daemon.wait_ready(TIMEOUT)
            names = [f"{PREFIX}g{number}" for number in range(GUESTS)]
            say(f"  {GUESTS} guests ask for an image that is not there")
            began = time.perf_counter()
            put(settings.desired_dir, "guests.yaml", "---\n".join(map(_off, names)))
            wait_until(lambda: _defined(daemon, names), INSTALL_TIMEOUT, "the guests are defined")
            took = time.perf_counter() - began
            installs = sum(path.endswith("root-full.tar") for path in tree.requests)
            share = _largest_overlay(libvirtd.uri)
            times = in_turns(libvirtd, daemon, "installed", runs)
    return [
        Result(f"installs for {GUESTS} guests of one unbuilt image", installs, None, "", 1),
        Result(f"install by the stand-in → {GUESTS} guests defined", took, None, "s", None),
        Result("installed image: largest overlay of its base", share, None, "", OVERLAY_SHARE),
        Result(
            "installed image: document renamed in → domain running",
            times.create,
            times.create_floor,
            "s",
            create_bound(times),
        ),
    ]


def _off(name: str) -> str:
    return GUEST.format(name=name, image="installed", memory="256Mi") + "  runStrategy: Manual\n"


def _defined(daemon: DaemonProcess, names: list[str]) -> bool:
    answer = daemon.get("guests") or {"items": []}
    off = {item["name"] for item in answer["items"] if item["printable"] == "Stopped"}
    return off >= set(names)


def _largest_overlay(uri: str) -> float:
    """Of the bytes that the base takes in the pool, the most that an overlay takes."""
    connection = libvirt.open(uri)
    try:
        pool = connection.storagePoolLookupByName(POOL)
        pool.refresh()
        taken = {volume.name(): volume.info()[2] for volume in pool.listAllVolumes()}
    finally:
        connection.close()
    (base,) = (size for name, size in taken.items() if name.startswith("gk-base-installed-")
               and not name.endswith(".ok"))  # fmt: skip
    overlays = [size for name, size in taken.items() if name.endswith("-system.qcow2")]
    assert len(overlays) == GUESTS, taken
    return max(overlays) / base
