"""Unattended installs in hosts' pools: what is known of each image, and its build under way.

The pool and the builder's record are the truth: a base with its marker is ready, a builder whose
last attempt failed is a stalled build, whoever made them and whenever. In memory is only what
those cannot tell: builds that run, and why one could not begin.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from controller.desired.effective import EffectiveImage
from controller.errors import GuestkeeperError, HostUnreachableError, TransientError
from controller.images.failures import Failure, Subject
from controller.images.install.build import Build, StalledError
from controller.images.install.builder_resources import Tools, remove_builder
from controller.images.install.status import look
from controller.images.install.turns import Turns
from controller.images.progress import ImageProgress, Phase
from controller.observed.build import INFIX, BuildRecord, Step
from controller.observed.image import ImageState, ImageView

log = structlog.get_logger(__name__)
_LOOK_AGAIN_SECONDS = 60.0
_REPORT_SECONDS = 1.0
_NO_FAILURES = ("Stopping", "Superseded")
"""Reasons of a build's end: the daemon stops and the next goes on; other content is wanted."""

_Key = tuple[str, str, str]
OnBuilt = Callable[[str, str, float], None]
"""(image, host, seconds that the attempt took): a base was made."""
OnFailed = Callable[[str, str, BuildRecord], None]
"""(image, host, the record of the attempt that failed)."""


@dataclass(frozen=True, slots=True)
class _Look:
    content: str
    view: ImageView
    at: float  # monotonic


class _Slot:
    """What is known in memory of one image on one pool; guarded by the lock of ``Installs``."""

    __slots__ = ("build", "content", "failure", "looked", "looks", "next", "progress", "reported")

    def __init__(self) -> None:
        self.build: Build | None = None
        self.content = ""
        self.next: EffectiveImage | None = None
        """What was asked for while an older content was being built."""
        self.progress: ImageProgress | None = None
        self.failure: Failure | None = None
        self.looked: _Look | None = None
        self.looks = 0
        """The number of events so far; a look that began before the last one is not kept."""
        self.reported = 0.0


class _Watch:
    """Passes the progress of one build on to ``Installs``."""

    def __init__(self, installs: "Installs", key: _Key) -> None:
        self._installs = installs
        self._key = key

    def working(self, phase: Phase, done: int, total: int | None, detail: str) -> None:
        self._installs.report(self._key, phase, done, total, detail)

    def built(self, seconds: float) -> None:
        host, _, image = self._key
        self._installs.on_built(image, host, seconds)

    def attempt_failed(self, record: BuildRecord) -> None:
        host, _, image = self._key
        self._installs.on_failed(image, host, record)


