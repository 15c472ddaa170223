"""Base and boot volumes in a pool: named by their content, and complete only with their marker.

A volume has its full size from the moment it is made, so a half-filled one looks complete. Hence a
tiny marker volume, ``NAME.ok``, is made after the last byte has arrived. A volume without its
marker is the rest of an upload that was killed, and is deleted and made again.

QEMU will open the volume, and not the file it came from. So a volume's own header is read before it
gets its marker, and when a daemon first sees it: a file or volume that was changed meanwhile could
name a backing file, which a guest could then read.

The daemon's lock keeps two processes from uploading the same volume. Where it cannot (two machines,
one host), the other's half upload is detected by the space that it takes in the pool, right before
and right after the marker is made. Not detected is another upload that had removed the marker but
not yet the volume at our second look, and is killed later.
"""

import contextlib
import hashlib
import io
import os
import shlex
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, Protocol, get_args

import structlog

from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.images.fetch.digests import FileFacts, Signature, changing, open_regular
from controller.images.fetch.disk_format import HEAD_BYTES, DiskFormat, look_again
from controller.images.fetch.sources import Role
from controller.observed.base_names import marker_name
from controller.observed.host import HostView, VolumeView

_log = structlog.get_logger(__name__)
_MARKER_BYTES = 512


class Storage(Protocol):
    """The part of ``execution.ports.Hypervisor`` used here; its rules for errors apply, too."""

    def host(self, host: str) -> HostView: ...

    def volume(self, host: str, pool: str, name: str) -> VolumeView | None: ...

    def create_volume(
        self,
        host: str,
        pool: str,
        name: str,
        *,
        capacity: int,
        format: str = "qcow2",
        backing: tuple[str, str] | None = None,
    ) -> VolumeView: ...

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
    ) -> VolumeView: ...

    def delete_volume(self, host: str, pool: str, name: str) -> None: ...

    def read_volume(self, host: str, pool: str, name: str, offset: int, length: int) -> bytes:
        """Read a part (``virStorageVolDownload``); shorter at the volume's end.

        Raises ``PermanentError(reason="NotSupported")`` on a host whose volumes have no bytes.
        """

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        """Those of ``names`` that are certainly not there."""


def volume_name(image: str, role: Role, sha256: str, format: str) -> str:
    """``gk-base-debian12-0123456789ab.qcow2``; boot volumes have no suffix."""
    stem = f"{volume_stem(image, role)}{sha256[:12]}"
    return f"{stem}.{format}" if role is Role.DISK else stem


def volume_stem(image: str, role: Role) -> str:
    """The prefix of the image's volumes of that role."""
    return f"gk-{role}-{image}-"


def install_base_name(image: str, content: str, location: str) -> str:
    """``gk-base-rocky9-0123456789ab-01234567.qcow2``: digests of the documents and of what the
    installer's location holds. The prefix identifies a base where the location is not known.
    """
    return f"{install_base_stem(image, content)}{location[:8]}.qcow2"


def install_base_stem(image: str, content: str) -> str:
    """The prefix of an install's base volumes, whatever its location holds."""
    return f"{volume_stem(image, Role.DISK)}{content[:12]}-"


