"""Unattended installs by the whole daemon, on real libvirt and QEMU, from document to guests.

The installer is the stand-in of ``tests/standin``: it reads what was really delivered, writes a
real root and runs the shipped snippets. What is killed, and what goes wrong, is real; Anaconda,
debian-installer and subiquity themselves are not here.
"""

import base64
import io
import json
import os
import re
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import libvirt
import libvirt_qemu
import pycdlib
import pytest

from tests.e2e.daemon_site import BOOT, Site, a_site
from tests.standin import standin
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
INSTALL = 240.0
"""Seconds a small install may take on a busy machine under TCG; it takes about ten."""
KEPT = """\
apiVersion: guestkeeper/v1alpha1
kind: Service
metadata: {name: kept}
spec: {unit: cron.service}
"""
"""A directory that loses its last document is doubted as a whole."""
HASH = (
    "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/"
    "jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
)
PHASES = ("one", "two", "three")


@pytest.fixture(scope="module")
def tree() -> Iterator[standin.Tree]:
    with standin.serve(standin.build() / "tree") as served:
        yield served


@pytest.fixture(scope="module")
def site(prefix: str) -> Iterator[Site]:
    with a_site(prefix, "unused_base_seconds = 0\nslow_resync_seconds = 10\n") as made:
        for template in ("server.ks.j2", "server.preseed.j2", "server.autoinstall.j2"):
            (made.documents / template).write_text((standin.HERE / template).read_text())
        (made.root / "root.hash").write_text(HASH)
        (made.root / "root.hash").chmod(0o600)
        made.write("kept.yaml", KEPT)
        made.start()
        wait_until(lambda: host_is_there(made), 60, "the host is connected")
        yield made


def host_is_there(site: Site) -> bool:
    return bool(json.loads(site.run("get", "hosts", "-o", "json").stdout)["items"][0]["reachable"])


@pytest.fixture
def install(site: Site, tree: standin.Tree, prefix: str) -> Iterator["Install"]:
    """One image; its documents and builders are gone at the end."""
    made = Install(site, tree, f"{prefix}{time.monotonic_ns() % 10**6}")
    yield made
    made.remove()


class Install:
    """An image that is installed, as its operator sees it."""

    def __init__(self, site: Site, tree: standin.Tree, name: str) -> None:
        self.site = site
        self.tree = tree
        self.name = name

    def document(self, source: dict[str, Any] | None = None, **spec: Any) -> str:
        kickstart = {
            "kickstart": {
                "template": "server.ks.j2",
                "version": "RHEL9",
                "location": {"tree": self.tree.url},
                "values": {"standin": ["root tiny"]},
            }
        }
        document = {
            "apiVersion": "guestkeeper/v1alpha1",
            "kind": "Image",
            "metadata": {"name": self.name},
            "spec": {
                "osFamily": "debian",
                "source": source or kickstart,
                "disk": {"size": "2Gi"},
                "builder": {"vcpus": 1, "memory": "512Mi"},
                "retries": 0,
                **spec,
            },
        }
        return json.dumps(document) + "\n"  # which is YAML, too

    def write(self, values: dict[str, Any] | None = None, **spec: Any) -> None:
        source = json.loads(self.document())["spec"]["source"]
        source["kickstart"].update(spec.pop("kickstart", {}))
        if values is not None:
            source["kickstart"]["values"] = values
        self.site.write(f"{self.name}.yaml", self.document(source, **spec))

    def build(self) -> None:
        """By hand, as nobody uses it."""
        done = self.site.run("images", "build", self.name)
        assert done.returncode == 0, done.stdout + done.stderr

    def seen(self) -> dict[str, Any]:
        done = self.site.run("get", "images", self.name, "-o", "json")
        assert done.returncode in (0, 1), done.stderr
        known = done.returncode == 0  # 1: its document is not read yet
        return dict(json.loads(done.stdout)["item"]) if known else {"pools": []}

    def pool(self) -> dict[str, Any]:
        return dict(self.seen()["pools"][0])

    def ends(self, state: str, timeout: float = INSTALL) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            pools = self.seen()["pools"]
            return pools[0] if pools and pools[0]["state"] in ("Ready", "Failed") else None

        found = wait_until(ended, timeout, f"{self.name} is {state}")
        assert found["state"] == state, found
        self.nothing_else_is_left()
        return dict(found)

    def phase(self, name: str) -> None:
        """Waits until its installer says that it is there, or further."""
        wait_until(
            lambda: any(name in pool["message"] for pool in self.seen()["pools"]),
            INSTALL,
            f"phase {name}",
        )

    def builders(self) -> list[str]:
        return [name for name in self.site.names() if name.startswith(f"{self.name}.build-")]

    def bases(self) -> list[str]:
        """Those with their marker."""
        names = self.site.volumes()
        stem = f"gk-base-{self.name}-"
        return sorted(name for name in names if name.startswith(stem) and f"{name}.ok" in names)

    def nothing_else_is_left(self) -> None:
        """Of this image there are only whole bases, and the disks of guests."""
        bases, guests = self.bases(), re.compile(rf"{self.name}-\d-\w+-system\.qcow2")
        names = {name for name in self.site.volumes() if self.name in name}
        names = {name for name in names if not guests.fullmatch(name)}
        assert names == {*bases, *(f"{name}.ok" for name in bases)}

    def remove(self) -> None:
        (self.site.documents / f"{self.name}.yaml").unlink(missing_ok=True)
        if self.site.process is None:
            self.site.start()
        wait_until(lambda: not self.builders(), INSTALL, "its builders are removed")


