"""``make demo`` and the README's commands, run as a stranger runs them; then ``make demo-down``.

The demo has fixed names and ports, so where one runs already this is skipped rather than taking it
down.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import libvirt
import pytest

from tests.e2e.conftest import ROOT
from tests.waiting import wait_until

LONGEST = 1500.0
"""Seconds; only what hangs takes them. Two guests boot in one on an idle machine, and in many times
that on a busy one."""
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2 * LONGEST)]


def make(target: str, state: Path) -> "subprocess.CompletedProcess[str]":
    """Ends with all that it began, whatever ends it."""
    command = ["make", "--no-print-directory", target]
    running = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "GUESTKEEPER_DEMO_STATE": str(state)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = running.communicate(timeout=LONGEST)
    except BaseException:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        raise
    return subprocess.CompletedProcess(command, running.returncode, out, errors)


def run(state: Path, command: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "GUESTKEEPER_CONFIG": str(state / "guestkeeper.toml"),
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        ["bash", "-c", command], env=environment, cwd=ROOT,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def test_a_pool_of_the_demos_name_elsewhere_ends_it_at_once_and_is_left_alone(
    connection: libvirt.virConnect, qemu_directory: Path
) -> None:
    if "guestkeeper-demo" in {pool.name() for pool in connection.listAllStoragePools()}:
        pytest.skip("a demo runs on this machine")
    state, theirs = qemu_directory / "demo", qemu_directory / "theirs"
    pool = connection.storagePoolDefineXML(
        "<pool type='dir'><name>guestkeeper-demo</name>"
        f"<target><path>{theirs}</path></target></pool>",
        0,
    )
    try:
        up = make("demo", state)
        assert up.returncode != 0
        assert str(theirs) in up.stderr
        assert str(state / "pool") in up.stderr
        assert "4/5" not in up.stderr, "no daemon was started"
        down = make("demo-down", state)
        assert down.returncode == 0, down.stdout + down.stderr
        assert f"is at {theirs}" in down.stderr
        assert "guestkeeper-demo" in {pool.name() for pool in connection.listAllStoragePools()}
        said = next(line for line in up.stderr.splitlines() if "pool-undefine" in line)
        subprocess.run(said.split("; ")[-1].split(), check=True, timeout=30)
        assert "guestkeeper-demo" not in {one.name() for one in connection.listAllStoragePools()}
    finally:
        with suppress(libvirt.libvirtError):  # gone, as it should be
            pool.undefine()


@pytest.fixture(scope="module")
def demo(connection: libvirt.virConnect, qemu_directory: Path) -> Iterator[Path]:
    if any(domain.name() in ("web1", "web2") for domain in connection.listAllDomains()):
        pytest.skip("domains web1 or web2 are there already: a demo runs on this machine")
    state = qemu_directory / "demo"
    try:
        up = make("demo", state)
        assert up.returncode == 0, up.stdout + up.stderr
        assert "Good morning from web1" in up.stdout
        assert "make demo-down" in up.stdout
        yield state
    finally:
        down = make("demo-down", state)
        assert down.returncode == 0, down.stdout + down.stderr
    assert not state.exists()
    left = {domain.name() for domain in connection.listAllDomains()}
    assert not {"web1", "web2"} & left
    assert "guestkeeper-demo" not in {pool.name() for pool in connection.listAllStoragePools()}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("curl -sf http://127.0.0.1:18080/", "Good morning from web1"),
        ("guestkeeper get guests", "web1   Healthy   Synced   Healthy   True    2/2"),
        ("guestkeeper get images", "debian12"),
        ("guestkeeper get services", "web"),
        ("guestkeeper get hosts", "reachable"),
        ("guestkeeper get problems", ""),
        ("guestkeeper validate", ""),
        ("guestkeeper plan", "no changes"),
        ("guestkeeper render web1", "<domain"),
        ("guestkeeper describe web1", "nginx.service"),
        ("guestkeeper explain web1", "Decided"),
        ("guestkeeper events web1 --limit 3", "GuestReady"),
        ("guestkeeper wait web1 --for=condition=Ready", "web1 condition met"),
        ("guestkeeper reconcile web1", ""),
        ("guestkeeper doctor", "answers"),
        ("guestkeeper schema", '"$schema"'),
        ("guestkeeper version", "guestkeeper"),
        ("curl -sf http://127.0.0.1:9750/metrics | promtool check metrics", ""),
        ("curl -sf http://127.0.0.1:9750/healthz", ""),
        ("curl -sf http://127.0.0.1:9750/readyz", "2 guests"),
    ],
)
def test_what_the_readme_shows_works(demo: Path, command: str, said: str) -> None:
    done = run(demo, command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout


def test_the_serial_log_tells_how_the_guest_booted(demo: Path, libvirt_uri: str) -> None:
    if not libvirt_uri.endswith("/system"):
        pytest.skip("a plain user's libvirt keeps no serial log")
    assert "Linux version" in run(demo, "guestkeeper logs web1").stdout


def test_a_guest_whose_plug_was_pulled_comes_back(
    demo: Path, connection: libvirt.virConnect, libvirt_uri: str
) -> None:
    def run_number() -> int:
        return int(connection.lookupByName("web1").ID())

    before = run_number()
    done = run(demo, f"virsh -c {libvirt_uri} destroy web1")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: run_number() not in (-1, before), 30, "web1 runs again")
    done = run(demo, "guestkeeper wait web1 --for=condition=Ready --timeout 500")
    assert done.returncode == 0, done.stdout + done.stderr
