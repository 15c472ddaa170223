"""Pools and volumes of a host, through libvirt's pools, volumes and streams alone.

Nothing here touches a path of its own: so a remote host works like the local one, and a disk can
only ever be inside a pool that the settings name.
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
"""A pool is not scanned again for an unknown volume more often than this, in seconds: libvirt knows
what went through it, and only files that somebody put there by hand need the scan."""


class Storage:
    """The pools of one host."""

    def __init__(self, link: HostLink, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._config = link.config
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pools = Pools(link, monotonic)
        self._scanned: dict[str, float] = {}

    # --- Pools ------------------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        """Ensures the settings' pools and reads all of them; part of connecting."""
        with self._lock:
            self._scanned.clear()
        self._pools.connected(session)

    def pools(self) -> Mapping[str, PoolView]:
        """The host's pools; what they hold is at most half a minute old. Raises as a call does."""
        return self._pools.views()

    def known_pools(self) -> Mapping[str, PoolView]:
        """What was last known of them, for a host that cannot be asked."""
        return self._pools.known()

    # --- Volumes ----------------------------------------------------------------------------------

    def volume(self, pool: str, name: str) -> VolumeView | None:
        """The volume, or None. A pool is scanned anew for one that libvirt does not know yet.

        Raises ``PermanentError``: ``PoolMissing``, or ``PoolInactive`` (what is in such a pool
        cannot be told, so None would be a lie).
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
        """Those of the volumes that are not there, by a scan; none while that is not possible.

        Raises as ``volume``.
        """

        def look(one: libvirt.virStoragePool) -> frozenset[str]:
            known = scan(one)
            return frozenset(name for name in names if known and lookup(one, pool, name) is None)

        return self._run(Role.STORAGE, "look for volumes", pool, look, SLOW)

    def volumes(self, pool: str, *, sure: bool = False) -> list[VolumeView]:
        """Every volume of the pool, after a scan where one is possible. Raises as ``volume``.

        ``sure``: also of files that libvirt does not know yet; else ``TransientError("PoolBusy")``.
        """

        def look(one: libvirt.virStoragePool) -> list[VolumeView]:
            if not scan(one) and sure:
                raise pool_busy(self._config.name, pool, "what is in it is not known")
            return list_all(one, pool)

        return self._run(Role.STORAGE, "list volumes", pool, look, SLOW)

    def read(self, pool: str, name: str, offset: int, length: int) -> bytes:
        """``virStorageVolDownload`` of ``length`` bytes from ``offset`` on; fewer at its end.

        At most ``READ_LIMIT`` bytes. Raises ``TransientError(reason="VolumeMissing")`` and, on
        libvirt's test driver, which has no bytes, ``PermanentError(reason="NotSupported")``.
        """
        if not 0 <= length <= READ_LIMIT:
            raise PermanentError(f"{length} bytes cannot be read at once, at most {READ_LIMIT}")
        if length == 0:
            return b""  # to libvirt, 0 means all of it

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
        """Makes an empty volume, or an overlay of ``backing`` (path, format). Sizes in bytes.

        One that is there already is returned, if it is of that format and backing; else
        ``PermanentError`` says what to do about it.
        """
        xml = volume_xml(name, capacity, format, backing)

        def create(one: libvirt.virStoragePool) -> VolumeView:
            found = lookup(one, pool, name)
            if found is None:
                try:
                    return view_of(pool, one.createXML(xml, 0))
                except libvirt.libvirtError as error:
                    # A file that libvirt has not seen yet may be in the way under this name.
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
        """``virStorageVolResize`` to ``capacity`` bytes; one of that size is fine.

        Of a volume that no running domain uses. Raises ``PermanentError(reason='WouldShrink')``
        for a larger one, ``TransientError``: ``VolumeMissing``, ``LiveChangeIneffective``.
        """

        def grow(one: libvirt.virStoragePool) -> None:
            volume = one.storageVolLookupByName(name)
            has = view_of(pool, volume)
            if has.capacity > capacity:
                raise would_shrink(f"volume {pool}/{name}", has.capacity, capacity)
            if has.capacity == capacity:
                return
            if self._config.in_process:
                # The test driver cannot, but there are no bytes to be kept.
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
        """Deletes the volume; one that is not there is fine.

        Raises ``TransientError(reason="PoolBusy")`` where it cannot be told whether it is there.
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
        """Replaces the volume by ``size`` bytes of ``stream`` (``virStorageVolUpload``).

        ``progress`` is told the bytes sent so far. An upload that breaks off leaves no volume
        behind, unless the host is lost meanwhile. Raises ``TransientError`` when the stream ends
        early, and as a call does.
        """
        # A file of that name that libvirt does not know is in the way of the new one, and so found.
        self._run(Role.ACT, "delete volume", pool, lambda one: delete_known(one, name), SLOW)
        if self._config.in_process:
            return self._pretend(pool, name, stream, size, format, progress)
        # Made raw and empty, whatever is in the upload: it brings its own header.
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
                    raise  # and known from now on, so that the next upload deletes it
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
        """The volume, if it is what was asked for; else it is deleted."""

        def look(one: libvirt.virStoragePool) -> tuple[VolumeView | None, bool]:
            scanned = scan(one)  # libvirt looks into the file then and sees which format it has
            return lookup(one, pool, name), scanned

        view, scanned = self._run(Role.ACT, "look at upload", pool, look, SLOW)
        if view is None:
            raise TransientError(f"volume {pool}/{name} is gone right after its upload")
        if not scanned:  # it still has the one that it was made as
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
        """The test driver has no uploads (and no bytes): the stream is read, the volume made."""
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
                # Whoever stopped it had a reason (its file system is not mounted): not ours to
                # start, and least of all while looking.
                self._pools.changed()
                raise PermanentError(
                    f"storage pool {pool} of host {self._config.name} is not active: start it with"
                    f" virsh pool-start {shlex.quote(pool)}",
                    reason="PoolInactive",
                )
            return function(one)

        return (on or self._link).call(role, operation, run, timeout, late=late)
