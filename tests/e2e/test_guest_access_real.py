"""Look, apply and probes on a real guest: Debian on QEMU, through libvirt and the guest agent.

The guest is booted by a small script of its own here, so that this file proves ``guest_access/``
alone. It may stand on any libvirt: ``qemu:///system`` for root, else ``qemu:///session``.
"""

import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from controller.desired.effective import (
    EffectiveGuest,
    EffectiveImage,
    EffectiveService,
    Origin,
    RenderedFile,
)
from controller.desired.schema.guest import GuestSpec
from controller.desired.schema.image import ImageSpec
from controller.desired.schema.service import OnChange
from controller.errors import AgentUnavailableError, PermanentError, TransientError
from controller.guest_access.agent import GuestAgent
from controller.guest_access.inside import ApplyFailedError, InsideAccess
from controller.guest_access.probing import InsideProber
from controller.guest_access.secrets import FileSecrets
from controller.hypervisor.errors.translate import translate
from controller.observed.domain import DomainConfig, DomainState, DomainView, StateReason
from controller.observed.health import ProbeTarget
from controller.planning.compare.changes import inside_changes

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl admin"
BOOT_DEADLINE = 240.0


@dataclass(frozen=True)
class Booted:
    """A running guest and what reaches its inside."""

    name: str
    port: int
    agent: GuestAgent
    access: InsideAccess
    domain: DomainView

    def sh(self, command: str, timeout: float = 60) -> str:
        result = self.agent.exec("local", self.name, ["sh", "-c", command], timeout=timeout)
        assert result.exit_code == 0, (command, result)
        return result.stdout.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _domain_xml(name: str, disk: Path, image: Path, port: int) -> str:
    return f"""
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>512</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{image}/debian12.vmlinuz</kernel>
    <initrd>{image}/debian12.initrd</initrd>
    <cmdline>root=/dev/vda rw console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='unsafe'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <serial type='file'><source path='{disk.parent}/console.log'/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-netdev'/>
    <qemu:arg value='user,id=u0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:80'/>
    <qemu:arg value='-device'/>
    <qemu:arg value='virtio-net-pci,netdev=u0,addr=0x10'/>
  </qemu:commandline>
</domain>"""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    libvirt = pytest.importorskip("libvirt")
    qemu = pytest.importorskip("libvirt_qemu")
    uri = subprocess.run(
        [ROOT / "deploy/libvirt-up.sh"], check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    image = Path(
        subprocess.run(
            [ROOT / "deploy/demo/build-image.sh"], check=True, capture_output=True, text=True
        ).stdout.split("\n")[-2]
    )
    name = f"gktest-{os.getpid()}-inside"
    # Below /var/tmp: QEMU's user must be able to reach it, which pytest's own directory forbids.
    subprocess.run(["mkdir", "-p", work := f"/var/tmp/{name}"], check=True)
    directory = Path(work)
    directory.chmod(0o755)
    disk = directory / "disk.qcow2"
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]
    subprocess.run([*overlay, image / "debian12.qcow2", disk], check=True)
    port = _free_port()
    connection = libvirt.open(uri)
    domain = connection.createXML(
        _domain_xml(name, disk, image, port), libvirt.VIR_DOMAIN_START_AUTODESTROY
    )

    def command(host: str, name: str, text: str, timeout: float) -> str:
        try:
            return str(qemu.qemuAgentCommand(domain, text, int(timeout) + 1, 0))
        except libvirt.libvirtError as error:
            raise translate(error, host, "agent command", agent=True) from error

    libvirt.registerErrorHandler(lambda *_: None, None)
    agent = GuestAgent(command, time.monotonic, threading.Event().wait)
    try:
        deadline = time.monotonic() + BOOT_DEADLINE
        while True:
            try:
                agent.ping("local", name, 2)
                break
            except AgentUnavailableError:
                assert time.monotonic() < deadline, (directory / "console.log").read_text()
                threading.Event().wait(0.2)
        config = DomainConfig(
            name, domain.UUIDString(), "tcg", 1, 1, 2**29, 2**29, "bios", None, (), ()
        )
        view = DomainView(
            name, domain.UUIDString(), DomainState.RUNNING, StateReason.OTHER, None, config, config
        )
        access = InsideAccess(agent, FileSecrets({}), time.time)
        yield Booted(name, port, agent, access, view)
    finally:
        domain.destroy()
        connection.close()
        subprocess.run(["rm", "-rf", work], check=True)


def _service(
    name: str,
    *files: RenderedFile,
    packages: tuple[str, ...] = (),
    unit: str | None = None,
    on_change: OnChange = OnChange.RELOAD,
) -> EffectiveService:
    return EffectiveService(name, packages, files, unit, on_change, (), "")