class Installs:
    """Images by unattended install. Safe to use from many threads.

    ``on_change(image name)``, ``on_built`` and ``on_failed`` are called from any thread and must
    not block. ``at_once`` is how many installers run at the same time on a host.
    """

    def __init__(
        self,
        tools: Tools,
        *,
        at_once: int,
        on_change: Callable[[str], None],
        on_built: OnBuilt,
        on_failed: OnFailed,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tools = tools
        self._turns = Turns(at_once)
        self._on_change = on_change
        self.on_built = on_built
        self.on_failed = on_failed
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._slots: dict[_Key, _Slot] = {}

    def view(self, host: str, pool: str, image: EffectiveImage) -> ImageView:
        """The image's state as known now; looks at volumes when nothing is, and once a minute.

        Raises as ``look`` where nothing is known from before; ``BaseRefused`` at each look.
        """
        with self._lock:
            slot = self._slots.setdefault((host, pool, image.name), _Slot())
            building = slot.build is not None and slot.content == image.content
            progress, failure, looked = slot.progress, slot.failure, slot.looked
        named = ImageView(image.name, host, pool, ImageState.PREPARING)
        if building and progress is not None:
            return replace(named, message=progress.message)
        view = self._looked(slot, looked, host, pool, image)
        if view.state is ImageState.READY or failure is None:
            return view
        if failure.subject != _subject(image):
            return view
        return replace(
            named,
            state=ImageState.FAILED,
            message=str(failure.error),
            reason=failure.error.reason,
            retry_at=failure.retry_at,
        )

    def _looked(
        self, slot: _Slot, before: _Look | None, host: str, pool: str, image: EffectiveImage
    ) -> ImageView:
        """The state on the host, at most a minute old; older while it cannot be looked at."""
        if before is not None and before.content != image.content:
            before = None
        if before is not None and self._monotonic() - before.at < _LOOK_AGAIN_SECONDS:
            return before.view
        with self._lock:
            number = slot.looks
        try:
            view = look(self._tools, host, pool, image)
        except GuestkeeperError as error:
            if before is None or error.reason == "BaseRefused":
                raise
            if error.reason == HostUnreachableError.reason:
                return before.view
            view = before.view  # that it cannot be looked at now is no reason to forget it
        with self._lock:
            if slot.looks == number:
                slot.looked = _Look(image.content, view, self._monotonic())
        return view

    def prepare(self, host: str, pool: str, image: EffectiveImage, *, anew: bool = False) -> None:
        """Start or continue the build of a missing base; does not wait for its end.

        Nothing happens where the base is there (unless ``anew``) or is being built. During the
        backoff of an error that prevented the build, that error is raised again.
        """
        if not anew and self.view(host, pool, image).state is ImageState.READY:
            return
        key = (host, pool, image.name)
        now = self._tools.clock()
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            if slot.build is not None:
                if slot.content != image.content:
                    slot.next = image
                    slot.build.cancel()
                return
            failure = slot.failure
            if failure is not None and failure.subject == _subject(image):
                if now < failure.retry_at:
                    raise failure.again(now)
            else:
                slot.failure = None
            watch = _Watch(self, key)
            turn = self._turns.of(host)
            slot.build = Build(self._tools, host, pool, image, turn, watch)
            slot.content = image.content
            before = slot.failure
            detail = before.next_try if before is not None else ""
            slot.progress = ImageProgress(
                image.name, host, pool, Phase.WAITING, 0, None, since=now, detail=detail
            )
            thread = threading.Thread(
                target=self._run,
                args=(key, slot, slot.build, image),
                name=f"build-{image.name}",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError as error:
                slot.build = slot.progress = None
                raise TransientError(
                    f"no thread could be made to build image {image.name} ({error})",
                    reason="NoThread",
                    retry_after=5.0,
                ) from error
        self._on_change(image.name)

    def progress(self) -> tuple[ImageProgress, ...]:
        """The builds under way."""
        with self._lock:
            return tuple(slot.progress for slot in self._slots.values() if slot.progress)

    def knock(self, builder: str) -> None:
        """Tell the build that libvirt reported an event of its builder domain."""
        with self._lock:
            builds = [slot.build for slot in self._slots.values() if slot.build is not None]
        for build in builds:
            if build.name == builder:
                build.knock()

    def retry(self, image: EffectiveImage, hosts: Collection[str]) -> bool:
        """Forget what failed, so that the image is built anew; False where nothing had failed.

        Raises what the hosts' calls raise.
        """
        found = False
        for host in hosts:
            for view in self._tools.builders.builders(host):
                record = view.record
                if record is not None and record.image == image.name and record.step is Step.FAILED:
                    remove_builder(self._tools, host, view.name, record)
                    found = True
        found |= self.forget(image)
        self._on_change(image.name)
        return found

    def forget(self, image: EffectiveImage) -> bool:
        """Drop what is known of the image, so that the next look is a fresh one. True where
        something had failed.
        """
        failed = False
        with self._lock:
            for (_, _, name), slot in self._slots.items():
                if name == image.name:
                    failed |= slot.failure is not None
                    slot.looked = slot.failure = None
                    slot.looks += 1
        return failed

    def adopt(self, host: str, images: Mapping[str, EffectiveImage], *, certain: bool) -> None:
        """Continue builds that an earlier daemon began; remove builders that nobody wants.

        ``certain``: an image that is not in ``images`` is really gone. Raises what the host's
        calls raise.
        """
        for view in self._tools.builders.builders(host):
            if view.record is None:
                continue
            try:
                self._adopt_one(host, view.name, view.record, images, certain=certain)
            except HostUnreachableError:
                raise
            except GuestkeeperError as error:  # the other builders are still looked after
                log.warning("builder not tended", host=host, builder=view.name, why=str(error))

    def _adopt_one(
        self,
        host: str,
        name: str,
        record: BuildRecord,
        images: Mapping[str, EffectiveImage],
        *,
        certain: bool,
    ) -> None:
        image = images.get(record.image)
        if image is not None and image.content == record.content:
            left = self._tools.volumes.find(host, record.pool, record.base) is not None
            if left and not self._is_under_way(host, record):
                remove_builder(self._tools, host, name, record)
            elif record.step is not Step.FAILED or record.attempt <= image.spec.retries:
                self.prepare(host, record.pool, image)
        elif certain and record.owner == self._tools.owner and not self._cancel_build(host, record):
            log.info("removing a builder that nobody wants", host=host, builder=name)
            remove_builder(self._tools, host, name, record)

    def log_file(self, image: str) -> Path | None:
        """The newest log of the image's builds; None where there is none."""
        found = self._tools.log_dir.glob(f"{image}{INFIX}*.log")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    def is_building(self, image: str) -> bool:
        """Whether this daemon is building the image."""
        with self._lock:
            return any(
                slot.build is not None
                for (_, _, name), slot in self._slots.items()
                if name == image
            )

    # --- From the builds --------------------------------------------------------------------------

    def report(self, key: _Key, phase: Phase, done: int, total: int | None, detail: str) -> None:
        """Record a build's progress; ``on_change`` follows each new text, else once a second."""
        now = self._monotonic()
        with self._lock:
            slot = self._slots[key]
            before = slot.progress
            if before is None:
                return
            slot.progress = replace(before, phase=phase, done=done, total=total, detail=detail)
            news = (before.phase, before.detail) != (phase, detail)
            due = (before.done, before.total) != (done, total)
            told = not news and not (due and now - slot.reported >= _REPORT_SECONDS)
            if not told:
                slot.reported = now
        if not told:
            self._on_change(before.image)

    def _run(self, key: _Key, slot: _Slot, build: Build, image: EffectiveImage) -> None:
        failure: Failure | None = None
        try:
            build.run()
        except StalledError:
            pass  # its record says so: the next look finds it
        except GuestkeeperError as error:
            if error.reason not in _NO_FAILURES:
                failure = self._failed(key, slot, image, error)
        except Exception as error:
            log.exception("a build panicked", image=image.name, host=key[0])
            failure = self._failed(key, slot, image, error)
        finally:
            with self._lock:
                slot.build = slot.progress = slot.looked = None
                slot.looks += 1
                slot.failure = failure
                following, slot.next = slot.next, None
            self._on_change(image.name)
            if following is not None:
                self._follow(key, following)

    def _follow(self, key: _Key, image: EffectiveImage) -> None:
        host, pool, _ = key
        try:
            self.prepare(host, pool, image)
        except GuestkeeperError as error:
            log.info("the newer content cannot be built yet", image=image.name, why=str(error))

    def _failed(self, key: _Key, slot: _Slot, image: EffectiveImage, error: Exception) -> Failure:
        failure = Failure.after(
            slot.failure, _subject(image), error, self._tools.clock(), remote=True
        )
        host, pool, name = key
        reason, text = failure.error.reason, str(failure.error)
        log.warning("image failed", image=name, host=host, pool=pool, reason=reason, error=text)
        return failure

    def _is_under_way(self, host: str, record: BuildRecord) -> bool:
        with self._lock:
            slot = self._slots.get((host, record.pool, record.image))
            return slot is not None and slot.build is not None

    def _cancel_build(self, host: str, record: BuildRecord) -> bool:
        """Cancel the build of ``record`` if it is under way here. True where any build of its image
        is: the builder is removed at the next look then.
        """
        with self._lock:
            slot = self._slots.get((host, record.pool, record.image))
            if slot is None or slot.build is None:
                return False
            if slot.content == record.content:
                slot.build.cancel()
            return True


def _subject(image: EffectiveImage) -> Subject:
    return (image.digest, ())
