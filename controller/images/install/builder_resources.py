"""Make and remove what a build needs on a host: volumes, media and the builder domain.

Each of these can be done again: what a killed daemon left is made anew or removed.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import structlog

from controller.desired.effective import EffectiveImage, EffectiveInstall
from controller.errors import GuestkeeperError, PermanentError
from controller.images.install import answer_media
from controller.images.install.builder_config import builder_config
from controller.images.install.installer_source import Installer, Locations
from controller.images.pool.base_volumes import Volumes
from controller.images.ports import Builders, Secrets
from controller.observed.base_names import marker_name
from controller.observed.build import BuilderConfig, BuildRecord, Step

_log = structlog.get_logger(__name__)
Sent = Callable[[int, int], None]
"""(bytes sent, bytes in all)"""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every build works with.

    ``owner`` is written into its builders' records. ``clock`` gives epoch seconds, ``monotonic``
    monotonic seconds. ``wait`` waits so many seconds, less if the daemon stops; ``check_stop``
    raises then.
    """

    builders: Builders
    locations: Locations
    volumes: Volumes
    secrets: Secrets
    owner: str
    log_dir: Path
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    wait: Callable[[float], object]
    check_stop: Callable[[], None]


class Workbench:
    """The resources of one image in one pool. All methods raise what the host's calls raise."""

    def __init__(
        self, tools: Tools, host: str, pool: str, image: EffectiveImage, install: EffectiveInstall
    ) -> None:
        self._tools = tools
        self._builders = tools.builders
        self._host = host
        self._pool = pool
        self._image = image
        self._install = install

    def is_base(self, base: str) -> bool:
        """Whether the volume is there with its marker, as far as libvirt knows the pool."""
        return self._tools.volumes.find(self._host, self._pool, base) is not None

    def keeps_base(self, base: str) -> bool:
        """``is_base`` after a new scan of the pool, to call before anything is deleted there.

        A volume that has overlays gets its marker back.
        """
        volumes = {one.name: one for one in self._builders.scanned_volumes(self._host, self._pool)}
        found = volumes.get(base)
        if found is None:
            return False
        if marker_name(base) in volumes:
            return True
        if all(volume.backing != found.path for volume in volumes.values()):
            return False
        # An overlay is only made of a base that had its marker.
        _log.warning("marker is gone", host=self._host, pool=self._pool, volume=base)
        self.mark_complete(base)
        return True

    def mark_complete(self, base: str) -> None:
        """Give the volume its marker: it is a base from now on."""
        self._tools.volumes.mark_complete(self._host, self._pool, base)

    def clear(self, name: str, base: str) -> None:
        """Remove what an attempt left; the builder's definition and its record stay."""
        self._builders.destroy_builder(self._host, name)
        delete_media(self._builders, self._host, self._pool, name)
        delete_disk(self._builders, self._host, self._pool, base)

    def tidy(self, name: str) -> None:
        """Remove the builder and its media after a successful build; the base stays."""
        self._builders.destroy_builder(self._host, name)
        delete_media(self._builders, self._host, self._pool, name)
        self._builders.undefine_builder(self._host, name)

    def start(self, name: str, base: str, attempt: int, installer: Installer, sent: Sent) -> None:
        """Define the builder, with a new disk and new media, and start it.

        The definition comes first: whatever is put into the pool belongs to it from then on, and is
        found and removed with it, also after a daemon was killed.
        """
        answer = answer_media.fill(self._image.name, self._install, self._tools.secrets)
        record = BuildRecord(
            image=self._image.name,
            content=self._image.content,
            pool=self._pool,
            base=base,
            owner=self._tools.owner,
            attempt=attempt,
        )
        config = builder_config(
            name,
            self._image,
            self._install,
            self._builders.host(self._host),
            pool=self._pool,
            disk=base,
        )
        self._builders.define_builder(self._host, config, record)
        size = self._install.disk_size
        self._builders.create_volume(self._host, self._pool, base, capacity=size)
        try:
            self._start(config, installer, answer, sent)
        except GuestkeeperError:
            # Best effort: the media hold secrets. The next attempt removes them, too.
            with contextlib.suppress(GuestkeeperError):
                delete_media(self._builders, self._host, self._pool, name)
            raise
        started = replace(record, step=Step.STARTED, started=self._tools.clock())
        self._builders.record_build(self._host, name, started)
        self.drop_boot_media(name)

    def drop_boot_media(self, name: str) -> None:
        """Delete kernel and initrd of a running builder: QEMU has read them into its memory, and
        the initrd may hold the answer file's secrets.
        """
        for volume in (f"{name}-kernel", f"{name}-initrd"):
            self._builders.delete_volume(self._host, self._pool, volume)

    def _start(
        self, config: BuilderConfig, installer: Installer, answer: bytes, sent: Sent
    ) -> None:
        name = config.name
        iso = answer_media.answer_iso(self._install, answer)
        overlay = answer_media.initrd_overlay(self._install, answer)
        with installer.kernel.open("rb") as file:
            kernel = self._put(f"{name}-kernel", _Joined(file, b""), "raw", sent)
        with installer.initrd.open("rb") as file:
            initrd = self._put(f"{name}-initrd", _Joined(file, overlay), "raw", sent)
        answer_iso = f"{name}-answer.iso" if iso else None
        if answer_iso is not None:
            self._put(answer_iso, _Joined(io.BytesIO(iso), b""), "iso", sent)
        self._builders.start_builder(self._host, config.with_media(kernel, initrd, answer_iso))

    def _put(self, volume: str, content: "_Joined", format: str, sent: Sent) -> str:
        """Upload ``content``; return the volume's path on the host."""
        return self._builders.upload_volume(
            self._host,
            self._pool,
            volume,
            io.BufferedReader(content, 1 << 18),
            content.size,
            format=format,
            progress=lambda done: sent(done, content.size),
        ).path


class _Joined(io.RawIOBase):
    """A file and then ``behind``, at a multiple of four bytes, where the kernel wants archives."""

    def __init__(self, file: BinaryIO, behind: bytes) -> None:
        super().__init__()
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        tail = b"\0" * (-length % 4) + behind if behind else b""
        self._parts = [file, io.BytesIO(tail)]
        self.size = length + len(tail)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        for part in self._parts:
            if data := part.read(len(buffer)):
                buffer[: len(data)] = data
                return len(data)
        return 0


def log_path(log_dir: Path, host: str, name: str) -> Path:
    """The log file of the builder ``name``; two hosts may have builders of the same name."""
    return log_dir / f"{name}@{host}.log"


def delete_media(builders: Builders, host: str, pool: str, name: str) -> None:
    """Delete the media that were uploaded to start the builder ``name``; they hold secrets."""
    for suffix in ("kernel", "initrd", "answer.iso"):
        builders.delete_volume(host, pool, f"{name}-{suffix}")


def delete_disk(builders: Builders, host: str, pool: str, base: str) -> None:
    """Delete the builder's disk, and its marker, which would mark the next disk as complete."""
    builders.delete_volume(host, pool, marker_name(base))
    builders.delete_volume(host, pool, base)


def remove_builder(tools: Tools, host: str, name: str, record: BuildRecord) -> None:
    """Remove the builder and all it has, but not a base that got its marker."""
    tools.builders.destroy_builder(host, name)
    try:
        delete_media(tools.builders, host, record.pool, name)
        if tools.volumes.find(host, record.pool, record.base) is None:
            delete_disk(tools.builders, host, record.pool, record.base)
    except PermanentError as error:
        if error.reason != "PoolMissing":  # its volumes are gone with the pool
            raise
    tools.builders.undefine_builder(host, name)