def _file(path: str, content: str, mode: int = 0o644, owner: str = "root") -> RenderedFile:
    data = content.encode()
    return RenderedFile(path, data, sha256(data).hexdigest(), owner, owner, mode)


def _guest(*services: EffectiveService, keys: Path | None = None) -> EffectiveGuest:
    spec = GuestSpec.model_validate(
        {
            "image": "debian12",
            "memory": {"size": "512Mi"},
            "hostname": "web-1",
            "sshAuthorizedKeysFrom": [{"file": str(keys)}] if keys else [],
        }
    )
    image = ImageSpec.model_validate({"osFamily": "debian", "source": {"file": "debian12.qcow2"}})
    return EffectiveGuest(
        "web-1", (), spec, EffectiveImage("debian12", image, "", ""), services, Origin("x", 1), ""
    )


WEB = _service(
    "nginx",
    _file("/var/www/html/index.html", "hello from web-1\n"),
    _file("/etc/nginx/conf.d/it's $(odd) name.conf", "# odd\n", mode=0o640, owner="www-data"),
    packages=("nginx-light",),
    unit="nginx.service",
)


def _changed(service: EffectiveService, path: str, content: str) -> EffectiveService:
    files = tuple(_file(path, content) if file.path == path else file for file in service.files)
    return replace(service, files=files)


