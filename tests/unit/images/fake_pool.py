"""A storage pool in memory whose daemon can be killed at each call, before, amid or after it."""

import struct
import threading
from collections.abc import Callable, Collection
from typing import BinaryIO

from controller.observed.host import HostView, PoolView, VolumeView


def qcow2_header(size: int, *, backing: int = 0, incompatible: int = 0) -> bytes:
    """The header of an empty qcow2 of version 3; ``backing`` is the offset of a backing name."""
    clusters = struct.pack(">IQIIQQIIQ", 16, size, 0, 1, 3 << 16, 1 << 16, 1, 0, 0)
    return (
        struct.pack(">4sIQI", b"QFI\xfb", 3, backing, 8 if backing else 0)
        + clusters
        + struct.pack(">QQQII", incompatible, 0, 0, 4, 104)
    )


class KilledError(BaseException):
    """The daemon is gone: nothing may catch this."""


class Pool:
    """Satisfies ``images.volumes.Storage`` for one host, ``local``, and one pool, ``default``."""

    def __init__(self, available: int = 1 << 40) -> None:
        self.contents: dict[str, bytes] = {}
        self.available = available
        self.calls: list[str] = []
        self.kill_at: tuple[int, str] | None = None
        self.written: dict[str, int] = {}
        """How many bytes of an upload are there; a volume has its full size from the first one."""
        self.modified: dict[str, float] = {}
        """When a volume was last written to; one that is not here, long ago."""
        self.stopped: set[str] = set()
        self.busy = False
        """A pool that cannot be scanned: what is not known to be there may be."""
        self.fail: dict[str, Exception] = {}
        self.amid: Callable[[], None] = lambda: None
        self.lock = threading.RLock()

    def host(self, host: str) -> HostView:
        self._call(f"host {host}")
        pools = {"default": PoolView("default", "/pool", True, 1 << 41, self.available)}
        pools |= {name: PoolView(name, f"/{name}", False, 0, 0) for name in self.stopped}
        return HostView(host, "test:///", reachable=True, pools=pools)

    def volume(self, host: str, pool: str, name: str) -> VolumeView | None:
        self._call(f"volume {name}")
        return self._view(name) if name in self.contents else None

    def create_volume(
        self,
        host: str,
        pool: str,
        name: str,
        *,
        capacity: int,
        format: str = "qcow2",
        backing: tuple[str, str] | None = None,
    ) -> VolumeView:
        with self._effect(f"create {name}"):
            head = qcow2_header(capacity) if format == "qcow2" else b""
            self.contents.setdefault(name, head.ljust(capacity, b"\0"))
            self.written.setdefault(name, 0)
        return self._view(name)

    def upload_volume(
        self,
        host: str,
        pool: str,
        name: str,
        stream: BinaryIO,
        size: int,
        *,
        format: str,
        progress: Callable[[int], None],
    ) -> VolumeView:
        with self._effect(f"upload {name}") as effect:
            self.contents[name] = b"\0" * size
            content = b""
            while chunk := stream.read(65536):
                content += chunk
                self.written[name] = len(content)
                self.contents[name] = content + b"\0" * (size - len(content))
                progress(len(content))
                effect.amid()
                self.amid()
        return self._view(name)

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        self._call("absent")
        return frozenset() if self.busy else frozenset(set(names) - set(self.contents))

    def delete_volume(self, host: str, pool: str, name: str) -> None:
        with self._effect(f"delete {name}"):
            self.modified.pop(name, None)
            self.contents.pop(name, None)
            self.written.pop(name, None)

    def read_volume(self, host: str, pool: str, name: str, offset: int, length: int) -> bytes:
        self._call(f"read {name}")
        return self.contents[name][offset : offset + length]

    def _view(self, name: str) -> VolumeView:
        size = len(self.contents[name])
        written = self.written.get(name, size)
        modified = self.modified.get(name, 1000.0)
        return VolumeView("default", name, f"/pool/{name}", "qcow2", size, written, None, modified)

    def _call(self, what: str) -> None:
        with self._effect(what):
            pass

    def _effect(self, what: str) -> "_Effect":
        return _Effect(self, what)


class _Effect:
    def __init__(self, pool: Pool, what: str) -> None:
        with pool.lock:
            self.pool, self.number = pool, len(pool.calls)
            pool.calls.append(what)
        failure = pool.fail.get(what.partition(" ")[0])
        if failure is not None:
            raise failure

    def _die(self, when: str) -> None:
        if self.pool.kill_at == (self.number, when):
            self.pool.kill_at = None
            raise KilledError

    def amid(self) -> None:
        self._die("amid")

    def __enter__(self) -> "_Effect":
        self._die("before")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._die("after")