class Volumes:
    """Uploaded contents in pools. Safe to use from many threads for different volumes."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._proven: dict[tuple[str, str, str], float] = {}  # mtime of the complete volume
        self._changed: dict[tuple[str, str, str], float] = {}

    def find(self, host: str, pool: str, name: str) -> VolumeView | None:
        """The volume if it is there with its marker; ``changed_at`` says if it changed since.

        Raises ``PermanentError(reason="BaseRefused")`` for a volume that is not as it was made:
        of another format, or one that makes QEMU open other files.
        """
        marker = self._storage.volume(host, pool, marker_name(name))
        if marker is None:
            return None
        found = self._storage.volume(host, pool, name)
        if found is not None:
            if found.backing is not None or not self._is_proven(host, pool, found):
                self._look_at(host, pool, found)
            changed = found.written_after(marker)
            with self._lock:
                self._changed[host, pool, name] = found.modified if changed else 0.0
            if not changed:
                self._prove(host, pool, found)
        return found

    def changed_at(self, host: str, pool: str, name: str) -> float:
        """When somebody wrote to the volume after its marker was made, as last found; 0: nobody.

        Epoch seconds. Neither Guestkeeper nor a guest on an overlay writes to it.
        """
        with self._lock:
            return self._changed.get((host, pool, name), 0.0)

    def remains(self, host: str, pool: str, name: str) -> int:
        """The bytes that the rest of a killed upload takes, which a new upload frees."""
        found = self._storage.volume(host, pool, name)
        return found.allocation if found is not None else 0

    def put(
        self,
        host: str,
        pool: str,
        name: str,
        facts: FileFacts,
        *,
        check: Callable[[], None],
        progress: Callable[[int], None],
    ) -> VolumeView:
        """Upload the file and make its marker; ``check`` may raise to give up in between.

        Raises what the storage raises, or ``TransientError``: ``ImageChanging`` for a file that
        is being written, ``UploadDisturbed`` where somebody else writes the same volume.
        """
        found = self._storage.volume(host, pool, name)
        uploaded = True
        if found is None:
            found = self._upload(host, pool, name, facts, check, progress)
        elif self._is_proven(host, pool, found):
            # It is unchanged since it was complete, and guests may use it: only its marker is gone.
            _log.warning("marker is gone", host=host, pool=pool, volume=name)
            uploaded = False
        elif not self._storage.absent(host, pool, [marker_name(name)]):
            raise TransientError(
                f"whether the volume {name} is whole cannot be told, as pool {pool} of host"
                f" {host} cannot be looked through just now",
                reason="PoolBusy",
                retry_after=5.0,
            )
        else:
            _log.info("deleting an unfinished upload", host=host, pool=pool, volume=name)
            found = self._upload(host, pool, name, facts, check, progress)
        self._same(host, pool, name, found, facts)
        try:
            self._look_at(host, pool, found)
        except PermanentError as error:
            # Guests may use a volume from before; and one that cannot be read may be good.
            if uploaded and error.reason == "BaseRefused":
                self._storage.delete_volume(host, pool, name)
            raise
        self._mark(host, pool, name)
        try:
            made = self._same(host, pool, name, found, facts)
        except TransientError:
            self._storage.delete_volume(host, pool, marker_name(name))
            raise
        self._prove(host, pool, made)
        return made

    def mark_complete(self, host: str, pool: str, name: str) -> None:
        """Make the marker of a volume that was filled by other means than ``put``.

        Raises ``PermanentError(reason="BaseRefused")`` as ``find`` does.
        """
        found = self._storage.volume(host, pool, name)
        if found is not None:
            self._look_at(host, pool, found)
        self._mark(host, pool, name)

    def _look_at(self, host: str, pool: str, volume: VolumeView) -> None:
        """Check the volume's backing file, data file and format, by its own bytes."""
        where = f"the volume {pool}/{volume.name} of host {host}"
        format_ = _disk_format(volume.name)
        if format_ is None:
            return  # a kernel or an initrd has no disk format
        remedy = (
            "; it is not as Guestkeeper made it. Find out who changed it, then let it be made anew"
            f" (once no guest is on it): virsh vol-delete {shlex.quote(volume.name)}"
            f" {shlex.quote(pool)}"
        )
        if volume.backing is not None:
            raise PermanentError(
                f"{where} has the backing file {volume.backing}, and a base has none{remedy}",
                reason="BaseRefused",
            )
        try:
            head = self._storage.read_volume(host, pool, volume.name, 0, HEAD_BYTES)
            look_again(head, format_, where)
        except PermanentError as error:
            if error.reason == "NotSupported":
                return  # libvirt's test driver: its volumes have no bytes
            if error.reason != "ImageRefused":
                raise
            raise PermanentError(f"{error}{remedy}", reason="BaseRefused") from error

    def _mark(self, host: str, pool: str, name: str) -> None:
        self._storage.create_volume(
            host, pool, marker_name(name), capacity=_MARKER_BYTES, format="raw"
        )

    def _same(
        self, host: str, pool: str, name: str, whole: VolumeView, facts: FileFacts
    ) -> VolumeView:
        """The volume as it is now; raises if it cannot be the one that was ``whole``."""
        seen = self._storage.volume(host, pool, name)
        if seen is None:
            raise TransientError(
                f"the volume {name} vanished while it was made", reason="VolumeVanished"
            )
        # The format and size that libvirt reports depend on whether it has read the header by now.
        shapes = {
            (whole.format, whole.capacity),
            ("raw", facts.signature.size),
            (facts.format or "raw", facts.virtual_size or whole.capacity),
        }
        # A file system may free space that it had reserved, but never content.
        content = min(whole.allocation, facts.signature.size)
        if (seen.format, seen.capacity) not in shapes or seen.allocation < content:
            raise TransientError(
                f"the volume {pool}/{name} was changed while it was made: another guestkeeper"
                f" uploads it to host {host} too; let only one of them manage that host",
                reason="UploadDisturbed",
            )
        return seen

    def _upload(
        self,
        host: str,
        pool: str,
        name: str,
        facts: FileFacts,
        check: Callable[[], None],
        progress: Callable[[int], None],
    ) -> VolumeView:
        with self._lock:
            self._proven.pop((host, pool, name), None)
            self._changed.pop((host, pool, name), None)
        # An old marker would make the half upload look complete.
        self._storage.delete_volume(host, pool, marker_name(name))
        with (
            open_regular(Path(facts.path), f"the image file {facts.path}") as opened,
            _Stoppable(opened.fileno(), check) as stream,
        ):
            if Signature.of(os.fstat(opened.fileno())) != facts.signature:
                raise changing(f"the image file {facts.path}")
            _log.info("uploading", host=host, pool=pool, volume=name, bytes=facts.signature.size)
            try:
                made = self._storage.upload_volume(
                    host,
                    pool,
                    name,
                    stream,
                    facts.signature.size,
                    format=facts.format or "raw",
                    progress=progress,
                )
                same = Signature.of(os.fstat(opened.fileno())) == facts.signature
                if not same or stream.sha256() != facts.sha256:
                    raise changing(f"the image file {facts.path}")
            except (GuestkeeperError, OSError) as error:
                # Best effort: what stays has no marker, so nothing takes it as complete.
                with contextlib.suppress(GuestkeeperError):
                    self._storage.delete_volume(host, pool, name)
                if isinstance(error, OSError):
                    raise TransientError(
                        f"the image file {facts.path} cannot be read: {error}",
                        reason="ImageUnreadable",
                    ) from error
                raise
            _log.info("uploaded", host=host, pool=pool, volume=name)
            return made

    def _prove(self, host: str, pool: str, whole: VolumeView) -> None:
        with self._lock:
            self._proven[host, pool, whole.name] = whole.modified

    def _is_proven(self, host: str, pool: str, found: VolumeView) -> bool:
        with self._lock:
            return self._proven.get((host, pool, found.name)) == found.modified


class _Stoppable(io.BufferedReader):
    """A stream whose next read raises when the daemon stops; it hashes what was read."""

    def __init__(self, descriptor: int, check: Callable[[], None]) -> None:
        super().__init__(io.FileIO(descriptor, closefd=False), 1 << 18)
        self._check = check
        self._digest = hashlib.sha256()

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        data = super().read(size)
        self._digest.update(data)
        return data

    def sha256(self) -> str:
        """The digest of all that was read so far."""
        return self._digest.hexdigest()


def _disk_format(volume: str) -> DiskFormat | None:
    """The format of a base, by its name; None for a boot volume."""
    suffix = volume.rpartition(".")[2]
    return next((each for each in get_args(DiskFormat) if each == suffix), None)
