"""A libvirtd of the benchmarks' own, below a subreaper; the machine's own one is left alone.

It is an unprivileged one (``nobody``'s where we are root), with its sockets and directories in a
scratch directory, so its domains, pools and pid files cannot be mistaken for anybody else's.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt

from bench.scratch import POOL, settings_for
from controller.hypervisor.connection.event_loop import ensure_running
from controller.settings import Settings
from tests.e2e.private_libvirtd import PrivateLibvirtd

ROOT = Path(__file__).resolve().parents[1]


def _below_reaper(command: list[str], user: str | None) -> list[str]:
    return [sys.executable, "-m", "bench.reaper", user or "", *command]


def settings_beside(libvirtd: PrivateLibvirtd, **more: object) -> Settings:
    """Of a daemon on that libvirtd. What it trusts is not in there, where its user may write."""
    pool = libvirtd.root / "pool" / POOL
    return settings_for(libvirtd.root.parent / "daemon", uri=libvirtd.uri, pool=pool, **more)


def qemu_pid(libvirtd: PrivateLibvirtd, name: str) -> int:
    """The QEMU process of a running domain of that libvirtd."""
    return int((libvirtd.root / "run/libvirt/qemu/run" / f"{name}.pid").read_text())


@contextmanager
def private_libvirtd() -> Iterator[PrivateLibvirtd]:
    """Everything on it is gone when the block ends."""
    # Short, for the paths of the sockets in it. Made by us alone or not at all.
    root = Path(f"/tmp/gkb{os.getpid()}")  # noqa: S108
    root.mkdir(mode=0o711)
    own = root / "l"  # it becomes its user's
    own.mkdir()
    daemon = PrivateLibvirtd(own, _below_reaper)
    try:
        daemon.start()
        yield daemon
    finally:
        try:
            _remove_domains(daemon)
        finally:
            daemon.stop()
            shutil.rmtree(root)


def _remove_domains(daemon: PrivateLibvirtd) -> None:
    if not daemon.socket.exists():
        return
    ensure_running()
    connection = libvirt.open(daemon.uri)
    for domain in connection.listAllDomains():
        remove_domain(domain)
    connection.close()


def remove_domain(domain: libvirt.virDomain) -> None:
    """Pulls the plug and forgets it; its volumes stay."""
    if domain.isActive():
        domain.destroy()
    if domain.isPersistent():
        domain.undefine()


AGENT_CONNECTED = -1
"""What ``Lifecycle`` notes beside libvirt's lifecycle events: a guest's agent came."""


class Lifecycle:
    """An independent connection that notes when domains start, stop, and have their agents."""

    def __init__(self, uri: str) -> None:
        ensure_running()
        self.connection = libvirt.open(uri)
        self._changed = threading.Condition()
        self._seen: list[tuple[str, int, float]] = []
        self._callbacks = [
            self.connection.domainEventRegisterAny(None, what, callback, None)
            for what, callback in (
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._happened),
                (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._agent),
            )
        ]

    def _happened(
        self, _connection: object, domain: libvirt.virDomain, event: int, *_: object
    ) -> None:
        self._note(domain.name(), event)

    def _agent(
        self, _connection: object, domain: libvirt.virDomain, state: int, *_: object
    ) -> None:
        if state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
            self._note(domain.name(), AGENT_CONNECTED)

    def _note(self, name: str, event: int) -> None:
        now = time.perf_counter()
        with self._changed:
            self._seen.append((name, event, now))
            self._changed.notify_all()

    def wait(self, name: str, event: int, since: float, timeout: float) -> float:
        """When the domain's ``event`` came (``perf_counter``), the first after ``since``."""
        found: list[float] = []

        def there() -> bool:
            found[:] = [at for who, what, at in self._seen if (who, what) == (name, event)]
            found[:] = [at for at in found if at >= since]
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(there, timeout):
                raise TimeoutError(f"no event {event} of {name} within {timeout:g} s")
        return found[0]

    def close(self) -> None:
        for callback in self._callbacks:
            self.connection.domainEventDeregisterAny(callback)
        self.connection.close()


def wait_until(predicate: Callable[[], object], timeout: float, what: str) -> None:
    """Polls; raises ``TimeoutError`` with ``what``."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(0.02)
