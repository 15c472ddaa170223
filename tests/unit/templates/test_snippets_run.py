"""The shared scripts do what they say: run for real, by every shell that an installer may have."""

import base64
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.desired.effective import AUTHORIZED_KEYS_BASE64, ROOT_PASSWORD_HASH
from tests.waiting import wait_until

from . import rendering
from .port import Port
from .rendering import PRESEEDS, scripts, snippet

SHELLS = {"bash": ["bash"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
HASH = "$6$salt$Jdsq2vrK0ov0nYKaU3yF"
MACHINE_ID = "0123456789abcdef0123456789abcdef\n"
LOCAL = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "GK_PATIENCE": "1", "GK_PAUSE": "0.1"}

every_shell = pytest.mark.parametrize("shell", SHELLS)


@pytest.fixture
def port() -> Iterator[Port]:
    with Port() as port:
        yield port


@contextlib.contextmanager
def running(
    shell: str, script: str, port: Port | None, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """The script being run, and not for longer than the block."""
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"needs {shell}")
    process = subprocess.Popen(
        [*SHELLS[shell], "-c", script],
        env={**LOCAL, "GK_PORT": port.path if port is not None else "/nowhere", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> str:
    """What it printed, when it has ended; fails unless it ended well."""
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return printed + errors


def run(shell: str, script: str, port: Port | None = None, **env: str) -> str:
    """What it printed; fails unless it ended well."""
    with running(shell, script, port, **env) as process:
        return ended(process)


# --- report.sh ------------------------------------------------------------------------------------


@every_shell
def test_a_phase_is_said_once_and_not_waited_for(shell: str, port: Port) -> None:
    run(shell, f"set -eu\n{snippet('report.sh.j2')}\ngk_say phase packages", port)
    assert port.lines() == ["phase packages"]


@every_shell
def test_success_is_said_again_until_it_is_answered(shell: str, port: Port) -> None:
    with running(shell, f"set -eu\n{snippet('report.sh.j2')}\ngk_sure success", port) as process:
        assert port.line() == "success"
        assert port.line() == "success"
        port.answer("what?")
        assert port.line() == "success"
        assert process.poll() is None
        port.answer("ok")
        assert ended(process) == ""


@every_shell
def test_success_is_said_once_where_the_daemon_answers(shell: str, port: Port) -> None:
    with running(shell, f"set -eu\n{snippet('report.sh.j2')}\ngk_sure success", port) as process:
        assert port.line() == "success"
        port.answer("ok\r")
        assert ended(process) == ""
    assert port.lines() == []


@every_shell
def test_a_seal_that_a_killed_daemon_forgot_is_said_with_every_success(
    shell: str, port: Port
) -> None:
    script = f"set -eu\n{snippet('report.sh.j2')}\nGK_VERDICT=sealed\ngk_sure success"
    with running(shell, script, port) as process:
        assert [port.line() for _ in range(4)] == ["sealed", "success"] * 2
        port.answer("ok")
        ended(process)


@every_shell
def test_what_was_found_unsealed_is_not_said_again(shell: str, port: Port) -> None:
    script = f"{snippet('report.sh.j2')}\nGK_VERDICT='unsealed /etc'\ngk_sure success"
    with running(shell, script, port) as process:
        assert port.line() == "success"
        port.answer("ok")
        ended(process)


@every_shell
def test_a_failure_is_one_line_whatever_is_in_it(shell: str, port: Port) -> None:
    text = "disk full\n\tat 12 %s \\n 'und' größer" + "x" * 5000
    script = f'{snippet("report.sh.j2")}\ngk_sure failure "$TEXT"'
    with running(shell, script, port, TEXT=text) as process:
        line = port.line()
        port.answer("ok")
        ended(process)
    assert line.startswith("failure disk full  at 12 %s \\n 'und' größerxxx")
    assert len(line) <= 2000


@every_shell
def test_a_failure_that_nobody_answers_is_given_up(shell: str) -> None:
    script = f"{snippet('report.sh.j2')}\ngk_sure failure it broke || echo given up"
    assert run(shell, script, None, GK_PORT="/dev/null") == "given up\n"


@every_shell
def test_an_install_by_hand_which_has_no_port_goes_on(shell: str) -> None:
    script = f"set -eu\n{snippet('report.sh.j2')}\ngk_say phase one\ngk_sure success"
    assert run(shell, script).count("no port to say it on") == 2


# --- seal.sh --------------------------------------------------------------------------------------

LEFT = {
    "etc/machine-id": MACHINE_ID,
    "var/lib/dbus/machine-id": MACHINE_ID,
    "etc/ssh/ssh_host_rsa_key": "secret",
    "etc/ssh/ssh_host_rsa_key.pub": "public",
    "etc/ssh/ssh_host_ed25519_key": "secret",
    "var/lib/systemd/random-seed": "seed",
    "var/lib/urandom/random-seed": "seed",
    "boot/efi/loader/random-seed": "seed",
    "var/lib/NetworkManager/secret_key": "secret",
    "var/lib/NetworkManager/internal-1-eth0.lease": "lease",
    "var/lib/dhcp/dhclient.eth0.leases": "lease",
    "root/.bash_history": "rm -rf",
    "root/anaconda-ks.cfg": f"rootpw --iscrypted {HASH}",
    "root/original-ks.cfg": f"rootpw --iscrypted {HASH}",
    "var/log/anaconda/anaconda.log": "log",
    "var/log/installer/autoinstall-user-data": HASH,
    "var/log/installer/cdebconf/questions.dat": HASH,
    "var/log/journal/0123/system.journal": "log",
    "var/log/dnf.log": "log",
    "var/log/apt/history.log": "log",
    "var/log/dnf.log.1": "log",
    "var/log/syslog.2.gz": "log",
    "var/lib/cloud/instances/nocloud/user-data.txt": "data",
    "etc/cloud/cloud.cfg.d/99-installer.cfg": HASH,
    "var/cache/apt/archives/bash.deb": "big",
}
KEPT = {
    "etc/ssh/sshd_config": "PermitRootLogin prohibit-password",
    "etc/shadow": f"root:{HASH}:19000::::::",
    "etc/shadow-": f"root:{HASH}:19000::::::",
    "etc/cloud/cloud.cfg.d/05_logging.cfg": "log",
    "root/.ssh/authorized_keys": "ssh-ed25519 AAAA",
    "boot/vmlinuz": "kernel",
    "var/lib/dpkg/status": "packages",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A freshly installed system that is not sealed."""
    root = tmp_path / "root"
    for name, text in {**LEFT, **KEPT}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def seal_script() -> str:
    text = f"set -eu\n{snippet('report.sh.j2')}\n{snippet('seal.sh.j2')}"
    return text.replace(ROOT_PASSWORD_HASH, HASH)


def sealed(shell: str, root: Path, port: Port) -> list[str]:
    """What is said when ``root`` is sealed and inspected."""
    run(shell, seal_script(), port, GK_ROOT=str(root))
    return port.lines()


@every_shell
def test_a_fresh_system_is_sealed_and_said_to_be(shell: str, root: Path, port: Port) -> None:
    assert sealed(shell, root, port) == ["sealed"]
    left = {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    emptied = {"etc/machine-id", "var/log/dnf.log", "var/log/apt/history.log"}
    assert left == set(KEPT) | emptied
    for name in emptied:
        assert (root / name).read_text() == ""
    for name, text in KEPT.items():
        assert (root / name).read_text() == text
    assert (root / "var/lib/dbus/machine-id").readlink() == Path("/etc/machine-id")


@every_shell
def test_a_sealed_system_can_be_sealed_again(shell: str, root: Path, port: Port) -> None:
    assert sealed(shell, root, port) == ["sealed"]
    assert sealed(shell, root, port) == ["sealed"]


@every_shell
def test_an_almost_empty_root_is_sealed(shell: str, tmp_path: Path, port: Port) -> None:
    (tmp_path / "etc").mkdir()
    assert sealed(shell, tmp_path, port) == ["sealed"]
    assert (tmp_path / "etc/machine-id").read_text() == ""


# Directories where files belong cannot be sealed, whoever tries: root may do all else.
STUBBORN = {
    "etc/machine-id": "/etc/machine-id holds an id",
    "var/lib/dbus/machine-id": "/var/lib/dbus/machine-id holds an id",
    "etc/ssh/ssh_host_ed25519_key": "/etc/ssh/ssh_host_ed25519_key is there",
    "var/lib/systemd/random-seed": "/var/lib/systemd/random-seed is there",
    "root/anaconda-ks.cfg": "/root/anaconda-ks.cfg is there",
    "etc/cloud/cloud.cfg.d/99-installer.cfg": "/etc/cloud/cloud.cfg.d/99-installer.cfg is there",
}


@every_shell
@pytest.mark.parametrize("name", STUBBORN)
def test_what_cannot_be_sealed_is_said_and_nothing_is_said_to_be_sealed(
    shell: str, name: str, root: Path, port: Port
) -> None:
    (root / name).unlink()
    (root / name).mkdir()
    (root / name / "inside").write_text("still here")
    assert sealed(shell, root, port) == [f"unsealed {STUBBORN[name]}"]


@every_shell
def test_everything_that_is_left_is_said_on_a_line_of_its_own(
    shell: str, root: Path, port: Port
) -> None:
    script = re.sub(r"(?s)\ngk_seal\(\) \{.*?\n\}\n", "\ngk_seal() { false; }\n", seal_script())
    run(shell, script, port, GK_ROOT=str(root))
    said = port.lines()
    assert all(line.startswith("unsealed /") for line in said)
    assert len(said) == len(set(said)) > 15
    assert "unsealed /var/log/dnf.log is a log with content" in said
    assert "unsealed /var/log/installer is there" in said
    assert "unsealed /var/lib/cloud/instances is there" in said


@every_shell
@pytest.mark.parametrize("name", ["etc/motd", "root/notes", "var/tmp/ks.cfg"])
def test_a_copy_of_the_password_s_hash_anywhere_is_found(
    shell: str, name: str, root: Path, port: Port
) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(f"password {HASH}\n")
    assert sealed(shell, root, port) == [f"unsealed /{name} holds the root password's hash"]


@every_shell
def test_an_id_that_is_marked_as_not_made_yet_is_none(shell: str, root: Path, port: Port) -> None:
    script = re.sub(r"(?s)\ngk_seal\(\) \{.*?\n\}\n", "\ngk_seal() { false; }\n", seal_script())
    (root / "etc/machine-id").write_text("uninitialized\n")
    run(shell, script, port, GK_ROOT=str(root))
    assert not [line for line in port.lines() if "/etc/machine-id" in line]


@pytest.mark.parametrize("shell", ["bash", "dash"])  # busybox finds its own programs
def test_an_inspection_that_cannot_look_says_so(
    shell: str, root: Path, port: Port, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dash", "busybox", "cat", "cut", "tr", "sed", "rm", "ln", "sync", "sleep"):
        found = shutil.which(name)
        if found is not None:
            (programs / name).symlink_to(found)
    script = f"PATH={programs}\n{seal_script()}"
    run(shell, script, port, GK_ROOT=str(root))
    said = port.lines()
    assert said == [
        "unsealed there is no find to look with",
        "unsealed there is no grep to look with",
    ]


# --- The installed system's own ------------------------------------------------------------------


def inside(root: Path, script: str, programs: Path) -> None:
    """Runs a script as if ``root`` were /: its absolute paths lead there."""
    for top in ("etc", "root", "usr/local"):
        script = re.sub(rf"(?<![\w.}}])/{top}/", f"{root}/{top}/", script)
    run("dash", f"set -eu\n{script}", PATH=f"{programs}:{os.environ['PATH']}")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory of programs that must not be the host's: they write down how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "restorecon"):
        (programs / name).write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/{name}\n')
        (programs / name).chmod(0o755)
    return programs


# The settings as the packages have them; the lists are shortened.
AGENT_SETTINGS = {
    "RHEL 8": (
        'BLACKLIST_RPC="guest-file-open,guest-exec,guest-exec-status"\nFSFREEZE_HOOK_ENABLE=0\n',
        'BLACKLIST_RPC=""\nFSFREEZE_HOOK_ENABLE=0\n',
    ),
    "RHEL 9.0": ("BLOCK_RPCS=guest-file-open,guest-exec\n", 'BLOCK_RPCS=""\n'),
    "RHEL 9.3": (
        '# FILTER_RPC_ARGS="--allow-rpcs="\nFILTER_RPC_ARGS="--block-rpcs=guest-exec"\n',
        '# FILTER_RPC_ARGS="--allow-rpcs="\nFILTER_RPC_ARGS=""\n',
    ),
    "RHEL 9.4": (
        'FILTER_RPC_ARGS="--allow-rpcs=guest-sync-delimited,guest-ping"\n',
        'FILTER_RPC_ARGS=""\n',
    ),
    "RHEL 10": (
        'QEMU_GA_ARGS="--allow-rpcs=guest-sync,guest-ping"\n',
        'QEMU_GA_ARGS=""\n',
    ),
    "RHEL 10, other arguments": (
        'QEMU_GA_ARGS="-v --block-rpcs=guest-exec --logfile=/var/log/a-b.log"\n',
        'QEMU_GA_ARGS="-v  --logfile=/var/log/a-b.log"\n',
    ),
    "Fedora": ("QEMU_GA_ARGS=-b guest-exec\n", "QEMU_GA_ARGS=\n"),
    "Fedora, untouched": (
        '#QEMU_GA_ARGS="--block-rpcs=guest-exec"\n',
        '#QEMU_GA_ARGS="--block-rpcs=guest-exec"\n',
    ),
}


@pytest.mark.parametrize("release", AGENT_SETTINGS)
def test_the_guest_agent_may_run_programs_on_every_release(
    release: str, tmp_path: Path, programs: Path
) -> None:
    before, after = AGENT_SETTINGS[release]
    settings = tmp_path / "etc/sysconfig/qemu-ga"
    settings.parent.mkdir(parents=True)
    settings.write_text(before)
    inside(tmp_path, snippet("agent.sh.j2"), programs)
    assert settings.read_text() == after
    assert (tmp_path / "systemctl").read_text() == "enable qemu-guest-agent.service\n"


def test_a_configuration_file_of_the_guest_agent_loses_its_lists_alone(
    tmp_path: Path, programs: Path
) -> None:
    settings = tmp_path / "etc/qemu/qemu-ga.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("[general]\ndaemon = 0\nallow-rpcs = guest-ping\nblock-rpcs=guest-exec\n")
    inside(tmp_path, snippet("agent.sh.j2"), programs)
    assert settings.read_text() == "[general]\ndaemon = 0\n"


def test_authorized_keys_are_written_for_root_s_eyes_alone(tmp_path: Path, programs: Path) -> None:
    keys = "ssh-ed25519 AAAAC3 admin@example\nssh-rsa AAAAB3 größer\n"
    encoded = base64.b64encode(keys.encode()).decode()
    (tmp_path / "root").mkdir()
    script = snippet("keys.sh.j2").replace(AUTHORIZED_KEYS_BASE64, encoded)
    inside(tmp_path, script, programs)
    written = tmp_path / "root/.ssh/authorized_keys"
    assert written.read_text() == keys
    assert (written.stat().st_mode & 0o777, written.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (tmp_path / "restorecon").read_text() == f"-R {tmp_path}/root/.ssh\n"


def test_boot_entries_keep_the_name_they_were_made_with(tmp_path: Path, programs: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text(MACHINE_ID)
    for _ in range(2):
        inside(tmp_path, snippet("boot-entries.sh.j2").replace("/etc/", "/etc/"), programs)
    said = (tmp_path / "etc/machine-info").read_text()
    assert said == f"KERNEL_INSTALL_MACHINE_ID={MACHINE_ID}"


# --- Debian's installer ---------------------------------------------------------------------------


class Installer:
    """The script that debian-installer runs, with its paths leading into a directory."""

    def __init__(self, template: str, directory: Path) -> None:
        self._directory = directory
        answer = rendering.plain(template).replace(ROOT_PASSWORD_HASH, HASH)
        script = dict(scripts(template, answer))["installer"]
        for path in (
            "/var/log/syslog",
            "/target",
            "/usr/lib",
            "/tmp/guestkeeper.sh",
            "/preseed.cfg",
        ):
            script = script.replace(path, f"{directory}{path}")
        self.place("tmp/guestkeeper.sh", script)
        self.place("preseed.cfg", answer)
        self.place("var/log/syslog", "installed\n")
        self.place("bin/modprobe", "#!/bin/sh\n")
        (directory / "target/root").mkdir(parents=True)

    def place(self, name: str, text: str) -> None:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    @contextlib.contextmanager
    def run(self, *words: str, port: Port) -> Iterator[subprocess.Popen[bytes]]:
        """The script being run by the installer's shell, and not for longer than the block."""
        path = f"{self._directory}/bin:{os.environ['PATH']}"
        with subprocess.Popen(
            ["busybox", "sh", str(self._directory / "tmp/guestkeeper.sh"), *words],
            env={**LOCAL, "PATH": path, "GK_PORT": port.path},
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def commands_with(text: str) -> list[bytes]:
    """Command lines of running processes that have ``text`` in them."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(process.read_bytes())
    return [command for command in found if text.encode() in command]


@pytest.fixture(params=PRESEEDS)
def installer(request: pytest.FixtureRequest, tmp_path: Path) -> Installer:
    if shutil.which("busybox") is None:
        pytest.skip("needs busybox")
    return Installer(request.param, tmp_path)


def test_debian_s_installer_configures_the_system_it_has_installed(
    installer: Installer, port: Port, tmp_path: Path
) -> None:
    installer.place("bin/in-target", f'#!/bin/sh\n"$1" -n {tmp_path}/target"$2" && touch $0.ran\n')
    with installer.run("configure", port=port) as process:
        assert process.wait(60) == 0
    assert port.lines() == ["phase configuring"]
    assert (tmp_path / "bin/in-target.ran").exists()
    assert list((tmp_path / "target/root").iterdir()) == []


def test_debian_s_installer_stops_and_says_why_when_configuring_fails(
    installer: Installer, port: Port
) -> None:
    installer.place("bin/in-target", "#!/bin/sh\necho no space left on device\nexit 1\n")
    with installer.run("configure", port=port) as process:
        assert port.line() == "phase configuring"
        said = port.line()
        port.answer("ok")
        assert process.wait(60) == 1
    assert said.startswith("failure ") and "no space left on device" in said


def test_debian_s_installer_seals_at_its_very_end(
    installer: Installer, port: Port, tmp_path: Path
) -> None:
    installer.place("target/var/log/installer/syslog", HASH)
    installer.place("target/etc/machine-id", MACHINE_ID)
    with installer.run("finish", port=port) as process:
        said = [port.line() for _ in range(4)]
        port.answer("ok")
        assert process.wait(60) == 0
    assert said == ["phase sealing", "sealed", "sealed", "success"]
    assert not (tmp_path / "target/var/log/installer").exists()


def test_debian_s_installer_is_watched_for_a_step_that_fails(
    installer: Installer, port: Port, tmp_path: Path
) -> None:
    with installer.run("begin", port=port) as process:
        assert process.wait(60) == 0
    assert port.line() == "phase preparing"
    hooks = tmp_path / "usr/lib"
    names = sorted(str(path.relative_to(hooks)) for path in hooks.rglob("*") if path.is_file())
    assert names == [
        "base-installer.d/01guestkeeper",
        "finish-install.d/94zz-guestkeeper",
        "pre-pkgsel.d/01guestkeeper",
    ]
    with (tmp_path / "var/log/syslog").open("a") as log:
        log.write("main-menu[1]: WARNING **: Menu item 'bootstrap-base' failed.\n")
    said = port.line()
    port.answer("ok")
    assert said.startswith("failure ") and "bootstrap-base" in said
    wait_until(lambda: not commands_with(str(tmp_path)), 10, "the watcher ends")