def test_one_build_serves_two_guests_and_the_next_one_takes_seconds(
    site: Site, install: Install, tree: standin.Tree
) -> None:
    install.write(
        values={"standin": ["root full"]},
        kickstart={"rootPasswordHashFrom": {"file": str(site.root / "root.hash")}},
    )
    first, second, third = (f"{install.name}-{number}" for number in range(3))
    site.write("guests.yaml", "---\n".join(guest(name, install.name) for name in (first, second)))
    install.phase("installing")
    secret_stands_nowhere(site, install)
    site.wait_ready(first, second, timeout=INSTALL + BOOT)
    kernels = [path for path in tree.requests if path.endswith("vmlinuz")]
    assert len(kernels) == 1, "one build"
    (base,) = install.bases()
    assert not install.builders()
    began = time.monotonic()
    site.write("third.yaml", guest(third, install.name))
    wait_until(lambda: third in site.names(), 30, "the third guest's domain")
    assert time.monotonic() - began < 15, "no install, no copy: an overlay"
    site.wait_ready(third)
    told = {name: identity(site, name) for name in (first, second, third)}
    assert [facts["hostname"] for facts in told.values()] == [first, second, third]
    for what in ("machine-id", "host-key"):
        assert len({facts[what] for facts in told.values()}) == 3, (
            f"each has its own {what}: {told}"
        )
    assert re.search(r"^guestkeeper_image_build_seconds_count\{.*\} 1", metrics(site), re.M)
    events = site.run("events", f"image/{install.name}").stdout
    assert "ImageBuilt" in events

    # A changed answer file is built beside; its guests go on, and are told as outdated.
    install.write(values={"standin": ["root tiny"]})
    wait_until(lambda: len(install.bases()) == 2, INSTALL, "the newer base")
    wait_until(
        lambda: condition(site.guest(first), "Synced")["reason"] == "ReplaceRequired",
        60,
        "the guest is told as outdated",
    )
    assert condition(site.guest(first), "Ready")["status"] == "True"
    assert base in install.bases()

    # No base goes that is used, for all its age; unused ones go.
    for name in ("guests.yaml", "third.yaml"):
        (site.documents / name).unlink()
    connection = libvirt.open(site.libvirtd.uri)
    try:
        for name in told:
            wait_until(
                lambda name=name: condition(site.guest(name), "Orphaned")["status"] == "True",
                60,
                "the guest is an orphan",
            )
            assert base in install.bases()
            domain = connection.lookupByName(name)
            domain.destroy()
            domain.undefine()
        pool = connection.storagePoolLookupByName("gk")
        pool.refresh()
        for volume in pool.listAllVolumes():
            if any(volume.name().startswith(f"{name}-") for name in told):
                volume.delete()
    finally:
        connection.close()
    wait_until(lambda: base not in install.bases(), 60, "the old base is collected")


