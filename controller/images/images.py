"""Images on hosts: the port ``Images``, for ready disks and for unattended installs.

``pool.preparer`` fetches and uploads a ready disk, ``install.installs`` builds an installed one.
Both end as a base volume with a marker; ``pool.garbage`` deletes those that nobody uses any more.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from controller.desired.effective import EffectiveImage
from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.images.fetch.http import Pace
from controller.images.install.builder_resources import Tools
from controller.images.install.installer_source import Locations
from controller.images.install.installs import Installs, OnBuilt, OnFailed
from controller.images.pool.base_volumes import Volumes, install_base_name, install_base_stem
from controller.images.pool.garbage import Bases
from controller.images.pool.preparer import ImagePreparer
from controller.images.ports import Builders, Secrets
from controller.images.progress import ImageProgress
from controller.observed.image import ImageState, ImageView

log = structlog.get_logger(__name__)
_FOLLOW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Directories:
    """``images`` holds the documents' files, ``cache`` may be deleted, ``state`` keeps logs."""

    images: Path
    cache: Path
    state: Path


@dataclass(frozen=True, slots=True)
class Hooks:
    """Callbacks, called from any thread; they must not block.

    ``changed(image)`` when a state changed, and about once a second of progress;
    ``built(image, host, seconds)`` when an install ended in a base, ``failed(image, host, record)``
    when an attempt failed;
    ``collected(volume, host)`` when an unused base was deleted.
    """

    changed: Callable[[str], None] = lambda _: None
    built: OnBuilt = lambda *_: None
    failed: OnFailed = lambda *_: None
    collected: Callable[[str, str], None] = lambda *_: None


