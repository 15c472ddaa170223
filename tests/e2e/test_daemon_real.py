"""The whole daemon on real guests: from documents to served guests, broken in every way we know.

One daemon, one private libvirtd and two booted guests are shared by the module; each test leaves
them Ready. Commands are run as an operator runs them, and what is judged is what they and the
world say.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest

from tests.e2e.daemon_site import GUESTKEEPER, Site, a_port, a_site
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: debian12}
spec:
  osFamily: debian
  source: {file: debian12.qcow2}
  boot: {kernel: debian12.vmlinuz, initrd: debian12.initrd, args: root=/dev/vda rw console=ttyS0}
"""
CLOUD_INIT = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: cloud}
spec:
  osFamily: debian
  source: {file: cloud.qcow2}
  boot: {kernel: cloud.vmlinuz, initrd: cloud.initrd, args: root=/dev/vda rw console=ttyS0}
  cloudInit: true
"""
BLANK = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: blank}
spec: {osFamily: debian, source: {file: blank.qcow2}}
"""
SERVICE = """\
apiVersion: guestkeeper/v1alpha1
kind: Service
metadata: {name: web}
spec:
  packages: [nginx-light]
  files:
    - path: /var/www/html/index.html
      content: |
        {{ values.greeting }} from {{ guest.name }}
  unit: nginx.service
  onChange: reload
  values: {greeting: hello}
  probes:
    - {name: http, httpGet: {port: 80}, periodSeconds: 2}
    - {name: unit, systemdUnit: {unit: nginx.service}, periodSeconds: 3}
"""
GUEST = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {{name: {name}}}
spec:
  image: debian12
  memory: {{size: 256Mi}}
  interfaces: [{{name: lan, user: {{forwards: ["127.0.0.1:{port}:80/tcp"]}}}}]
  services: [{{use: web, values: {{greeting: {greeting}}}}}]
"""
BARE = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {{name: {name}}}
spec: {{image: blank, memory: {{size: 64Mi}}, disks: [{{name: data, size: 64Mi}}]}}
"""
PERSONAL = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {{name: {name}}}
spec:
  image: cloud
  hostname: personal
  memory: {{size: 512Mi}}
  sshAuthorizedKeysFrom: [{{file: {key}}}]
