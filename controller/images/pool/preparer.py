"""Ready disks in hosts' pools: find their base volumes, or fetch and upload them.

The pool is the truth: a base with its marker is ready, whoever made it and whenever. In memory is
only what a pool cannot tell: work under way, and failures with their backoff.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import structlog

from controller.desired.effective import EffectiveImage
from controller.errors import (
    GuestkeeperError,
    HostUnreachableError,
    TransientError,
)
from controller.images.failures import Failure, Subject, Unread
from controller.images.fetch.digests import FileFacts
from controller.images.fetch.http import Pace
from controller.images.fetch.single_flight import SingleFlight
from controller.images.fetch.sources import Content, Role, Sources, roles
from controller.images.iso.cloud_init_seed import build_seed
from controller.images.pool.base_volumes import Storage, Volumes, volume_name, volume_stem
from controller.images.progress import ImageProgress, Phase, human
from controller.observed.host import VolumeView
from controller.observed.image import ImageState, ImageView

_log = structlog.get_logger(__name__)
_REPORT_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 60.0
_NOT_REMEMBERED = "Stopping"  # the daemon stops: no failure, and no retry

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Ready:
    digests: tuple[str, ...]
    view: ImageView
    looked: float  # monotonic


@dataclass(frozen=True, slots=True)
class _Seen:
    subject: Subject
    contents: tuple[Content, ...] | None  # None: some file must be read first
    at: float  # monotonic

    @property
    def digests(self) -> tuple[str, ...]:
        return tuple(content.sha256 for content in self.contents or ())


class _Slot:
    """What is known in memory of one image on one pool; guarded by the preparer's lock."""

    __slots__ = ("failure", "progress", "ready", "reported", "unread")

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.progress: ImageProgress | None = None
        self.ready: _Ready | None = None
        self.reported = 0.0
        self.unread: Unread | None = None