class Images:
    """Satisfies ``execution.ports.Images``. Safe to use from many threads."""

    def __init__(
        self,
        builders: Builders,
        secrets: Secrets,
        directories: Directories,
        hooks: Hooks | None = None,
        *,
        owner: str = "",
        builds_at_once: int = 1,
        unused_ttl: float = 7 * 86400.0,
        clock: Callable[[], float] = time.time,
        pace: Pace | None = None,
    ) -> None:
        """``owner`` marks this daemon's builders; ``unused_ttl`` in seconds."""
        hooks = hooks or Hooks()
        self._builders = builders
        self._stop = threading.Event()
        self._preparer = ImagePreparer(
            builders,
            directories.images,
            directories.cache,
            on_change=hooks.changed,
            clock=clock,
            pace=pace,
        )
        self._locations = Locations(
            builders,
            directories.images,
            directories.cache,
            stop=self._stop,
            check_stop=self._check_stop,
            pace=pace,
        )
        self._installs = Installs(
            Tools(
                builders=builders,
                locations=self._locations,
                volumes=Volumes(builders),
                secrets=secrets,
                owner=owner,
                log_dir=directories.state / "builds",
                clock=clock,
                monotonic=time.monotonic,
                wait=self._stop.wait,
                check_stop=self._check_stop,
            ),
            at_once=builds_at_once,
            on_change=hooks.changed,
            on_built=hooks.built,
            on_failed=hooks.failed,
        )
        self._bases = Bases(
            builders,
            directories.state / "unused-bases.json",
            ttl=unused_ttl,
            clock=clock,
            on_collected=hooks.collected,
        )

    # --- The port ---------------------------------------------------------------------------------

    def view(self, host: str, pool: str, image: EffectiveImage) -> ImageView:
        """The image's state as known now; looks at volumes when nothing is, and once a minute.

        Raises as ``ImagePreparer.view`` and ``Installs.view``.
        """
        return self._of(image).view(host, pool, image)

    def prepare(self, host: str, pool: str, image: EffectiveImage) -> None:
        """Bring the base into the pool: upload a ready disk now (minutes), or start a build, which
        goes on by itself. Raises as ``ImagePreparer.prepare`` and ``Installs.prepare``.
        """
        self._of(image).prepare(host, pool, image)

    def seed(
        self, host: str, pool: str, volume: str, *, instance_id: str, hostname: str, keys: list[str]
    ) -> None:
        """Make or replace the NoCloud seed volume. Raises what the storage raises."""
        self._preparer.seed(
            host, pool, volume, instance_id=instance_id, hostname=hostname, keys=keys
        )

    def _of(self, image: EffectiveImage) -> ImagePreparer | Installs:
        return self._preparer if image.install is None else self._installs

    # --- Beyond the port --------------------------------------------------------------------------

    def progress(self) -> tuple[ImageProgress, ...]:
        """The preparations under way, for metrics and the CLI."""
        return (*self._preparer.progress(), *self._installs.progress())

    def knock(self, builder: str) -> None:
        """Tell the build that libvirt reported an event of its builder domain."""
        self._installs.knock(builder)

    def build(self, host: str, pool: str, image: EffectiveImage, *, refresh: bool) -> ImageView:
        """Start a build on request, and return the state. With ``refresh`` the installer's tree is
        read again. A stalled build is not started again; ``retry`` does that.

        Raises ``PermanentError(reason="NoInstall")`` for a ready disk, or as ``prepare`` does.
        """
        if image.install is None:
            raise PermanentError(
                f"Image {image.name} is a ready disk: there is nothing to build",
                reason="NoInstall",
            )
        # An operator does not wait for a backoff, and needs a fresh look.
        self._installs.forget(image)
        if refresh:
            self._locations.refresh(image)
        view = self.view(host, pool, image)
        # An existing base may not match what the tree holds now: only a build finds that out.
        if not view.stalled and (refresh or view.state is not ImageState.READY):
            self._installs.prepare(host, pool, image, anew=refresh)
        return self.view(host, pool, image)

    def retry(self, image: EffectiveImage, hosts: Collection[str]) -> bool:
        """Forget what failed, so that it is retried; False where nothing had failed."""
        return self._installs.retry(image, hosts)

    def tend(
        self,
        host: str,
        images: Callable[[], Mapping[str, EffectiveImage]],
        pools: Collection[str],
        *,
        certain: bool,
    ) -> None:
        """Continue builds found on the host; remove builders and bases that nobody wants.

        ``images()`` returns the documents' images at that time, by name; ``certain``: an image that
        is not among them is really gone. Raises what the host's calls raise.
        """
        self._installs.adopt(host, images(), certain=certain)
        if certain:
            self._bases.collect(
                host, pools, lambda pool, volume: self._wants(host, pool, volume, images())
            )

    def build_log(self, image: str, limit: int, *, follow: bool) -> Iterator[bytes]:
        """The last ``limit`` bytes of the installer's output; with ``follow`` also all output from
        now on, until the build ends. Nothing where nothing was ever built.
        """
        path = self._installs.log_file(image)
        at = None
        while True:
            building = self._installs.is_building(image)
            block, at = _read_on(path, at, limit) if path is not None else (b"", None)
            yield block
            if not follow or (not building and not block):
                return
            if not block:
                self._stop.wait(_FOLLOW_SECONDS)
            latest = self._installs.log_file(image)
            if latest != path:
                path, at = latest, 0
            if self._stop.is_set():
                return

    def close(self) -> None:
        """End work under way at its next chunk; builders go on, for the next daemon to continue."""
        self._stop.set()
        self._preparer.close()

    def _wants(
        self, host: str, pool: str, volume: str, images: Mapping[str, EffectiveImage]
    ) -> bool:
        """Whether an Image may want this base or boot volume, by its current document."""
        return any(volume.startswith(self._stems(host, pool, image)) for image in images.values())

    def _stems(self, host: str, pool: str, image: EffectiveImage) -> tuple[str, ...]:
        """Prefixes of the names of the image's volumes, as exact as is known now."""
        if image.install is None:
            return self._preparer.stems(image)
        location = self._locations.known(host, pool, image)
        if not location:
            return (install_base_stem(image.name, image.content),)
        return (install_base_name(image.name, image.content, location),)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise TransientError("the daemon is stopping", reason="Stopping")


def _read_on(path: Path, at: int | None, limit: int) -> tuple[bytes, int | None]:
    """At most ``limit`` bytes from offset ``at`` (None: the last), and the offset after them."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            start = max(0, end - limit) if at is None else at
            file.seek(start if start <= end else 0)  # shorter than before: a new file
            block = file.read(limit)
            return block, file.tell()
    except FileNotFoundError:
        return b"", at
    except OSError as error:
        raise GuestkeeperError(f"the log {path} cannot be read: {error}") from error