"""


@pytest.fixture(scope="module")
def site(demo_image: Path, cloudinit_image: Path, prefix: str) -> Iterator[Site]:
    with a_site(prefix) as made:
        for source, name in ((demo_image, "debian12"), (cloudinit_image, "cloud")):
            for suffix in ("qcow2", "vmlinuz", "initrd"):
                shutil.copy(source / f"debian12.{suffix}", made.images / f"{name}.{suffix}")
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", made.images / "blank.qcow2", "16M"],
            check=True,
        )
        made.ports = {f"{prefix}a": a_port(), f"{prefix}b": a_port()}
        made.write("images.yaml", "---\n".join((IMAGE, CLOUD_INIT, BLANK)))
        made.write("service.yaml", SERVICE)
        made.start()
        yield made


@pytest.fixture(scope="module")
def served(site: Site) -> Site:
    """Two guests, Ready and serving."""
    for number, (name, port) in enumerate(site.ports.items()):
        site.write(
            f"guest{number}.yaml", GUEST.format(name=name, port=port, greeting=f"hello{number}")
        )
    site.wait_ready(*site.ports)
    return site


@pytest.fixture
def first(served: Site) -> str:
    return next(iter(served.ports))


def test_documents_become_ready_guests_that_serve(served: Site, first: str) -> None:
    served.serves(first, f"hello0 from {first}")
    found = served.guest(first)
    assert (found["sync"], found["health"], found["printable"]) == ("Synced", "Healthy", "Healthy")


def test_a_converged_directory_plans_no_change(served: Site) -> None:
    done = served.run("plan")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no changes" in done.stdout.lower()


def test_a_changed_directory_plans_fields_class_and_steps(served: Site, first: str) -> None:
    port = served.ports[first]
    text = GUEST.format(name=first, port=port, greeting="planned").replace("256Mi", "320Mi")
    elsewhere = served.root / "planned"
    shutil.copytree(served.documents, elsewhere)
    (elsewhere / "guest0.yaml").write_text(text)
    config = served.root / "plan.toml"
    config.write_text(served.config.read_text().replace(str(served.documents), str(elsewhere)))
    done = subprocess.run(
        [GUESTKEEPER, "--config", config, "plan", first],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert re.search(r"memory\.size.*256Mi.*320Mi.*restart", done.stdout), done.stdout
    assert re.search(r"files\[/var/www/html/index\.html\].*guest", done.stdout), done.stdout
    assert "redefine domain" in done.stdout
    assert "apply web" in done.stdout


def test_a_changed_greeting_is_served_without_a_restart(served: Site, first: str) -> None:
    pid, port = served.qemu(first), served.ports[first]
    served.write("guest0.yaml", GUEST.format(name=first, port=port, greeting="changed"))
    served.serves(first, f"changed from {first}")
    assert served.qemu(first) == pid
    served.wait_ready(first)


def test_a_broken_document_is_named_and_the_last_good_state_goes_on(
    served: Site, first: str
) -> None:
    good = (served.documents / "guest0.yaml").read_text()
    served.write("guest0.yaml", good.replace("memory:", "memroy:"))

    def told() -> bool:
        return "memroy" in served.run("get", "problems").stdout

    wait_until(told, 20, "the problem is listed")
    line = served.run("get", "problems").stdout
    assert re.search(r"guest0\.yaml:6 +spec\.memroy +.*did you mean `memory`", line), line
    served.serves(first, f"from {first}")
    served.write("guest0.yaml", good)
    wait_until(lambda: not told(), 20, "the problem is gone")


@pytest.mark.parametrize("how", ["virsh destroy", pytest.param("kill -9", marks=pytest.mark.long)])
def test_a_guest_that_was_killed_comes_back_by_itself(served: Site, how: str) -> None:
    # Each a fresh guest of the two: the second start within the hour waits 10 s.
    name = list(served.ports)[how == "kill -9"]
    pid = served.qemu(name)
    if how == "kill -9":
        os.kill(pid, signal.SIGKILL)
    else:
        connection = libvirt.open(served.libvirtd.uri)
        connection.lookupByName(name).destroy()
        connection.close()
    wait_until(lambda: served.libvirtd.qemu_pids(name) not in ([], [pid]), 30, f"{name} runs again")
    served.wait_ready(name)
    served.serves(name, f"from {name}")


def test_a_service_stopped_in_the_guest_is_repaired(served: Site, first: str) -> None:
    pid = served.qemu(first)
    _inside(served, first, "systemctl stop nginx.service")

    def refused() -> bool:
        try:
            served.page(first)
        except OSError:
            return True
        return False

    wait_until(refused, 20, "nginx stopped")
    served.serves(first, f"from {first}", timeout=90)
    assert served.qemu(first) == pid
    served.wait_ready(first)


def test_a_hardware_change_waits_for_a_cold_boot_and_keeps_what_others_added(
    served: Site,
) -> None:
    name = list(served.ports)[1]
    text = GUEST.format(name=name, port=served.ports[name], greeting="hello1")
    connection = libvirt.open(served.libvirtd.uri)
    domain = connection.lookupByName(name)
    by_hand = "<watchdog model='i6300esb' action='none'/>"
    domain.attachDeviceFlags(by_hand, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    addresses = _addresses(domain)
    pid = served.qemu(name)
    served.write("guest1.yaml", text.replace("256Mi", "320Mi"))
    done = served.run("wait", name, "--for=condition=RestartRequired", "--timeout=30")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory.size" in served.run("explain", name).stdout
    assert served.qemu(name) == pid
    domain.destroy()
    wait_until(lambda: served.libvirtd.qemu_pids(name) not in ([], [pid]), 60, "it runs again")
    served.wait_ready(name)
    wait_until(lambda: served.guest(name)["sync"] == "Synced", 60, "it is as wanted")
    assert domain.maxMemory() == 320 * 1024
    assert _addresses(domain) == addresses
    assert "i6300esb" in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    connection.close()


def _addresses(domain: libvirt.virDomain) -> list[str]:
    """PCI addresses of the definition, in its order."""
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return sorted(re.findall(r"<address type='pci'[^>]*>", xml))


@pytest.mark.long
def test_a_cloud_init_image_is_personalised_and_its_seed_is_gone_afterwards(served: Site) -> None:
    name = f"{served.prefix}c"
    key = served.root / "admin.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample admin@example\n")
    served.write("personal.yaml", PERSONAL.format(name=name, key=key))
    served.wait_ready(name)
    wait_until(lambda: served.guest(name)["sync"] == "Synced", 60, "it is Synced")
    wait_until(
        lambda: not any(v.endswith((".iso", ".iso.ok")) for v in served.volumes()), 30, "no seed"
    )
    said = _inside(served, name, "hostname; grep -c admin@example /root/.ssh/authorized_keys")
    assert said.split() == ["personal", "1"]
    # And once more without the seed, which is gone for good.
    connection = libvirt.open(served.libvirtd.uri)
    domain = connection.lookupByName(name)
    pid = served.qemu(name)
    domain.destroy()
    wait_until(lambda: served.libvirtd.qemu_pids(name) not in ([], [pid]), 30, "it runs again")
    served.wait_ready(name)
    assert served.guest(name)["sync"] == "Synced"
    (served.documents / "personal.yaml").unlink()
    wait_until(lambda: "Orphaned" in served.run("describe", name).stdout, 30, "it is Orphaned")
    domain.destroy()
    domain.undefine()
    connection.close()


def _inside(site: Site, name: str, script: str) -> str:
    """What a shell command prints in the guest."""
    import base64

    connection = libvirt.open(site.libvirtd.uri)
    domain = connection.lookupByName(name)

    def agent(execute: str, **arguments: object) -> dict:  # type: ignore[type-arg]
        command = json.dumps({"execute": execute, "arguments": arguments})
        answer = json.loads(libvirt_qemu.qemuAgentCommand(domain, command, 10, 0))
        return answer["return"]  # type: ignore[no-any-return]

    pid = agent("guest-exec", path="/bin/sh", arg=["-c", script], **{"capture-output": True})["pid"]
    ended = wait_until(
        lambda: (found := agent("guest-exec-status", pid=pid))["exited"] and found, 30, script
    )
    connection.close()
    return base64.b64decode(ended.get("out-data", "")).decode()


def test_a_foreign_domain_of_a_guests_name_is_left_alone_and_the_conflict_told(
    served: Site,
) -> None:
    name = f"{served.prefix}foreign"
    connection = libvirt.open(served.libvirtd.uri)
    xml = f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>" \
          "<os><type>hvm</type></os></domain>"  # fmt: skip
    domain = connection.defineXML(xml)
    before = domain.XMLDesc()
    try:
        served.write("foreign.yaml", BARE.format(name=name))
        done = served.run("wait", name, "--for=condition=Synced=False", "--timeout=30")
        assert done.returncode == 0, done.stdout + done.stderr
        said = served.run("explain", name).stdout
        assert "not Guestkeeper's" in said
        assert "virsh domrename" in said.replace("\n", " ")
        assert domain.XMLDesc() == before
        assert not domain.isActive()
        assert not any(volume.startswith(name) for volume in served.volumes())
    finally:
        (served.documents / "foreign.yaml").unlink()
        domain.undefine()
        connection.close()


@pytest.mark.long
def test_killed_at_any_time_a_new_daemon_ends_in_the_same_state(served: Site) -> None:
    """SIGKILL at many moments of a creation; every half-made guest is finished, none is doubled."""
    expected = set()
    for number in range(8):
        name = f"{served.prefix}k{number}"
        expected.add(name)
        served.write(f"k{number}.yaml", BARE.format(name=name))
        time.sleep(0.25 + 0.09 * number)  # the moment of the kill is what is varied
        served.kill()
        served.start()

    def all_running() -> bool:
        return all(len(served.libvirtd.qemu_pids(name)) == 1 for name in expected)

    wait_until(all_running, 90, "every guest runs once")
    mine = {volume for volume in served.volumes() if f"{served.prefix}k" in volume}
    kinds = sorted(re.sub(r"-[0-9a-f]{8}-", "-", volume) for volume in mine)
    assert kinds == sorted(
        f"{name}-{disk}.qcow2" for name in expected for disk in ("data", "system")
    )
    for number in range(8):
        (served.documents / f"k{number}.yaml").unlink()

    def orphaned() -> bool:
        return all("Orphaned" in served.run("describe", name).stdout for name in expected)

    wait_until(orphaned, 60, "the guests of vanished documents are Orphaned")
    connection = libvirt.open(served.libvirtd.uri)
    for name in expected:  # still running: a vanished document leaves its guest alone
        domain = connection.lookupByName(name)
        assert domain.isActive()
        domain.destroy()
        domain.undefine()
    connection.close()
    served.wait_ready(*served.ports)


def test_while_libvirtd_is_gone_nothing_is_done_and_nothing_is_lost(served: Site) -> None:
    """The issue's 60 s are kept by hand; here long enough for every timer of the loop to fire."""
    pids = {name: served.qemu(name) for name in served.ports}
    served.libvirtd.stop()

    def unknown() -> bool:
        return all(served.guest(name)["health"] == "Unknown" for name in served.ports)

    wait_until(unknown, 30, "both guests are Unknown")
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert unknown()
        served.serves(next(iter(served.ports)), "from", timeout=5)
        time.sleep(1)  # a stretch of time is what is tested
    served.libvirtd.start()
    served.wait_ready(*served.ports, timeout=90)
    assert {name: served.qemu(name) for name in served.ports} == pids


