"""Volumes of a host: look up, create, grow, delete, read and upload.

Only libvirt's pools, volumes and streams are used, and no path directly. So a remote host works
like the local one, and a disk can only be inside a pool that the settings name.
"""

import shlex
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import BinaryIO, TypeVar

import libvirt
import structlog

from controller.errors import HostUnreachableError, PermanentError, TransientError
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.connection.session import Session
from controller.hypervisor.connection.stream_line import (
    CHUNK,
    StreamLine,
    abort,
    receive,
    send,
    stream_line,
)
from controller.hypervisor.errors.refusals import ineffective, pool_busy, would_shrink
from controller.hypervisor.storage.calls import (
    HEAD,
    as_asked,
    delete_known,
    format_of,
    in_the_way,
    list_all,
    lookup,
    scan,
    view_of,
    volume_xml,
)
from controller.hypervisor.storage.pools import Pools
from controller.observed.host import PoolView, VolumeView

T = TypeVar("T")
log = structlog.get_logger(__name__)

QUICK, SLOW = 15.0, 120.0
READ_LIMIT = 16 << 20  # bytes read under one deadline
_REFRESH_INTERVAL = 30.0
"""Seconds between two scans of a pool for an unknown volume: libvirt knows all volumes that it
created, so only files that somebody put there by hand need a scan."""