def guest(name: str, image: str) -> str:
    return textwrap.dedent(
        f"""\
        apiVersion: guestkeeper/v1alpha1
        kind: Guest
        metadata: {{name: {name}}}
        spec:
          image: {image}
          memory: {{size: 256Mi}}
          services:
            - {{name: ssh, unit: ssh.service}}
            - name: web
              unit: nginx.service
              probes: [{{name: unit, systemdUnit: {{unit: nginx.service}}, periodSeconds: 3}}]
        """
    )


def condition(seen: dict[str, Any], type: str) -> dict[str, Any]:
    unknown = {"status": "Unknown", "reason": ""}
    return next((one for one in seen["conditions"] if one["type"] == type), unknown)


def metrics(site: Site) -> str:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(site.root / "gk.sock"))) as client:
        return client.get("http://guestkeeper/metrics").text


def secret_stands_nowhere(site: Site, install: Install) -> None:
    """While the builder runs with it."""
    texts = {
        "metrics": metrics(site),
        "describe": site.run("describe", f"image/{install.name}").stdout,
        "render": site.run("render", install.name).stdout,
        "logs": site.run("logs", f"image/{install.name}").stdout,
        "daemon's log": "".join(path.read_text() for path in site.root.glob("daemon-*.log")),
    }
    connection = libvirt.open(site.libvirtd.uri)
    try:
        for domain in connection.listAllDomains():
            texts[domain.name()] = domain.XMLDesc(0)
    finally:
        connection.close()
    assert install.builders()
    for what, text in texts.items():
        assert text, what
        assert HASH not in text, what
    assert "root.hash" in texts["render"]


def identity(site: Site, name: str) -> dict[str, str]:
    """What makes a guest itself, told by the guest."""
    script = "hostname; cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2"
    connection = libvirt.open(site.libvirtd.uri)
    try:
        domain = connection.lookupByName(name)

        def ask(execute: str, **arguments: Any) -> dict[str, Any]:
            command = json.dumps({"execute": execute, "arguments": arguments})
            return dict(json.loads(libvirt_qemu.qemuAgentCommand(domain, command, 30, 0))["return"])

        pid = ask("guest-exec", path="/bin/sh", arg=["-c", script], **{"capture-output": True})
        done = wait_until(
            lambda: (state := ask("guest-exec-status", pid=pid["pid"]))["exited"] and state,
            60,
            "the guest tells who it is",
        )
    finally:
        connection.close()
    lines = base64.b64decode(done["out-data"]).decode().split()
    return dict(zip(("hostname", "machine-id", "host-key"), lines, strict=True))


Break = Callable[[Site, Install], None]


def pull_the_plug(site: Site, install: Install) -> None:
    install.phase("one")
    connection = libvirt.open(site.libvirtd.uri)
    try:
        connection.lookupByName(install.builders()[0]).destroy()
    finally:
        connection.close()


def kill_qemu(site: Site, install: Install) -> None:
    install.phase("one")
    os.kill(site.qemu(install.builders()[0]), signal.SIGKILL)


def nothing(site: Site, install: Install) -> None:
    """The answer file itself tells the installer to fail."""


BAD_ENDS: list[tuple[dict[str, Any], dict[str, Any], Break, str, str]] = [
    ({"standin": ["root tiny", "fail"]}, {}, nothing, "InstallFailed", "reported a failure"),
    ({"standin": ["root tiny"], "success": False}, {}, nothing, "NoSuccessMarker", "success"),
    ({"standin": ["root tiny", "panic"]}, {}, nothing, "BuilderCrashed", "panicked"),
    (
        {"standin": ["root tiny", "hang"]},
        {"stallTimeout": "8s"},
        nothing,
        "InstallStalled",
        "said nothing for 8 s",
    ),
    (
        {"standin": ["root tiny"], "post": "while :; do gk_say phase on; sleep 1; done"},
        {"timeout": "15s"},
        nothing,
        "InstallTimedOut",
        "longer than 15 s",
    ),
    (
        {
            "standin": ["root tiny"],
            "success": False,
            "post": "gk_sure success",
        },
        {},
        nothing,
        "NotSealed",
        "sealed",
    ),
    ({"standin": ["root tiny"], "post": "gk_say phase one; sleep 99"}, {}, kill_qemu,
     "BuilderCrashed", "QEMU"),
    ({"standin": ["root tiny"], "post": "gk_say phase one; sleep 99"}, {}, pull_the_plug,
     "BuilderDestroyed", "somebody"),
]  # fmt: skip
EACH_TIME = (nothing, "InstallFailed"), (kill_qemu, "BuilderCrashed")
"""The others are told apart by ``tests/unit/images/install/test_build.py`` each time."""