def test_a_restarted_daemon_changes_nothing(served: Site) -> None:
    pids = {name: served.qemu(name) for name in served.ports}
    events = _libvirt_events(served, lambda: _restart(served))
    assert events == []
    assert {name: served.qemu(name) for name in served.ports} == pids


def _restart(served: Site) -> None:
    served.stop()
    served.start()
    served.wait_ready(*served.ports)


def test_a_converged_site_stays_still(served: Site) -> None:
    """Several resyncs and rescans long; the issue's ten minutes are kept by hand."""

    def wait() -> None:
        until = time.monotonic() + 25
        while time.monotonic() < until:
            time.sleep(1)  # a stretch of time is what is tested

    assert _libvirt_events(served, wait) == []


def _libvirt_events(served: Site, during: Callable[[], None]) -> list[str]:
    """Lifecycle events of the site's guests that an independent listener sees meanwhile."""
    seen: list[str] = []
    script = (
        "import libvirt, sys\n"
        "libvirt.virEventRegisterDefaultImpl()\n"
        f"c = libvirt.open({served.libvirtd.uri!r})\n"
        "def told(c, d, event, detail, _): print(d.name(), event, detail, flush=True)\n"
        "c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, told, None)\n"
        "print('ready', flush=True)\n"
        "while True: libvirt.virEventRunDefaultImpl()\n"
    )
    listener = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert listener.stdout is not None
    assert listener.stdout.readline() == "ready\n"
    lines = listener.stdout

    def read() -> None:
        seen.extend(line.strip() for line in lines)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        during()
    finally:
        listener.terminate()
        listener.wait(10)
        reader.join(10)
        listener.stdout.close()
    return seen
