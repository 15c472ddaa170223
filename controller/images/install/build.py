"""One unattended install, from nothing to a base volume with its marker: look, decide, act.

``planning.images.building`` decides, ``builder_resources.Workbench`` acts. All state that one turn
hands to the next is also in the builder's record, so where a daemon is killed, at any point, the
next one goes on.
"""

import threading
from dataclasses import replace
from typing import Protocol

import structlog

from controller.desired.effective import EffectiveImage
from controller.errors import (
    GuestkeeperError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.images.install.builder_config import timeout
from controller.images.install.builder_resources import Tools, Workbench, log_path, remove_builder
from controller.images.install.log import BuildLog, prune
from controller.images.install.marker_protocol import ANSWERED, MarkerState
from controller.images.install.ports_listener import MARKER, Listener
from controller.images.pool.base_volumes import install_base_name
from controller.images.progress import Phase
from controller.observed.build import INFIX, BuilderView, BuildRecord, Step, builder_name
from controller.observed.domain import DomainState
from controller.planning.images import building

_log = structlog.get_logger(__name__)
_LOOK_SECONDS = 5.0
"""Seconds between looks at a builder at work; libvirt events make the look earlier."""
_UNREACHABLE_SECONDS = 5.0
_DRAIN_SECONDS = 5.0
_REOPEN_SECONDS = 0.5
_LOGS_KEPT = 6
_CATCH_UP_SECONDS, _CATCH_UP_BLOCKS = 0.5, 64


class StalledError(PermanentError):
    """Every attempt failed; ``record`` is that of the last attempt."""

    def __init__(self, record: BuildRecord) -> None:
        super().__init__(record.message, reason=record.reason)
        self.record = record


class Watcher(Protocol):
    """Receives a build's progress; called from the build's thread, and must not block."""

    def working(self, phase: Phase, done: int, total: int | None, detail: str) -> None: ...

    def built(self, seconds: float) -> None:
        """A base was made, ``seconds`` after its attempt was started."""

    def attempt_failed(self, record: BuildRecord) -> None: ...


class Build:
    """Builds one image in one pool. Call ``run`` once; ``knock`` from any thread."""

    def __init__(
        self,
        tools: Tools,
        host: str,
        pool: str,
        image: EffectiveImage,
        turn: threading.Semaphore,
        watcher: Watcher,
    ) -> None:
        assert image.install is not None  # noqa: S101 - the caller builds installs only
        self._tools = tools
        self._builders = tools.builders
        self._host = host
        self._pool = pool
        self._image = image
        self._bench = Workbench(tools, host, pool, image, image.install)
        self._turn = turn
        self._has_turn = False
        self._watcher = watcher
        self._base = ""
        self._name = ""
        self._markers = MarkerState()
        self._answer_owed = False
        self._listening = self._heard = 0.0
        self._listener: Listener | None = None
        self._log: BuildLog | None = None
        self._cleared = False
        self._cancelled = threading.Event()
        self._bound = _log.bind(image=image.name, host=host, pool=pool)

    @property
    def name(self) -> str:
        """The builder's domain name; '' until it is known."""
        return self._name

    def knock(self) -> None:
        """Make the build look at its builder now, because something happened to it."""
        listener = self._listener
        if listener is not None:
            listener.knock()

    def cancel(self) -> None:
        """End ``run`` soon, with ``reason="Superseded"``: another content is wanted."""
        self._cancelled.set()
        self.knock()

    def run(self) -> None:
        """Return when there is a base with its marker, or raise.

        ``StalledError`` when every attempt failed; ``PermanentError`` or ``TransientError`` for
        what prevented an attempt (a tree, a secret, a pool), which does not count as one. Waits
        without limit for a host that does not answer.
        """
        try:
            while not self._turned():
                self._check()
        finally:
            try:
                self._hush()
            finally:
                if self._has_turn:
                    self._turn.release()

    def _check(self) -> None:
        self._tools.check_stop()
        if self._cancelled.is_set():
            raise TransientError("another content of the image is wanted", reason="Superseded")

    # --- A turn -----------------------------------------------------------------------------------

    def _turned(self) -> bool:
        """Look, decide, act; return True when the base is done."""
        try:
            if not self._name:
                self._find()
            if self._base and self._bench.is_base(self._base):
                self._bench.tidy(self._name)
                return True
            view = self._builders.builder(self._host, self._name) if self._name else None
            return self._act(self._hear_out(view))
        except HostUnreachableError as error:
            self._bound.info("host gave no answer, the build waits", why=str(error))
            self._hush()
            self._pause(_UNREACHABLE_SECONDS)
            return False

    def _find(self) -> None:
        """Find the builder of this content that an earlier daemon left; remove outdated ones."""
        for found in self._builders.builders(self._host):
            record = found.record
            if record is None or (record.image, record.pool) != (self._image.name, self._pool):
                continue
            if record.content == self._image.content and not self._name:
                self._name, self._base = found.name, record.base
                self._markers = MarkerState.of(record)
            elif record.owner == self._tools.owner:
                self._bound.info("removing a builder of an older content", builder=found.name)
                remove_builder(self._tools, self._host, found.name, record)

    def _act(self, view: BuilderView | None) -> bool:
        now, monotonic = self._tools.clock(), self._tools.monotonic()
        action = building.next_action(
            view,
            self._policy(),
            heard=now - (monotonic - self._heard),
            listening=now - (monotonic - self._listening),
            cleared=self._cleared,
            now=now,
        )
        match action:
            case building.Begin(attempt=attempt):
                self._begin(attempt)
            case building.Note(record=record):
                self._note(record)
            case building.Listen(until=until):
                self._listen(min(until - now, _LOOK_SECONDS))
            case building.Wait(until=until):
                self._pause(min(until - now, _LOOK_SECONDS))
            case building.Clear():
                self._hush()
                self._bench.clear(self._name, self._base)
                self._cleared = True
            case building.Finish():
                self._finish(view)
            case building.GiveUp(record=record):
                raise StalledError(record)
        return False

    def _policy(self) -> building.BuildPolicy:
        spec = self._image.spec
        return building.BuildPolicy(
            timeout=timeout(self._image, self._builders.host(self._host)),
            stall_timeout=spec.stall_timeout,
            retries=spec.retries,
            keep_failed=spec.keep_failed_builder,
        )

    # --- Acting -----------------------------------------------------------------------------------

    def _begin(self, attempt: int) -> None:
        if not self._takes_turn():
            return  # another install ran meanwhile: look and decide again
        detail = self._attempt(attempt)
        installer = self._tools.locations.obtain(
            self._host,
            self._pool,
            self._image,
            self._fetched,
        )
        base = install_base_name(self._image.name, self._image.content, installer.key)
        name = builder_name(self._image.name, self._pool, base)
        if self._name not in ("", name):  # the location holds another installer than before
            record = BuildRecord(self._image.name, self._image.content, self._pool, self._base)
            remove_builder(self._tools, self._host, self._name, record)
        self._name, self._base = name, base
        if self._bench.keeps_base(base):
            return
        self._hush()
        self._markers, self._answer_owed, self._cleared = MarkerState(), False, False
        self._bench.clear(name, base)
        prune(self._tools.log_dir, f"{self._image.name}{INFIX}*.log*", _LOGS_KEPT)
        self._build_log().heading(f"{detail}: {self._image.name}", self._tools.clock())
        self._bound.info("starting builder", builder=name, attempt=attempt)
        self._bench.start(
            name,
            base,
            attempt,
            installer,
            self._uploaded,
        )
        self._watcher.working(Phase.INSTALLING, 0, None, detail)

    def _fetched(self, phase: Phase, done: int, total: int | None, detail: str = "", /) -> None:
        self._check()
        self._watcher.working(phase, done, total, detail)

    def _uploaded(self, done: int, total: int) -> None:
        self._check()
        self._watcher.working(Phase.UPLOADING, done, total, "")

    def _note(self, record: BuildRecord) -> None:
        failed = record.step is Step.FAILED
        if failed:
            self._catch_up()
            self._build_log().heading(f"{record.reason}: {record.message}", self._tools.clock())
            self._bound.warning(
                "install failed", reason=record.reason, why=record.message, attempt=record.attempt
            )
        self._builders.record_build(self._host, self._name, record)
        if failed:
            self._watcher.attempt_failed(record)

    def _finish(self, view: BuilderView | None) -> None:
        """Give the disk its marker, which makes it a base; the next turn tidies up."""
        assert view is not None and view.record is not None  # noqa: S101 - it was just seen
        if self._builders.volume(self._host, self._pool, self._base) is not None:
            self._bench.mark_complete(self._base)
            now = self._tools.clock()
            self._build_log().heading("installed", now)
            self._watcher.built(max(0.0, now - view.record.started))
            return
        message = f"somebody deleted the volume {self._base} that was installed to"
        self._note(view.record.failed("DiskVanished", message, self._tools.clock()))

    def _takes_turn(self) -> bool:
        """Take the host's turn to install; return False if it had to wait for it."""
        self._has_turn = self._has_turn or self._turn.acquire(blocking=False)
        if self._has_turn:
            return True
        while not self._has_turn:
            self._check()
            self._watcher.working(Phase.WAITING, 0, None, "another image is installed on this host")
            self._has_turn = self._turn.acquire(timeout=1.0)
        return False

    def _attempt(self, number: int) -> str:
        return f"attempt {number} of {self._image.spec.retries + 1}"

    def _pause(self, seconds: float) -> None:
        self._tools.wait(max(0.05, seconds))

    # --- The builder's output ---------------------------------------------------------------------

    def _hear_out(self, view: BuilderView | None) -> BuilderView | None:
        """The view with all markers read so far; new ones are written into the record."""
        if view is None or view.record is None or view.record.step is not Step.STARTED:
            return view
        if view.state is DomainState.UNKNOWN:
            return view
        if view.active:
            self._open_ears()
        else:
            self._drain()
        record = self._markers.into(view.record)
        if record != view.record:
            self._builders.record_build(self._host, self._name, record)
        if self._answer_owed and view.active and self._listener is not None:
            self._listener.answer(b"ok\n")
            self._answer_owed = False
        detail = self._attempt(record.attempt)
        if record.phase:
            detail += f": {record.phase}"
        self._watcher.working(Phase.INSTALLING, 0, None, detail)
        return replace(view, record=record)

    def _open_ears(self) -> None:
        # A builder that an earlier daemon started takes a turn, too.
        self._has_turn = self._has_turn or self._turn.acquire(blocking=False)
        if self._listener is None:
            self._bench.drop_boot_media(self._name)
            self._listener = Listener(self._builders, self._host, self._name)
            self._listening = self._heard = self._tools.monotonic()
        try:
            self._listener.listen()
        except HostUnreachableError:
            raise
        except GuestkeeperError as error:  # it ended just now, or somebody else uses it
            self._bound.info("a port of the builder cannot be opened", why=str(error))
            self._pause(_REOPEN_SECONDS)

    def _listen(self, seconds: float) -> None:
        """Read the ports until a marker must be recorded, a port ends or ``knock`` was called."""
        until = self._tools.monotonic() + seconds
        while self._listener is not None and (left := until - self._tools.monotonic()) > 0:
            self._check()
            heard = self._listener.take(min(left, 1.0))
            if heard is None:
                continue
            if heard.data is None:
                if heard.port:  # a port that ends at once must not cause a busy loop
                    self._pause(_REOPEN_SECONDS)
                return
            if self._hear(heard.port, heard.data):
                return

    def _hear(self, port: str, data: bytes) -> bool:
        """Take in a port's data; True where a marker must be recorded or answered."""
        self._heard = self._tools.monotonic()
        lines = self._build_log().add(port, data)
        if port != MARKER:
            return False
        before = self._markers
        for line in lines:
            self._markers = self._markers.hear(line)
            self._answer_owed |= line.split(" ", 1)[0] in ANSWERED
        return self._markers != before or self._answer_owed

    def _drain(self) -> None:
        """Read the last output of a builder that is off, which may not have arrived yet."""
        deadline = self._tools.monotonic() + _DRAIN_SECONDS
        while (
            self._listener is not None
            and self._listener.open
            and (left := deadline - self._tools.monotonic()) > 0
        ):
            heard = self._listener.take(min(left, 1.0))
            if heard is not None and heard.data is not None:
                self._hear(heard.port, heard.data)
        self._hush()

    def _catch_up(self) -> None:
        """Read on after a failure was reported on one port: its cause may come on another."""
        for _ in range(_CATCH_UP_BLOCKS):
            heard = self._listener.take(_CATCH_UP_SECONDS) if self._listener is not None else None
            if heard is None or heard.data is None:
                return
            self._hear(heard.port, heard.data)

    def _hush(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._log is not None:
            self._log.end_lines()
            self._log.close()
            self._log = None

    def _build_log(self) -> BuildLog:
        if self._log is None:
            self._log = BuildLog(log_path(self._tools.log_dir, self._host, self._name))
        return self._log