@pytest.mark.parametrize(
    ("values", "spec", "breaks", "reason", "says"),
    [
        pytest.param(*end, marks=() if end[2:4] in EACH_TIME else pytest.mark.long)
        for end in BAD_ENDS
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalnum() else "",
)
def test_each_bad_end_shows_its_reason_its_log_and_its_remedy(
    site: Site,
    install: Install,
    values: dict[str, Any],
    spec: dict[str, Any],
    breaks: Break,
    reason: str,
    says: str,
) -> None:
    install.write(values, **spec)
    install.build()
    breaks(site, install)
    found = install.ends("Failed")
    assert found["reason"] == reason
    assert says in found["message"]
    assert found["stalled"]
    # Who has little time of its own may not have come to a word on a busy machine.
    assert found["log_tail"] or spec
    assert install.bases() == []
    told = site.run("describe", f"image/{install.name}").stdout
    assert reason in told
    assert f"guestkeeper retry {install.name}" in told
    assert "standin:" in site.run("logs", f"image/{install.name}").stdout
    assert re.search(
        rf'image_build_failures_total{{.*image="{install.name}".*reason="{reason}"', metrics(site)
    )


@pytest.mark.long
def test_retries_stop_and_retry_begins_again(site: Site, install: Install) -> None:
    install.write({"standin": ["root tiny", "fail network"]}, retries=1)
    install.build()
    found = install.ends("Failed", timeout=2 * INSTALL)
    log = site.run("logs", f"image/{install.name}").stdout
    assert "attempt 1 of 2" in log and "attempt 2 of 2" in log and "attempt 3" not in log
    assert found["stalled"]
    (site.documents / "server.ks.j2").touch()
    done = site.run("retry", install.name)
    assert done.returncode == 0, done.stderr
    wait_until(
        lambda: install.pool()["state"] == "Preparing" or bool(install.builders()),
        60,
        "it is tried again",
    )
    install.write({"standin": ["root tiny"]})
    install.build()
    install.ends("Ready")
    assert not install.builders()


@pytest.mark.long
def test_a_failed_builder_is_kept_where_it_is_asked_for(site: Site, install: Install) -> None:
    install.write({"standin": ["root tiny", "hang"]}, stallTimeout="8s", keepFailedBuilder=True)
    install.build()
    wait_until(lambda: install.pool()["state"] == "Failed", INSTALL, "it is given up")
    (name,) = install.builders()
    assert site.qemu(name), "it still runs, to be looked at"
    install.write({"standin": ["root tiny"]})
    install.build()
    install.ends("Ready")
    assert not install.builders(), "what was kept went with the newer content"


IN_PHASES = {
    "standin": ["root tiny"],
    "post": "".join(f"gk_say phase {name}; sleep 3; " for name in PHASES),
}


@pytest.mark.long
def test_the_daemon_killed_in_every_phase_ends_in_one_good_base(
    site: Site, install: Install
) -> None:
    install.write(IN_PHASES)
    install.build()
    for name in ("installing", *PHASES):
        install.phase(name)
        site.kill()
        site.start()
    install.ends("Ready")
    assert len(install.bases()) == 1
    wait_until(lambda: not install.builders(), 30, "the builder is removed")
    assert "attempt 2" not in site.run("logs", f"image/{install.name}").stdout


@pytest.mark.long
def test_libvirtd_killed_in_every_phase_ends_in_one_good_base(site: Site, install: Install) -> None:
    install.write(IN_PHASES)
    install.build()
    for name in ("installing", *PHASES):
        install.phase(name)
        site.libvirtd.kill()
        site.libvirtd.start()
        site.run("wait", "--all", "--timeout=1s")  # whatever it says meanwhile
    install.ends("Ready")
    assert len(install.bases()) == 1
    wait_until(lambda: not install.builders(), 30, "the builder is removed")
    assert "attempt 2" not in site.run("logs", f"image/{install.name}").stdout


@pytest.mark.long
def test_qemu_killed_attempt_after_attempt_ends_in_one_good_base(
    site: Site, install: Install
) -> None:
    install.write(IN_PHASES, retries=2)
    install.build()
    for attempt, name in enumerate((PHASES[0], PHASES[-1]), 1):
        install.phase(f"attempt {attempt} of")
        install.phase(name)
        os.kill(site.qemu(install.builders()[0]), signal.SIGKILL)
        install.phase(f"attempt {attempt + 1} of")
    install.ends("Ready", timeout=2 * INSTALL)
    assert len(install.bases()) == 1
    assert not install.builders()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("oemdrv", marks=pytest.mark.long),
        "preseed",
        pytest.param("autoinstall", marks=pytest.mark.long),
    ],
)
def test_each_way_of_delivery_ends_in_a_base(
    site: Site, install: Install, tree: standin.Tree, kind: str
) -> None:
    """The stand-in looks only where the real installer would."""
    values = {"standin": ["root tiny", f"repo {tree.url}"]}
    files = standin.build()
    (site.images / "vmlinuz").write_bytes((files / "vmlinuz").read_bytes())
    (site.images / "initrd").write_bytes((files / "initrd").read_bytes())
    location = {"kernel": "vmlinuz", "initrd": "initrd"}
    if kind == "oemdrv":
        install.write(values, kickstart={"delivery": "oemdrv"})
    else:
        source = {kind: {"template": f"server.{kind}.j2", "values": values, "location": location}}
        site.write(f"{install.name}.yaml", install.document(source))
    install.build()
    install.ends("Ready")
    assert len(install.bases()) == 1
    log = site.run("logs", f"image/{install.name}").stdout
    assert "phase" in log and "success" in log


