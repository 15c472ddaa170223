"""Find and fetch an installer's kernel and initrd: from a tree, an ISO, or two files.

A tree's ``.treeinfo`` (RHEL, Fedora) or ``SHA256SUMS`` (Debian) names these files and their sha256.
That is kept in the cache and not read again while the files can be fetched: a mirror that moves on
to the next minor release changes nothing by itself, since no document changed.
``refresh`` has it read again.
"""

import configparser
import contextlib
import hashlib
import io
import json
import posixpath
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from controller.desired.effective import EffectiveImage, EffectiveInstall, InstallKind
from controller.desired.schema.image import IsoVolume
from controller.errors import GuestkeeperError, PermanentError
from controller.images.fetch.cache import Downloader
from controller.images.fetch.digests import Digests, signature
from controller.images.fetch.http import Pace
from controller.images.fetch.local_files import resolve, trusted
from controller.images.fetch.redirects import shown
from controller.images.fetch.sources import Report
from controller.images.fetch.texts import fetch_text
from controller.images.iso.read import extract
from controller.images.ports import Builders
from controller.images.progress import Phase
from controller.observed.host import VolumeView

UNREAD = ""
_SHA256 = 64
_DEBIAN = ("netboot/debian-installer/amd64/linux", "netboot/debian-installer/amd64/initrd.gz")
_ON_ISO = {
    InstallKind.KICKSTART: ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"),
    InstallKind.PRESEED: ("install.amd/vmlinuz", "install.amd/initrd.gz"),
    InstallKind.AUTOINSTALL: ("casper/vmlinuz", "casper/initrd"),
}


@dataclass(frozen=True, slots=True)
class Installer:
    """Kernel and initrd as checked local files. ``key`` identifies what the location holds."""

    key: str
    kernel: Path
    initrd: Path


@dataclass(frozen=True, slots=True)
class _Tree:
    """The installer's files in a tree: paths below it, and their sha256."""

    url: str
    kernel: str
    kernel_sha256: str
    initrd: str
    initrd_sha256: str

    @property
    def key(self) -> str:
        return _key(self.kernel_sha256, self.initrd_sha256)


class _TreeError(ValueError):
    """What is wrong in a tree's list of files, without quoting it."""


