"""Get an image's bytes: turn an EffectiveImage into checked local files.

An image has up to three contents: its disk, and for direct boot a kernel and an initrd. Each is
identified by its sha256, which names its volume. ``known`` tells what is known without reading a
file, ``obtain`` downloads and hashes.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

from controller.desired.effective import EffectiveImage
from controller.desired.files.trusted_read import Trust
from controller.errors import PermanentError, TransientError
from controller.images.fetch.cache import Downloader
from controller.images.fetch.digests import Digests, FileFacts, Signature, signature
from controller.images.fetch.http import Pace
from controller.images.fetch.local_files import EVERYBODY, resolve, trusted
from controller.images.fetch.redirects import shown
from controller.images.progress import Phase


class Report(Protocol):
    """Receives the phase of a preparation, its progress in bytes, and what failed last."""

    def __call__(self, phase: Phase, done: int, total: int | None, detail: str = "", /) -> None: ...


class Role(StrEnum):
    DISK = "base"
    KERNEL = "kernel"
    INITRD = "initrd"


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of a content without reading it. ``format`` "" and size 0: not known yet."""

    role: Role
    sha256: str
    format: str = ""
    virtual_size: int = 0


def roles(image: EffectiveImage) -> tuple[Role, ...]:
    """The contents that ``image`` consists of."""
    boot = image.spec.boot
    if boot is None:
        return (Role.DISK,)
    return (Role.DISK, Role.KERNEL, Role.INITRD) if boot.initrd else (Role.DISK, Role.KERNEL)


class Sources:
    """Files below ``images_dir`` and downloads in ``cache_dir``. Safe to use from many threads."""

    def __init__(
        self,
        images_dir: Path,
        cache_dir: Path,
        *,
        stop: threading.Event | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._images_dir = images_dir
        self._stop = stop or threading.Event()
        self._downloads = Downloader(cache_dir / "downloads", stop=self._stop, pace=pace)
        self._digests = Digests(cache_dir / "digests")

    def signatures(self, image: EffectiveImage) -> tuple[Signature | None, ...]:
        """The signatures of the image's local files, to see if they changed; none of a download."""
        local = roles(image)[1:] if image.spec.source.url is not None else roles(image)
        return tuple(self._seen(image, role)[1] for role in local)

    def known(self, image: EffectiveImage, role: Role) -> Content | None:
        """What is known of the content now; None: ``obtain`` must read the file first.

        A file that is gone keeps its last known content: the base made from it goes on serving.
        """
        disk = role is Role.DISK
        path, seen = self._seen(image, role)
        facts = self._digests.recall(path, seen, disk=disk) if path is not None else None
        expected = image.spec.source.sha256 if disk else None
        if expected is not None and (facts is None or facts.sha256 != expected):
            return Content(role, expected)
        if facts is None:
            return None
        return Content(role, facts.sha256, facts.format, facts.virtual_size)

    def obtain(self, image: EffectiveImage, role: Role, report: Report) -> FileFacts:
        """The content as a whole, checked local file; takes minutes for a download.

        Raises ``PermanentError`` (``ImageNotFound``, ``ImageRefused``, ``ImageUnreadable``,
        ``ChecksumMismatch``, ``DownloadRefused``) or ``TransientError``.
        """
        source = image.spec.source
        if role is Role.DISK and source.url is not None and source.sha256 is not None:
            return self._download(source.url, source.sha256, report)
        relative = self._relative(image, role)
        name = f"the image file {relative}"
        path = resolve(self._images_dir, relative)
        trust = trusted(self._images_dir, path)
        facts = self._examine(path, name, report, disk=role is Role.DISK, trust=trust)
        expected = source.sha256 if role is Role.DISK else None
        if expected is not None and facts.sha256 != expected:
            raise PermanentError(
                f"{name} is not what the Image expects: sha256 expected {expected}, got"
                f" {facts.sha256}; correct spec.source.sha256 or the file",
                reason="ChecksumMismatch",
            )
        return facts

    def _download(self, url: str, sha256: str, report: Report) -> FileFacts:
        path = self._downloads.cached(sha256)
        if path.exists():
            facts = self._examine(path, shown(url), report, disk=True)
            if facts.sha256 == sha256:
                return facts
            self._downloads.discard(sha256)
        self._downloads.fetch(url, sha256, partial(report, Phase.DOWNLOADING))
        return self._examine(path, shown(url), report, disk=True, sha256=sha256)

    def _examine(
        self,
        path: Path,
        name: str,
        report: Report,
        *,
        disk: bool,
        sha256: str | None = None,
        trust: Trust = EVERYBODY,
    ) -> FileFacts:
        return self._digests.examine(
            path,
            name,
            disk=disk,
            progress=lambda done, total: report(Phase.CHECKING, done, total),
            check=self.check_stop,
            sha256=sha256,
            trust=trust,
        )

    def check_stop(self) -> None:
        """Raise ``TransientError(reason="Stopping")`` once the daemon is stopping."""
        if self._stop.is_set():
            raise TransientError("the daemon is stopping", reason="Stopping")

    def _seen(self, image: EffectiveImage, role: Role) -> tuple[Path | None, Signature | None]:
        source = image.spec.source
        try:
            if role is Role.DISK and source.url is not None and source.sha256 is not None:
                path = self._downloads.cached(source.sha256)
            else:
                path = resolve(self._images_dir, self._relative(image, role))
        except PermanentError:
            return None, None
        return path, signature(path)

    def _relative(self, image: EffectiveImage, role: Role) -> str:
        boot = image.spec.boot
        relative: str | None
        if role is Role.DISK:
            relative = image.spec.source.file
        elif role is Role.KERNEL:
            relative = boot.kernel if boot else None
        else:
            relative = boot.initrd if boot else None
        if relative is None:
            raise PermanentError(
                f"Image {image.name} has no source for its {role}", reason="ImageNotFound"
            )
        return relative