class ImagePreparer:
    """Images from files and URLs, over a ``Storage``. Safe to use from many threads.

    ``on_change(image name)`` is called, from any thread, when a state changes and about once a
    second of progress; it must not block. ``recheck``: seconds after which the source files are
    looked at again.
    """

    def __init__(
        self,
        storage: Storage,
        images_dir: Path,
        cache_dir: Path,
        *,
        on_change: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
        recheck: float = 1.0,
    ) -> None:
        self._storage = storage
        self._stop = threading.Event()
        self._sources = Sources(images_dir, cache_dir, stop=self._stop, pace=pace)
        self._volumes = Volumes(storage)
        self._on_change = on_change
        self._clock = clock
        self._monotonic = monotonic
        self._recheck = recheck
        self._single_flight = SingleFlight()
        self._lock = threading.Lock()
        self._slots: dict[_Key, _Slot] = {}
        self._seen: dict[str, _Seen] = {}

    def view(self, host: str, pool: str, image: EffectiveImage) -> ImageView:
        """The image's state as known now; looks at volumes when nothing is, and once a minute.

        While volumes cannot be looked at, the last state stays; without one, the view says why.
        Raises ``HostUnreachableError`` only where nothing is known and the host does not answer.
        """
        seen = self._look_at_sources(image)
        with self._lock:
            slot = self._slots.setdefault((host, pool, image.name), _Slot())
            progress, failure, ready = slot.progress, slot.failure, slot.ready
            unread = slot.unread
        missing = ImageView(image.name, host, pool, ImageState.MISSING)
        if progress is not None:
            return replace(missing, state=ImageState.PREPARING, message=progress.message)
        if failure is not None and failure.holds(seen.subject, self._clock()):
            return replace(
                missing,
                state=ImageState.FAILED,
                message=str(failure.error),
                reason=failure.error.reason,
                retry_at=failure.retry_at,
            )
        if seen.contents is None:
            return replace(missing, message="not looked at yet")
        if ready is not None and ready.digests != seen.digests:
            ready = None
        if ready is not None and self._monotonic() - ready.looked < _LOOK_AGAIN_SECONDS:
            return ready.view
        if unread is not None and unread.digests != seen.digests:
            unread = None
        if unread is not None and self._monotonic() < unread.until:
            return ready.view if ready is not None else self._untold(missing, unread)
        try:
            found = {
                content.role: self._find(host, pool, image, content) for content in seen.contents
            }
        except GuestkeeperError as error:
            if error.reason == "BaseRefused":
                return replace(
                    missing, state=ImageState.FAILED, message=str(error), reason=error.reason
                )
            if ready is None and error.reason == HostUnreachableError.reason:
                raise
            unread = Unread.after(unread, seen.digests, error, self._monotonic())
            with self._lock:
                slot.unread = unread
            return ready.view if ready is not None else self._untold(missing, unread)
        whole = {role: volume for role, volume in found.items() if volume is not None}
        if len(whole) < len(found):
            with self._lock:
                slot.ready = slot.unread = None
            return replace(missing, message="not in the pool yet")
        return self._keep_ready(host, pool, image, seen.contents, whole)

    def prepare(self, host: str, pool: str, image: EffectiveImage) -> None:
        """Fetch, check and upload what is missing; takes minutes, or no time if all is there.

        A call for an image that is being prepared joins that work. During the backoff of a failure
        of any kind, that failure is raised again. Raises ``PermanentError`` or ``TransientError``
        (``PoolFull``, ``PoolMissing``, ``HostUnreachable``, those of the sources and the storage).
        """
        self._single_flight.run(
            (host, pool, image.name), lambda: self._prepare_recorded(host, pool, image)
        )

    def stems(self, image: EffectiveImage) -> tuple[str, ...]:
        """Prefixes of the image's volume names; without the digest while a file was not read yet,
        because any of them may be the one then.
        """
        contents = self._look_at_sources(image).contents
        if contents is None:
            return tuple(volume_stem(image.name, role) for role in roles(image))
        return tuple(
            volume_name(image.name, content.role, content.sha256, "").removesuffix(".")
            for content in contents
        )

    def seed(
        self, host: str, pool: str, volume: str, *, instance_id: str, hostname: str, keys: list[str]
    ) -> None:
        """Make or replace the NoCloud seed volume. Raises what the storage raises."""
        content = build_seed(instance_id=instance_id, hostname=hostname, keys=keys)
        self._storage.upload_volume(
            host,
            pool,
            volume,
            BytesIO(content),
            len(content),
            format="iso",
            progress=lambda _: None,
        )

    def progress(self) -> tuple[ImageProgress, ...]:
        """The preparations under way, for metrics and the CLI."""
        with self._lock:
            return tuple(slot.progress for slot in self._slots.values() if slot.progress)

    def close(self) -> None:
        """End work under way at its next chunk; what was fetched so far is kept."""
        self._stop.set()

    # --- preparing ---

    def _prepare_recorded(self, host: str, pool: str, image: EffectiveImage) -> None:
        now = self._clock()
        subject = self._look_at_sources(image, fresh=True).subject
        with self._lock:
            slot = self._slots.setdefault((host, pool, image.name), _Slot())
            failure = slot.failure
            if failure is not None and not failure.holds(subject, now):
                failure = slot.failure = None
            if failure is not None and now < failure.retry_at:
                raise failure.again(now)
            detail = failure.next_try if failure is not None else ""
            slot.progress = ImageProgress(
                image.name, host, pool, Phase.WAITING, 0, None, since=now, detail=detail
            )
        self._on_change(image.name)
        log = _log.bind(image=image.name, host=host, pool=pool)
        try:
            self._prepare(host, pool, image, slot)
            with self._lock:
                slot.failure = None
        except Exception as error:
            if isinstance(error, GuestkeeperError) and error.reason == _NOT_REMEMBERED:
                raise
            remote = image.spec.source.url is not None
            failed = Failure.after(failure, subject, error, self._clock(), remote=remote)
            log.warning(
                "image failed", reason=failed.error.reason, error=str(error), tries=failed.count
            )
            with self._lock:
                slot.failure = failed
            raise
        finally:
            with self._lock:
                slot.progress = None
                self._seen.pop(image.digest, None)
            self._on_change(image.name)

    def _prepare(self, host: str, pool: str, image: EffectiveImage, slot: _Slot) -> None:
        contents: list[Content] = []
        found: dict[Role, VolumeView] = {}
        wanted: dict[Role, FileFacts] = {}
        for role in roles(image):
            content = self._sources.known(image, role)
            volume = self._find(host, pool, image, content) if content is not None else None
            if content is None or volume is None:
                facts = self._sources.obtain(image, role, partial(self._report, slot))
                content = Content(role, facts.sha256, facts.format, facts.virtual_size)
                volume = self._find(host, pool, image, content)
                if volume is None:
                    wanted[role] = facts
            if volume is not None:
                found[role] = volume
            contents.append(content)
        self._check_room(host, pool, image, wanted)
        total = sum(facts.signature.size for facts in wanted.values())
        before = 0
        for role, facts in wanted.items():
            found[role] = self._volumes.put(
                host,
                pool,
                volume_name(image.name, role, facts.sha256, facts.format),
                facts,
                check=self._sources.check_stop,
                progress=partial(self._report_upload, slot, before, total),
            )
            before += facts.signature.size
        self._keep_ready(host, pool, image, tuple(contents), found)

    def _check_room(
        self, host: str, pool: str, image: EffectiveImage, wanted: dict[Role, FileFacts]
    ) -> None:
        if not wanted:
            return
        needed = sum(facts.signature.size for facts in wanted.values())
        view = self._storage.host(host).pools.get(pool)
        if view is None or not view.active or needed <= view.available:
            return  # the upload reports what is wrong with the pool itself
        freed = sum(
            self._volumes.remains(
                host, pool, volume_name(image.name, role, facts.sha256, facts.format)
            )
            for role, facts in wanted.items()
        )
        if needed > view.available + freed:
            raise TransientError(
                f"storage pool {pool} of host {host} has {human(view.available + freed)}"
                f" free, and image {image.name} needs {human(needed)}; make room there",
                reason="PoolFull",
            )

    def _report_upload(self, slot: _Slot, before: int, total: int, done: int) -> None:
        self._report(slot, Phase.UPLOADING, before + done, total)

    def _report(
        self, slot: _Slot, phase: Phase, done: int, total: int | None, detail: str = "", /
    ) -> None:
        now = self._monotonic()
        with self._lock:
            before = slot.progress
            if before is None:
                return
            if not (done or detail):  # nothing came yet: keep showing the last failure
                detail = before.detail
            slot.progress = replace(before, phase=phase, done=done, total=total, detail=detail)
            same = (before.phase, before.detail) == (phase, detail)
            told = same and now - slot.reported < _REPORT_SECONDS
            if not told:
                slot.reported = now
        if not told:
            self._on_change(before.image)

    # --- looking ---

    def _look_at_sources(self, image: EffectiveImage, *, fresh: bool = False) -> _Seen:
        now = self._monotonic()
        with self._lock:
            seen = self._seen.get(image.digest)
        if seen is not None and not fresh and now - seen.at < self._recheck:
            return seen
        known = [self._sources.known(image, role) for role in roles(image)]
        contents = tuple(content for content in known if content is not None)
        seen = _Seen(
            subject=(image.digest, self._sources.signatures(image)),
            contents=contents if len(contents) == len(known) else None,
            at=now,
        )
        with self._lock:
            self._seen[image.digest] = seen
        return seen

    def _untold(self, missing: ImageView, unread: Unread) -> ImageView:
        return replace(
            missing,
            state=ImageState.FAILED,
            message=str(unread.error),
            reason=unread.error.reason,
            retry_at=self._clock() + max(0.0, unread.until - self._monotonic()),
        )

    def _find(
        self, host: str, pool: str, image: EffectiveImage, content: Content
    ) -> VolumeView | None:
        unknown = content.role is Role.DISK and not content.format
        formats = ("qcow2", "raw") if unknown else (content.format,)
        for format_ in formats:
            name = volume_name(image.name, content.role, content.sha256, format_)
            found = self._volumes.find(host, pool, name)
            if found is not None:
                return found
        return None

    def _keep_ready(
        self,
        host: str,
        pool: str,
        image: EffectiveImage,
        contents: tuple[Content, ...],
        found: dict[Role, VolumeView],
    ) -> ImageView:
        disk = found[Role.DISK]
        kernel, initrd = found.get(Role.KERNEL), found.get(Role.INITRD)
        view = ImageView(
            image.name,
            host,
            pool,
            ImageState.READY,
            base=disk.name,
            base_path=disk.path,
            base_format=disk.name.rpartition(".")[2],
            capacity=contents[0].virtual_size or disk.capacity,
            kernel_path=kernel.path if kernel is not None else None,
            initrd_path=initrd.path if initrd is not None else None,
            changed_at=self._volumes.changed_at(host, pool, disk.name),
        )
        digests = tuple(content.sha256 for content in contents)
        with self._lock:
            slot = self._slots.setdefault((host, pool, image.name), _Slot())
            slot.ready = _Ready(digests, view, self._monotonic())
            slot.unread = None
        return view
