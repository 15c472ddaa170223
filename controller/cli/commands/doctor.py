"""``doctor``: checks settings, documents, hosts, pools and directories, and says what to repair."""

import os
import shlex
import shutil
import socket as sockets
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rich.text import Text

from controller.cli.client.options import Output
from controller.cli.errors import DIFFERENT, DONE
from controller.cli.terminal.formats import dump
from controller.cli.terminal.output import BAD, FAINT, GOOD, WAITING, count, say, show, size, stdout
from controller.desired.catalog.catalog import load_paths
from controller.desired.catalog.snapshot import Snapshot
from controller.errors import GuestkeeperError
from controller.observed.host import HostView, PoolView
from controller.planning.host.trouble import pool_trouble
from controller.settings import DEFAULT_FILE, ENVIRONMENT_FILE, Settings, SettingsError

LOW_SPACE = 2 * 2**30
"""Bytes free in a pool below which guests are likely to be paused soon."""
_CONNECT_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check. ``good`` None: neither good nor bad, only information."""

    what: str
    good: bool | None
    seen: str
    remedy: str = ""
    warning: bool = False


def doctor(load: Callable[[], Settings], config: Path | None, output: Output) -> int:
    """Run and print every check; returns the exit code, 1 where something is broken."""
    checks = list(run_checks(load, config))
    broken = [check for check in checks if check.good is False]
    if output in (Output.JSON, Output.YAML):
        dump({"healthy": not broken, "items": [_json(check) for check in checks]}, output)
        return DIFFERENT if broken else DONE
    for check in checks:
        show(stdout(), list(_lines(check)))
    if broken:
        say(f"\n{count(len(broken), 'check')} failed; mend the first one first")
        return DIFFERENT
    say("\neverything needed is there")
    return DONE


def _json(check: Check) -> dict[str, object]:
    state = {True: "ok", False: "broken", None: "warning" if check.warning else "info"}
    return {
        "check": check.what,
        "state": state[check.good],
        "seen": check.seen,
        "remedy": check.remedy or None,
    }


def _lines(check: Check) -> Iterator[Text]:
    mark, style = {True: ("✓", GOOD), False: ("✗", BAD), None: ("·", FAINT)}[check.good]
    if check.warning:
        mark, style = "!", WAITING
    yield Text(f"{mark} ", style).append(f"{check.what}: ", "bold not dim").append(check.seen)
    if check.remedy and (check.good is False or check.warning):
        yield Text(f"    {check.remedy}", WAITING)


def run_checks(load: Callable[[], Settings], config: Path | None) -> Iterator[Check]:
    """The checks, from the settings outwards, without those that a failure makes useless."""
    named = config or os.environ.get(ENVIRONMENT_FILE)
    try:
        settings = load()
    except SettingsError as error:
        yield Check("settings", False, str(error), "correct the file, or name another by --config")
        return
    default = str(DEFAULT_FILE) if DEFAULT_FILE.exists() else f"defaults ({DEFAULT_FILE} is absent)"
    yield Check("settings", True, str(named or default))
    snapshot = yield from _documents(settings)
    yield from _hosts(settings, snapshot)
    yield from _image_files(settings, snapshot)
    yield _ksvalidator()
    running = _daemon_answers(settings.socket)
    yield from _daemon(settings, running)
    for title, directory in (("state_dir", settings.state_dir), ("cache_dir", settings.cache_dir)):
        yield _writable(title, directory)


def _documents(settings: Settings) -> Generator[Check, None, Snapshot]:
    directory = settings.desired_dir
    if not directory.is_dir():
        yield Check(
            "documents",
            False,
            f"{directory} is no directory",
            f"mkdir -p {shlex.quote(str(directory))}, or name another by desired_dir in the"
            " settings",
        )
        return Snapshot()
    snapshot = load_paths([directory], list(settings.hosts), check_permissions=True)
    words = ", ".join(count(n, kind.lower()) for kind, n in snapshot.documents.items() if n)
    if snapshot.problems:
        first = snapshot.problems[0]
        many = count(len(snapshot.problems), "problem")
        yield Check(
            "documents", False, f"{many} in {directory}; the first: {first}", "guestkeeper validate"
        )
    else:
        yield Check("documents", True, f"{words} in {directory}")
    return snapshot


def _hosts(settings: Settings, snapshot: Snapshot) -> Iterator[Check]:
    from controller.daemon.host_configs import host_configs
    from controller.hypervisor.hypervisor import Hypervisor

    hypervisor = Hypervisor(host_configs(settings, read_only=True))
    hypervisor.open(_CONNECT_TIMEOUT)
    try:
        for name, host in settings.hosts.items():
            try:
                view = hypervisor.host(name)
            except GuestkeeperError as error:
                yield Check(f"host {name}", False, str(error))
                continue
            yield from host_checks(view)
            used = {host.pool} | _named_pools(snapshot, name)
            yield from pool_checks(view, sorted(used), sorted(host.pools))
    finally:
        hypervisor.close()


def _named_pools(snapshot: Snapshot, host: str) -> set[str]:
    """Pools that documents name for disks on ``host``."""
    specs = [guest.spec for guest in snapshot.guests.values() if guest.spec.host == host]
    named = [spec.system_disk.pool for spec in specs]
    named += [disk.pool for spec in specs for disk in spec.disks]
    return {pool for pool in named if pool is not None}


def host_checks(view: HostView) -> Iterator[Check]:
    """Check libvirt, its versions and the accelerator of a host."""
    what = f"host {view.name}"
    if not view.reachable:
        yield Check(
            what,
            False,
            f"{view.uri} is not reachable: {view.why or 'no answer'}",
            "start it (systemctl start libvirtd, or virtqemud), be root or in the group libvirt;"
            f" then try: virsh -c {view.uri} list",
        )
        return
    versions = f"libvirt {view.libvirt_version}, hypervisor {view.hypervisor_version}"
    yield Check(what, True, f"{view.uri} answers: {versions}")
    if view.kvm:
        yield Check(f"{what}: accelerator", None, "KVM")
    else:
        yield Check(
            f"{what}: accelerator",
            None,
            "TCG: guests run, ten times slower than with KVM (no vmx or svm in its CPU, or no"
            " /dev/kvm)",
        )


def pool_checks(view: HostView, used: list[str], made: list[str]) -> Iterator[Check]:
    """Check that every used pool exists, is active and has room; the daemon makes ``made``."""
    if not view.reachable:
        return
    for name in used:
        what = f"host {view.name}: pool {name}"
        pool = view.pools.get(name)
        if pool is None and name in made:
            yield Check(what, None, "not there yet; the daemon makes it")
        elif pool is None:
            yield Check(
                what,
                False,
                "there is none",
                f"name its directory under [hosts.{view.name}.pools] in the settings, or: virsh"
                f" pool-define-as {name} dir --target DIRECTORY; virsh pool-start {name}",
            )
        elif pool.wanted_path:
            trouble = pool_trouble(view, name)
            seen = f"it is at {pool.path}, and the settings have {pool.wanted_path}"
            yield Check(what, False, seen, trouble.remedy if trouble is not None else "")
        elif not pool.active:
            yield _inactive(what, pool, view.uri)
        elif pool.available < LOW_SPACE:
            free = f"only {size(pool.available)} free of {size(pool.capacity)}, at {pool.path}"
            yield Check(what, None, free, "make room: a full pool pauses its guests", warning=True)
        else:
            yield Check(what, True, f"{size(pool.available)} free at {pool.path}")


def _inactive(what: str, pool: PoolView, uri: str) -> Check:
    """The failed check of an inactive pool.

    libvirt does not start a pool whose directory is gone, which is checked on this machine only.
    """
    name = shlex.quote(pool.name)
    start = f"virsh pool-start {name}; virsh pool-autostart {name}"
    local = urlsplit(uri).hostname is None and pool.path.startswith("/")
    if not local or Path(pool.path).exists():
        return Check(what, False, f"not active; it is at {pool.path}", start)
    return Check(
        what,
        False,
        f"not active, and its directory {pool.path} is gone",
        f"mount it, or: mkdir -p {shlex.quote(pool.path)}; then: {start}",
    )


def _image_files(settings: Settings, snapshot: Snapshot) -> Iterator[Check]:
    for image in snapshot.images.values():
        boot = image.spec.boot
        named = [image.spec.source.file]
        named += [boot.kernel, boot.initrd] if boot is not None else []
        if image.install is not None:
            location = image.install.location
            named += [one for one in (location.kernel, location.initrd) if one and "://" not in one]
        for name in (file for file in named if file is not None):
            path = settings.images_dir / name
            if path.is_file():
                continue
            yield Check(
                f"image {image.name}",
                False,
                f"{path} is missing",
                f"put it into {settings.images_dir}, or set images_dir",
            )


def _ksvalidator() -> Check:
    from controller.desired.answers.ksvalidator import find_program

    program = find_program()
    if program is not None:
        return Check("ksvalidator", None, f"{program} checks kickstarts")
    return Check(
        "ksvalidator",
        None,
        "not found, so that no Image made by kickstart can be used",
        "pip install pykickstart, beside guestkeeper",
        warning=True,
    )


def _daemon_answers(path: Path) -> bool:
    from controller.web.server import socket_answers

    return socket_answers(path)


def _daemon(settings: Settings, running: bool) -> Iterator[Check]:
    if running:
        yield Check("daemon", None, f"answers on {settings.socket}")
        return
    yield Check("daemon", None, f"none answers on {settings.socket}")
    yield _writable("socket directory", settings.socket.parent)
    if settings.listen:
        yield _port(settings.listen)


def _port(listen: str) -> Check:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    try:
        with sockets.socket(family, sockets.SOCK_STREAM) as probe:
            probe.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return Check(
            "listen", False, f"{listen}: {why}", "choose another by listen in the settings"
        )
    return Check("listen", True, f"{listen} is free")


def _writable(title: str, directory: Path) -> Check:
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    if there.exists() and not there.is_dir():
        return Check(title, False, f"{there} is no directory", f"remove it, or set {title}")
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(
            title,
            False,
            f"{directory} is not writable for this user",
            "run doctor as the user that the daemon runs as, or choose a directory of your own",
        )
    free = shutil.disk_usage(there).free
    seen = f"{directory}, {size(free)} free" + ("" if there == directory else " (will be made)")
    if free < 256 * 2**20:
        return Check(title, None, seen, "make room", warning=True)
    return Check(title, True, seen)