def _served(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        return str(reply.read().decode())


def test_a_bare_guest_becomes_what_its_services_say(booted: Booted, tmp_path: Path) -> None:
    keys = tmp_path / "admin.pub"
    keys.write_text(KEY + "\n")
    guest = _guest(WEB, keys=keys)
    before = booted.access.look(guest, booted.domain)
    assert before.units["nginx.service"].active == "inactive"
    assert before.units["nginx.service"].enabled == "disabled"
    assert before.packages["nginx-light"] is not None
    assert before.missing_ssh_keys == 1
    assert before.hostname == "debian"

    view = booted.access.apply(guest, booted.domain, guest.services)

    assert view.hostname == "web-1"
    assert view.missing_ssh_keys == 0
    assert view.units["nginx.service"].active == "active"
    assert view.units["nginx.service"].enabled == "enabled"
    assert view.pending == ()
    for file in WEB.files:
        fact = view.files[file.path]
        assert (fact.sha256, fact.owner, fact.mode) == (file.sha256, file.owner, file.mode)
    assert len(view.boot_id) == 36
    assert "10.0.2.15" in view.addresses
    assert _served(booted.port) == "hello from web-1\n"
    assert "web-1" in booted.sh("cat /etc/hostname; hostname; getent hosts web-1")
    assert booted.sh("stat -c %a /root/.ssh /root/.ssh/authorized_keys").split() == ["700", "600"]
    assert booted.sh("find / -xdev -name '.gk-*'") == ""

    main = booted.sh("systemctl show -P MainPID nginx")
    again = booted.access.apply(guest, booted.domain, guest.services)
    assert replace(again, looked_at=0.0) == replace(view, looked_at=0.0)
    assert booted.sh("systemctl show -P MainPID nginx") == main


@pytest.mark.parametrize("install", ["", "[Install]\nWantedBy=multi-user.target\n"])
def test_a_oneshot_runs_once_whether_systemd_remembers_it_or_not(
    booted: Booted, install: str
) -> None:
    name = f"gk-once-{len(install)}"
    log = f"/run/{name}.log"
    unit = (
        f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'cat /etc/{name}.conf >>{log}'\n{install}"
    )
    service = _service(
        name,
        _file(f"/etc/systemd/system/{name}.service", unit),
        _file(f"/etc/{name}.conf", "one\n"),
        # Neither dpkg-query nor anybody but apt knows a package of no architecture by one.
        packages=("nginx-common:amd64", "libc6:amd64"),
        unit=f"{name}.service",
    )
    guest = _guest(service)
    for _ in range(2):
        view = booted.access.apply(guest, booted.domain, guest.services)
        assert inside_changes(guest, view) == {}
    assert booted.sh(f"cat {log}") == "one\n"
    changed = _changed(service, f"/etc/{name}.conf", "two\n")
    for _ in range(2):
        booted.access.apply(_guest(changed), booted.domain, [changed])
    assert booted.sh(f"cat {log}") == "one\ntwo\n"


def test_changed_content_is_served_by_a_reload(booted: Booted) -> None:
    booted.access.apply(_guest(WEB), booted.domain, [WEB])
    main = booted.sh("systemctl show -P MainPID nginx")
    page = "/var/www/html/index.html"
    changed = _changed(WEB, page, "good morning\n")
    calls = booted.agent.execs
    booted.access.apply(_guest(changed), booted.domain, [changed])
    assert booted.agent.execs - calls == 1
    assert _served(booted.port) == "good morning\n"
    assert booted.sh("systemctl show -P MainPID nginx") == main


def test_a_stopped_unit_is_started_and_a_reload_that_was_cut_short_is_made_up(
    booted: Booted,
) -> None:
    booted.access.apply(_guest(WEB), booted.domain, [WEB])
    booted.sh("systemctl stop nginx; echo change > /run/guestkeeper/pending.nginx")
    seen = booted.access.look(_guest(WEB), booted.domain)
    assert (seen.units["nginx.service"].active, seen.pending) == ("inactive", ("nginx",))
    view = booted.access.apply(_guest(WEB), booted.domain, [WEB])
    assert (view.units["nginx.service"].active, view.pending) == ("active", ())
    main = booted.sh("systemctl show -P MainPID nginx")
    booted.sh("echo change > /run/guestkeeper/pending.nginx")
    view = booted.access.apply(_guest(WEB), booted.domain, [WEB])
    assert view.pending == ()
    assert booted.sh("systemctl show -P MainPID nginx") == main, "reloaded, not restarted"


def test_a_service_that_cannot_reload_fails_alone_and_says_why(booted: Booted) -> None:
    bad = _service(
        "nginx",
        _file("/etc/nginx/conf.d/bad.conf", "no such directive;\n"),
        unit="nginx.service",
    )
    motd = _service("motd", _file("/etc/motd", "be kind\n"))
    guest = _guest(bad, motd)
    try:
        with pytest.raises(ApplyFailedError) as failed:
            booted.access.apply(guest, booted.domain, guest.services)
        assert failed.value.failures[0].service == "nginx"
        assert failed.value.reason == "ApplyFailed"
        assert 'unknown directive "no"' in str(failed.value)
        assert failed.value.view.pending == ("nginx",)
        assert failed.value.view.files["/etc/motd"].sha256 == motd.files[0].sha256
    finally:
        booted.sh("rm /etc/nginx/conf.d/bad.conf /run/guestkeeper/pending.nginx")


def test_unit_files_are_taken_up_and_packages_that_are_missing_are_told(booted: Booted) -> None:
    unit = "[Service]\nExecStart=/bin/sleep {}\n[Install]\nWantedBy=multi-user.target\n"
    path = "/etc/systemd/system/nap.service"
    nap = _service("nap", _file(path, unit.format(1000)), unit="nap.service")
    nap = replace(nap, on_change=OnChange.RESTART)
    view = booted.access.apply(_guest(nap), booted.domain, [nap])
    assert view.units["nap.service"].enabled == "enabled"
    longer = _changed(nap, path, unit.format(2000))
    booted.access.apply(_guest(longer), booted.domain, [longer])
    assert "sleep 2000" in booted.sh(
        "cat /proc/$(systemctl show -P MainPID nap)/cmdline | tr '\\0' ' '"
    )
    booted.sh("systemctl disable --now nap; rm " + path)


# A repository with one package, in the guest itself: no test asks a mirror.
REPOSITORY = """
set -e
mkdir -p /srv/repo /tmp/p/DEBIAN /tmp/p/usr/bin
echo 'echo hello' > /tmp/p/usr/bin/gk-hello
printf '%s\n' 'Package: gk-hello' 'Version: 1.0-1' 'Architecture: all' 'Maintainer: x' \
    'Description: test' > /tmp/p/DEBIAN/control
cd /srv/repo
dpkg-deb -Znone --root-owner-group -b /tmp/p gk-hello.deb
{
    cat /tmp/p/DEBIAN/control
    echo "Filename: ./gk-hello.deb"
    echo "Size: $(stat -c %s gk-hello.deb)"
    echo "SHA256: $(sha256sum gk-hello.deb | cut -d' ' -f1)"
} > Packages
rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/srv/repo ./' > /etc/apt/sources.list
"""


@pytest.mark.long
def test_packages_are_installed_also_after_dpkg_was_interrupted(booted: Booted) -> None:
    booted.sh(REPOSITORY)
    hello = _service("hello", packages=("gk-hello",))
    seen = booted.access.look(_guest(hello), booted.domain)
    assert seen.packages == {"gk-hello": None}
    view = booted.access.apply(_guest(hello), booted.domain, [hello])
    assert view.packages == {"gk-hello": "1.0-1"}

    booted.sh("dpkg --purge gk-hello; touch /var/lib/dpkg/updates/0001")
    assert booted.access.look(_guest(hello), booted.domain).packages == {"gk-hello": None}
    view = booted.access.apply(_guest(hello), booted.domain, [hello])
    assert view.packages == {"gk-hello": "1.0-1"}

    ghost = _service("ghost", packages=("no-such-package-here",))
    with pytest.raises(ApplyFailedError, match="Unable to locate package no-such-package-here"):
        booted.access.apply(_guest(ghost), booted.domain, [ghost])


@pytest.mark.long
def test_an_apply_that_is_killed_anywhere_converges_when_run_again(booted: Booted) -> None:
    for number, delay in enumerate(("0.05", "0.12", "0.2", "0.3", "0.45")):
        service = _changed(WEB, "/var/www/html/index.html", f"try {number}\n")
        # So many starts within 10 s are more than systemd allows a unit: its count begins anew.
        booted.sh("systemctl stop nginx; systemctl reset-failed nginx; hostname elsewhere")
        killer = f"sleep {delay}; pkill -KILL -f 'sh -[s]'; true"
        thread = threading.Thread(target=booted.sh, args=(killer,))
        thread.start()
        with suppress(TransientError, PermanentError):  # whatever the kill led to
            booted.access.apply(_guest(service), booted.domain, [service])
        thread.join()
        view = booted.access.apply(_guest(service), booted.domain, [service])
        assert view.hostname == "web-1"
        assert view.pending == ()
        assert _served(booted.port) == f"try {number}\n"
    assert booted.sh("find / -xdev -name '.gk-*'") == ""


def _probe(kind: str, **fields: object) -> ProbeTarget:
    values: dict[str, object] = {
        "guest": "web-1", "host": "local", "service": "nginx", "probe": kind,
        "kind": kind, "inside": True, "address": None, "port": 80, "path": "/", "scheme": "http",
        "headers": (), "command": (), "period": 10.0, "timeout": 5.0, "failure_threshold": 3,
        "success_threshold": 1, "initial_delay": 0.0, "startup": 0.0, "epoch": "",
    }  # fmt: skip
    return ProbeTarget(**(values | fields))  # type: ignore[arg-type]


def test_a_probe_is_asked_inside_by_one_exec(booted: Booted) -> None:
    booted.access.apply(_guest(WEB), booted.domain, [WEB])
    cases: list[tuple[ProbeTarget, bool | None, str]] = [
        (_probe("httpGet"), True, "HTTP/1.1 200 OK"),
        (_probe("httpGet", path="/missing"), False, "404"),
        (_probe("httpGet", port=81), False, "nothing accepts connections on port 81"),
        (_probe("httpGet", scheme="https"), None, "needs curl"),
        (_probe("tcpSocket"), True, ""),
        (_probe("tcpSocket", port=81), False, "nothing accepts"),
        (_probe("systemdUnit", command=("nginx.service",)), True, "active"),
        (_probe("systemdUnit", command=("nap.service",)), False, "nap.service is inactive"),
        (_probe("exec", command=("true",)), True, ""),
        (_probe("exec", command=("sh", "-c", "echo it is\nbroken >&2; exit 3")), False, "exited 3"),
        (_probe("exec", command=("sleep", "9"), timeout=0.2), False, "timed out after 0.2 s"),
        (_probe("guestAgentPing"), True, "answers"),
    ]
    prober = InsideProber(booted.agent)
    for target, ok, message in cases:
        calls = booted.agent.execs
        answer = prober.probe(target, booted.name)
        assert answer[0] is ok, (target, answer)
        assert message in answer[1]
        assert booted.agent.execs - calls == (target.kind != "guestAgentPing")


def test_a_look_and_an_apply_cost_a_few_execs(
    booted: Booted, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = _guest(WEB)
    booted.access.apply(guest, booted.domain, [WEB])

    def best(action: object, *arguments: object) -> float:
        times = []
        for _ in range(5):
            start = time.monotonic()
            action(*arguments)  # type: ignore[operator]
            times.append(time.monotonic() - start)
        return min(times)

    def edit() -> None:
        edit.count += 1  # type: ignore[attr-defined]
        page = _changed(WEB, "/var/www/html/index.html", f"{edit.count}\n")  # type: ignore[attr-defined]
        booted.access.apply(_guest(page), booted.domain, [page])

    edit.count = 0  # type: ignore[attr-defined]
    figures = {
        "exec of true": best(booted.sh, "true"),
        "look": best(booted.access.look, guest, booted.domain),
        "apply, nothing to do": best(booted.access.apply, guest, booted.domain, [WEB]),
        "apply, one file and reload": best(edit),
    }
    with capsys.disabled():
        for name, seconds in figures.items():
            print(f"\n{name}: {seconds * 1000:.0f} ms", end="")  # noqa: T201
    floor = figures["exec of true"]
    assert figures["look"] < 8 * floor
    assert figures["apply, nothing to do"] < 8 * floor
    assert figures["apply, one file and reload"] < 25 * floor