@pytest.mark.long
def test_an_iso_in_the_pool_is_installed_from_without_its_installer_being_served(
    site: Site, install: Install, tree: standin.Tree
) -> None:
    iso = iso_of(standin.build() / "tree", leave="root-full.tar")
    connection = libvirt.open(site.libvirtd.uri)
    try:
        pool = connection.storagePoolLookupByName("gk")
        xml = f"<volume><name>standin.iso</name><capacity>{len(iso)}</capacity></volume>"
        volume = pool.createXML(xml)
        stream = connection.newStream(0)
        volume.upload(stream, 0, len(iso), 0)
        view = memoryview(iso)
        for start in range(0, len(view), 1 << 18):
            piece = bytes(view[start : start + (1 << 18)])
            sent = 0
            while sent < len(piece):
                sent += stream.send(piece[sent:])
        stream.finish()
        pool.refresh()
        before = len(tree.requests)
        install.write(
            {"standin": ["root tiny"]},
            kickstart={"location": {"iso": {"volume": "standin.iso"}}},
        )
        install.build()
        install.ends("Ready")
        assert tree.requests[before:] == []
        pool.storageVolLookupByName("standin.iso").delete(0)
    finally:
        connection.close()


def iso_of(tree: Path, leave: str) -> bytes:
    """An installation medium with what is in ``tree``, but for the file ``leave``."""
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, vol_ident="STANDIN", rock_ridge="1.09")
    for number, path in enumerate(sorted(tree.rglob("*"))):
        inside = path.relative_to(tree)
        plain = "/".join(("", *(part.upper() for part in inside.parent.parts)))
        if path.is_dir():
            disc.add_directory(f"/{str(inside).upper()}", rr_name=path.name)
        elif path.name != leave:
            disc.add_file(str(path), f"{plain.rstrip('/')}/F{number}.;1", rr_name=path.name)
    out = io.BytesIO()
    disc.write_fp(out)
    disc.close()
    return out.getvalue()