class Locations:
    """Finds and fetches installers. Safe to use from many threads."""

    def __init__(
        self,
        builders: Builders,
        images_dir: Path,
        cache_dir: Path,
        *,
        stop: threading.Event,
        check_stop: Callable[[], None],
        pace: Pace | None = None,
    ) -> None:
        self._builders = builders
        self._images_dir = images_dir
        self._pace = pace or Pace()
        self._stop = stop
        self._check_stop = check_stop
        self._downloads = Downloader(cache_dir / "downloads", stop=stop, pace=pace)
        self._digests = Digests(cache_dir / "digests")
        self._trees = cache_dir / "trees"
        self._extracted = cache_dir / "installers"
        self._lock = threading.Lock()
        self._stale: set[str] = set()

    def known(self, host: str, pool: str, image: EffectiveImage) -> str | None:
        """The location's key, if it is known without fetching or reading a file.

        ``UNREAD`` for files that are there and must be read first; None where it is not known what
        the location holds. Raises what looking up an ISO's volume raises.
        """
        install = _of(image)
        location = install.location
        if location.tree is not None:
            tree = self._remembered(location.tree)
            return tree.key if tree is not None else None
        if location.iso is not None:
            return self._iso_key(host, location.iso, pool)
        digests = []
        for source, sha256 in (
            (location.kernel, location.kernel_sha256),
            (location.initrd, location.initrd_sha256),
        ):
            known = sha256 or self._known_file(source or "")
            if not known:
                return known
            digests.append(known)
        return _key(*digests)

    def obtain(self, host: str, pool: str, image: EffectiveImage, report: Report) -> Installer:
        """Fetch and check what is not there yet; takes minutes.

        Raises ``PermanentError`` (``TreeUnusable``, ``IsoUnusable``, those of downloads and files)
        or ``TransientError``.
        """
        install = _of(image)
        location = install.location
        if location.tree is not None:
            return self._from_tree(location.tree, install.kind, report)
        if location.iso is not None:
            return self._from_iso(host, pool, location.iso, install.kind, report)
        kernel, kernel_sha256 = self._file(location.kernel, location.kernel_sha256, report)
        initrd, initrd_sha256 = self._file(location.initrd, location.initrd_sha256, report)
        return Installer(_key(kernel_sha256, initrd_sha256), kernel, initrd)

    def refresh(self, image: EffectiveImage) -> None:
        """Have the image's tree read again when it is next needed. Until that has succeeded,
        ``known`` returns what was read before.
        """
        tree = _of(image).location.tree
        if tree is not None:
            with self._lock:
                self._stale.add(tree)

    # --- Trees ------------------------------------------------------------------------------------

    def _from_tree(self, url: str, kind: InstallKind, report: Report) -> Installer:
        with self._lock:
            stale = url in self._stale
        tree = self._remembered(url)
        if tree is not None and not stale:
            try:
                return self._fetch_tree(tree, report)
            except PermanentError as error:
                # The mirror has moved on, and the files in the cached list are no longer there.
                if error.reason not in ("ChecksumMismatch", "DownloadRefused"):
                    raise
        tree = self._ask(url, kind, report)
        installer = self._fetch_tree(tree, report)
        self._remember(tree)
        with self._lock:
            self._stale.discard(url)
        return installer

    def _fetch_tree(self, tree: _Tree, report: Report) -> Installer:
        progress = partial(report, Phase.DOWNLOADING)
        base = tree.url.rstrip("/")
        fetch = partial(self._downloads.fetch, progress=progress, secure=True)
        kernel = fetch(f"{base}/{tree.kernel}", tree.kernel_sha256)
        initrd = fetch(f"{base}/{tree.initrd}", tree.initrd_sha256)
        return Installer(tree.key, kernel, initrd)

    def _ask(self, url: str, kind: InstallKind, report: Report) -> _Tree:
        base = url.rstrip("/")
        name = "SHA256SUMS" if kind is InstallKind.PRESEED else ".treeinfo"
        text = fetch_text(
            f"{base}/{name}",
            pace=self._pace,
            stop=self._stop,
            report=partial(report, Phase.DOWNLOADING),
        )
        read = _sums if kind is InstallKind.PRESEED else _treeinfo
        try:
            return read(url, text)
        except (configparser.Error, KeyError, ValueError) as error:
            # Only our own words: the server's text is not to be trusted.
            why = str(error) if isinstance(error, _TreeError) else "a line there is not readable"
            if isinstance(error, configparser.MissingSectionHeaderError):
                why = "it has no section headers"
            elif isinstance(error, KeyError):
                why = "it lacks a section or an entry"
            raise PermanentError(
                f"{shown(base)}/{name} does not name the installer's kernel and initrd with their"
                f" sha256 ({why}); correct location.tree, or give kernel, initrd and repo",
                reason="TreeUnusable",
            ) from error

    def _record(self, url: str) -> Path:
        return self._trees / (hashlib.sha256(url.encode()).hexdigest() + ".json")

    def _remembered(self, url: str) -> _Tree | None:
        try:
            tree = _Tree(**json.loads(self._record(url).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return tree if tree.url == url else None

    def _remember(self, tree: _Tree) -> None:
        # Only a cache: what cannot be kept is read again.
        with contextlib.suppress(OSError):
            self._trees.mkdir(parents=True, exist_ok=True)
            self._trees.chmod(0o700)  # a URL may hold a password
            part = self._record(tree.url).with_suffix(".tmp")
            part.write_text(json.dumps(asdict(tree)), encoding="utf-8")
            part.replace(self._record(tree.url))

    # --- ISOs -------------------------------------------------------------------------------------

    def _iso_key(self, host: str, iso: IsoVolume, default: str) -> str | None:
        """The key by name and size: libvirt knows no more without reading gigabytes."""
        try:
            volume = self._builders.volume(host, iso.pool or default, iso.volume)
        except PermanentError as error:
            if error.reason not in ("PoolMissing", "PoolInactive"):
                raise
            return None
        return _iso_key(volume) if volume is not None else None

    def _from_iso(
        self, host: str, default: str, iso: IsoVolume, kind: InstallKind, report: Report
    ) -> Installer:
        pool = iso.pool or default
        volume = self._builders.volume(host, pool, iso.volume)
        if volume is None:
            raise PermanentError(
                f"pool {pool} of host {host} has no volume {iso.volume}; upload the ISO there"
                f" (virsh vol-create-as, vol-upload), or correct location.iso",
                reason="IsoMissing",
            )
        key = _iso_key(volume)
        folder = self._extracted / hashlib.sha256(f"{host}/{key}".encode()).hexdigest()
        wanted = dict(zip(("kernel", "initrd"), _ON_ISO[kind], strict=True))
        installer = Installer(key, folder / "kernel", folder / "initrd")
        if installer.initrd.exists() and installer.kernel.exists():
            return installer
        report(Phase.CHECKING, 0, None)
        try:
            extract(
                lambda offset, length: self._read(host, pool, iso.volume, offset, length),
                volume.capacity,
                {path: folder / name for name, path in wanted.items()},
            )
        except GuestkeeperError:
            raise
        except Exception as error:  # pycdlib raises many kinds on what is no ISO
            raise PermanentError(
                f"volume {pool}/{iso.volume} has no {' and '.join(wanted.values())} ({error}); give"
                f" an installation ISO for {kind}, or kernel and initrd beside it",
                reason="IsoUnusable",
            ) from error
        return installer

    def _read(self, host: str, pool: str, volume: str, offset: int, length: int) -> bytes:
        self._check_stop()
        return self._builders.read_volume(host, pool, volume, offset, length)

    # --- Files ------------------------------------------------------------------------------------

    def _known_file(self, source: str) -> str | None:
        try:
            path = resolve(self._images_dir, source)
        except PermanentError:
            return None
        seen = signature(path)
        facts = self._digests.recall(path, seen, disk=False)
        if facts is not None:
            return facts.sha256
        return UNREAD if seen is not None else None

    def _file(self, source: str | None, sha256: str | None, report: Report) -> tuple[Path, str]:
        assert source is not None  # noqa: S101 - the schema: tree, iso, or kernel and initrd
        if "://" in source and sha256 is not None:
            progress = partial(report, Phase.DOWNLOADING)
            return self._downloads.fetch(source, sha256, progress), sha256
        path, name = resolve(self._images_dir, source), f"the image file {source}"
        facts = self._digests.examine(
            path,
            name,
            disk=False,
            progress=lambda done, total: report(Phase.CHECKING, done, total),
            check=self._check_stop,
            trust=trusted(self._images_dir, path),
        )
        if sha256 is not None and facts.sha256 != sha256:
            raise PermanentError(
                f"{name} is not what the Image expects: sha256 expected {sha256}, got"
                f" {facts.sha256}; correct the sha256 beside it, or the file",
                reason="ChecksumMismatch",
            )
        return path, facts.sha256


def _of(image: EffectiveImage) -> EffectiveInstall:
    assert image.install is not None  # noqa: S101 - the caller handles installs only
    return image.install


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _iso_key(volume: VolumeView) -> str:
    return _key(f"{volume.pool}/{volume.name}", str(volume.capacity))


def _treeinfo(url: str, text: str) -> _Tree:
    """Parse ``.treeinfo`` of RHEL and Fedora, an INI file; checksums: ``path = sha256:HEX``."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # paths keep their case
    parser.read_file(io.StringIO(text))
    arch = parser.get("general", "arch", fallback="x86_64")
    images, sums = parser[f"images-{arch}"], parser["checksums"]
    kernel, initrd = _below(images["kernel"]), _below(images["initrd"])
    return _Tree(url, kernel, _sum(sums[kernel]), initrd, _sum(sums[initrd]))


def _sums(url: str, text: str) -> _Tree:
    """Parse ``SHA256SUMS`` of Debian's ``.../installer-amd64/current/images``."""
    sums = {}
    for line in text.splitlines():
        digest, _, path = line.partition(" ")
        sums[path.strip().lstrip("*").removeprefix("./")] = digest
    kernel, initrd = _DEBIAN
    return _Tree(
        url, kernel, _sum(f"sha256:{sums[kernel]}"), initrd, _sum(f"sha256:{sums[initrd]}")
    )


def _sum(text: str) -> str:
    kind, _, digest = text.strip().partition(":")
    if kind != "sha256" or len(digest) != _SHA256 or set(digest) - set("0123456789abcdef"):
        raise _TreeError("a checksum there is no sha256")
    return digest


def _below(path: str) -> str:
    clean = posixpath.normpath(path)
    if clean.startswith(("/", "..")):
        raise _TreeError("a path there leads out of the tree")
    return clean