class Storage:
    """The pools and volumes of one host."""

    def __init__(self, link: HostLink, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._config = link.config
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pools = Pools(link, monotonic)
        self._scanned: dict[str, float] = {}

    # --- Pools ------------------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        """Ensures the pools of the settings and reads all pools; part of connecting."""
        with self._lock:
            self._scanned.clear()
        self._pools.connected(session)

    def pools(self) -> Mapping[str, PoolView]:
        """The host's pools, at most half a minute old. Raises as ``HostLink.call``."""
        return self._pools.views()

    def known_pools(self) -> Mapping[str, PoolView]:
        """The last known pools, for a host that cannot be asked."""
        return self._pools.known()

    # --- Volumes ----------------------------------------------------------------------------------

    def volume(self, pool: str, name: str) -> VolumeView | None:
        """The volume, or None. For a volume that libvirt does not know yet the pool is scanned.

        Raises ``PermanentError``: ``PoolMissing``, or ``PoolInactive`` (None would be wrong, as the
        content of such a pool is not known).
        """
        view = self._run(Role.STORAGE, "look up volume", pool, lambda one: lookup(one, pool, name))
        if view is None and self._may_scan(pool):
            view = self._run(
                Role.STORAGE,
                "scan pool",
                pool,
                lambda one: lookup(one, pool, name) if scan(one) else None,
                SLOW,
            )
        return view

    def absent(self, pool: str, names: Collection[str]) -> frozenset[str]:
        """Those of ``names`` that do not exist, after a scan; none if no scan is possible.

        Raises as ``volume``.
        """

        def look(one: libvirt.virStoragePool) -> frozenset[str]:
            known = scan(one)
            return frozenset(name for name in names if known and lookup(one, pool, name) is None)

        return self._run(Role.STORAGE, "look for volumes", pool, look, SLOW)

    def volumes(self, pool: str, *, sure: bool = False) -> list[VolumeView]:
        """Every volume of the pool, after a scan if one is possible. Raises as ``volume``.

        ``sure``: without a scan, which finds unknown files, raises ``TransientError("PoolBusy")``.
        """

        def look(one: libvirt.virStoragePool) -> list[VolumeView]:
            if not scan(one) and sure:
                raise pool_busy(self._config.name, pool, "what is in it is not known")
            return list_all(one, pool)

        return self._run(Role.STORAGE, "list volumes", pool, look, SLOW)

    def read(self, pool: str, name: str, offset: int, length: int) -> bytes:
        """Reads ``length`` bytes from ``offset`` on (``virStorageVolDownload``), fewer at the end.

        At most ``READ_LIMIT`` bytes. Raises ``TransientError(reason="VolumeMissing")`` and, with
        libvirt's test driver, which stores no bytes, ``PermanentError(reason="NotSupported")``.
        """
        if not 0 <= length <= READ_LIMIT:
            raise PermanentError(f"{length} bytes cannot be read at once, at most {READ_LIMIT}")
        if length == 0:
            return b""  # for libvirt, 0 means the whole volume

        def read(one: libvirt.virStoragePool) -> bytes:
            volume = one.storageVolLookupByName(name)
            source = one.connect().newStream(0)
            volume.download(source, offset, length, 0)
            return receive(source)

        with stream_line(self._link) as line:
            return self._run(Role.STORAGE, "read volume", pool, read, SLOW, on=line)

    def _may_scan(self, pool: str) -> bool:
        with self._lock:
            now = self._monotonic()
            if now - self._scanned.get(pool, -1e9) < _REFRESH_INTERVAL:
                return False
            self._scanned[pool] = now
            return True

    def create(
        self,
        pool: str,
        name: str,
        *,
        capacity: int,
        format: str,
        backing: tuple[str, str] | None,
    ) -> VolumeView:
        """Creates an empty volume, or an overlay of ``backing`` (path, format). Sizes in bytes.

        An existing volume of that format and backing is returned. For another one raises
        ``PermanentError(reason="VolumeConflict")``, which says what to do about it.
        """
        xml = volume_xml(name, capacity, format, backing)

        def create(one: libvirt.virStoragePool) -> VolumeView:
            found = lookup(one, pool, name)
            if found is None:
                try:
                    return view_of(pool, one.createXML(xml, 0))
                except libvirt.libvirtError as error:
                    # A file of this name that libvirt does not know yet may be in the way.
                    if not in_the_way(error):
                        raise
                    if not scan(one):
                        why = f"which volume {name} that is in the way there is not known"
                        raise pool_busy(self._config.name, pool, why) from error
                    found = lookup(one, pool, name)
                    if found is None:
                        raise
            return as_asked(found, format, backing)

        view = self._run(Role.ACT, "create volume", pool, create, SLOW)
        self._pools.changed()
        return view

    def grow(self, pool: str, name: str, capacity: int) -> None:
        """Enlarges a volume to ``capacity`` bytes (``virStorageVolResize``); idempotent.

        Only if no running domain uses it. Raises ``PermanentError(reason='WouldShrink')`` for a
        larger volume, and ``TransientError``: ``VolumeMissing``, ``LiveChangeIneffective``.
        """

        def grow(one: libvirt.virStoragePool) -> None:
            volume = one.storageVolLookupByName(name)
            has = view_of(pool, volume)
            if has.capacity > capacity:
                raise would_shrink(f"volume {pool}/{name}", has.capacity, capacity)
            if has.capacity == capacity:
                return
            if self._config.in_process:
                # The test driver cannot resize, but it stores no bytes that could be lost.
                backing = (has.backing, "qcow2") if has.backing is not None else None
                volume.delete(0)
                one.createXML(volume_xml(name, capacity, has.format, backing), 0)
                return
            volume.resize(capacity, 0)
            if view_of(pool, volume).capacity < capacity:
                raise ineffective(f"volume {pool}/{name}", f"growing it to {capacity} bytes")

        self._run(Role.ACT, "grow volume", pool, grow, SLOW)
        self._pools.changed()

    def delete(self, pool: str, name: str) -> None:
        """Deletes the volume; a missing one is no error.

        Raises ``TransientError(reason="PoolBusy")`` if it is not known whether the volume exists.
        """

        def delete(one: libvirt.virStoragePool) -> None:
            if not delete_known(one, name):
                if not scan(one):
                    why = f"whether it has a volume {name} to be deleted is not known"
                    raise pool_busy(self._config.name, pool, why)
                delete_known(one, name)

        self._run(Role.ACT, "delete volume", pool, delete, SLOW)
        self._pools.changed()

    def upload(
        self,
        pool: str,
        name: str,
        stream: BinaryIO,
        size: int,
        *,
        format: str,
        progress: Callable[[int], None],
    ) -> VolumeView:
        """Replaces the volume with ``size`` bytes of ``stream`` (``virStorageVolUpload``).

        ``progress`` gets the number of bytes sent so far. A failed upload leaves no volume behind,
        unless the host is lost during it. Raises ``TransientError`` if the stream ends early, and
        as ``HostLink.call``.
        """
        # A file of that name that libvirt does not know is found when the new one is created.
        self._run(Role.ACT, "delete volume", pool, lambda one: delete_known(one, name), SLOW)
        if self._config.in_process:
            return self._pretend(pool, name, stream, size, format, progress)
        # Created raw and empty, whatever the format of the upload, which has its own header.
        xml = volume_xml(name, size, "raw", None)

        with stream_line(self._link) as line:
            self._upload(line, pool, name, xml, stream, size, progress)
        self._pools.changed()
        return self._uploaded(pool, name, size, format)

    def _upload(
        self,
        line: StreamLine,
        pool: str,
        name: str,
        xml: str,
        stream: BinaryIO,
        size: int,
        progress: Callable[[int], None],
    ) -> None:
        def begin(one: libvirt.virStoragePool) -> libvirt.virStream:
            try:
                volume = one.createXML(xml, 0)
            except libvirt.libvirtError as error:
                if not in_the_way(error) or scan(one):
                    raise  # after the scan libvirt knows the file: the next upload deletes it
                why = f"which volume {name} that is in the way there is not known"
                raise pool_busy(self._config.name, pool, why) from error
            sink = one.connect().newStream(0)
            try:
                volume.upload(sink, 0, size, 0)
            except libvirt.libvirtError:
                volume.delete(0)
                raise
            return sink

        sink = self._run(Role.ACT, "begin upload", pool, begin, SLOW, late=abort, on=line)
        try:
            send(line, sink, stream, size, progress)
            line.call(Role.ACT, "finish upload", lambda _: sink.finish(), SLOW)
        except HostUnreachableError:
            raise  # the stream may be stuck: libvirt ends it with its connection
        except BaseException:
            line.call(Role.ACT, "abort upload", lambda _: abort(sink), QUICK)
            self.delete(pool, name)
            raise

    def _uploaded(self, pool: str, name: str, size: int, format: str) -> VolumeView:
        """The uploaded volume; one of another format is deleted, and ``PermanentError`` raised."""

        def look(one: libvirt.virStoragePool) -> tuple[VolumeView | None, bool]:
            scanned = scan(one)  # libvirt detects the file's format then
            return lookup(one, pool, name), scanned

        view, scanned = self._run(Role.ACT, "look at upload", pool, look, SLOW)
        if view is None:
            raise TransientError(f"volume {pool}/{name} is gone right after its upload")
        if not scanned:  # libvirt still shows the format that it was created with
            head = self.read(pool, name, 0, min(size, HEAD))
            view = replace(view, format=format_of(head))
        if view.format == format:
            return view
        self.delete(pool, name)
        raise PermanentError(
            f"what was uploaded to volume {pool}/{name} is {view.format}, not {format}: "
            "check the image's source"
        )

    def _pretend(
        self,
        pool: str,
        name: str,
        stream: BinaryIO,
        size: int,
        format: str,
        progress: Callable[[int], None],
    ) -> VolumeView:
        """Upload with the test driver, which stores no bytes: reads ``stream``, makes a volume."""
        sent = 0
        while chunk := stream.read(min(CHUNK, size - sent)):
            sent += len(chunk)
            progress(sent)
        if sent < size:
            raise TransientError(f"the source ended after {sent} of {size} bytes")
        return self.create(pool, name, capacity=size, format=format, backing=None)

    def _run(
        self,
        role: Role,
        operation: str,
        pool: str,
        function: Callable[[libvirt.virStoragePool], T],
        timeout: float = QUICK,
        *,
        late: Callable[[T], None] | None = None,
        on: StreamLine | None = None,
    ) -> T:
        def run(connection: libvirt.virConnect) -> T:
            try:
                one = connection.storagePoolLookupByName(pool)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                    raise
                raise PermanentError(
                    f"host {self._config.name} has no storage pool {pool}: define it there, or "
                    "give it a path in the daemon's settings",
                    reason="PoolMissing",
                ) from error
            if not one.isActive():
                # It was stopped for a reason (its file system is not mounted), so it is not for us
                # to start it, least of all during a look.
                self._pools.changed()
                raise PermanentError(
                    f"storage pool {pool} of host {self._config.name} is not active: start it with"
                    f" virsh pool-start {shlex.quote(pool)}",
                    reason="PoolInactive",
                )
            return function(one)

        return (on or self._link).call(role, operation, run, timeout, late=late)
