"""What the web room shows, as values and callables: the daemon fills it in, tests fill in fakes.

Nothing here may wait long: the views are what the daemon has in memory, and the journal is local.
Only ``volumes`` and ``adoptions`` ask the hosts, and each of ``guests`` writes to one.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.desired.catalog.snapshot import Snapshot
from controller.images.progress import ImageProgress
from controller.journal.database import Event
from controller.loop.status import StatusStore
from controller.observed.host import HostView
from controller.observed.image import ImageView
from controller.operator.answers import Deletion, VolumesSeen
from controller.planning.adoption.adopt import AdoptionPlan


class Journal(Protocol):
    """The part of ``journal.Journal`` that is read."""

    def events(
        self, guest: str | None = None, after_id: int = 0, limit: int = 1000
    ) -> Sequence[Event]:
        """The newest ``limit`` events after ``after_id``, oldest first."""

    def wait_after(
        self, after_id: int, timeout: float, guest: str | None = None, limit: int = 1000
    ) -> Sequence[Event]:
        """The next ``limit`` events, waiting up to ``timeout`` seconds for the first."""

    def last_id(self) -> int: ...


class Images(Protocol):
    """What is known of images on hosts, and what can be asked for. Raises ``controller.errors``."""

    def views(self, name: str | None = None) -> Sequence[ImageView]:
        """Every image (or that one) everywhere it is, or is wanted."""

    def progress(self) -> Sequence[ImageProgress]: ...

    def build(
        self, name: str, host: str | None, pool: str | None, *, refresh: bool
    ) -> Sequence[ImageView]:
        """Begins to build; how it stands at each of the places. ``RefusedError`` for a host or a
        pool that there is not.
        """

    def retry(self, name: str) -> Sequence[ImageView] | None:
        """Forgets what failed and builds anew; None where nothing had failed."""

    def log(self, name: str, *, follow: bool) -> Iterator[bytes]:
        """What its installer said; with ``follow`` until its build ends. A generator as a console's
        is.
        """


class Guests(Protocol):
    """An operator's wishes about guests. Each answer is a sentence on what happens next.

    Raises ``NotNowError`` where it cannot be done to the guest as it is, with what to do instead,
    ``HostUnreachableError`` where nobody knows how it is.
    """

    def suspend(self, name: str) -> str:
        """Leave it alone: nothing but looking."""

    def resume(self, name: str) -> str: ...

    def suspend_all(self) -> str:
        """The same of every guest, also of those that are not made yet."""

    def resume_all(self) -> str: ...

    def restart(self, name: str) -> str:
        """A cold boot, now: what is staged is applied."""

    def approve(self, name: str, base: str, *, now: bool = False) -> str:
        """The replacement that its plan waits with, if that is the one by ``base``; ``now`` does
        not wait for a window.
        """

    def rollback(self, name: str) -> str:
        """The last system disk that worked comes back."""

    def retry(self, name: str) -> str:
        """Try again what failed and is not tried again unasked."""

    def deletions(self) -> Sequence[Deletion]:
        """What an operator may approve."""

    def approve_deletions(self, names: Collection[str]) -> Mapping[str, str]:
        """Of these guests, of all where there are none: by name what happens to each."""


class Adoptions(Protocol):
    """Taking over domains that somebody else made. Raises ``controller.errors``."""

    def preview(self, name: str) -> AdoptionPlan:
        """What it would change; looks inside the guest where its agent answers."""

    def adopt(self, name: str, digest: str) -> AdoptionPlan:
        """Does it, if the plan is the one that was shown, by its ``digest``."""


class Console(Protocol):
    """Opens the serial console of a guest's domain."""

    def __call__(self, host: str, name: str, *, follow: bool) -> Iterator[bytes]:
        """What the console says from now on; without ``follow`` until it is quiet.

        A generator: it yields at least once a second (b'' where nothing came), so that a reader
        who left is noticed, and is closed when nobody reads any more. Its first ``next`` raises
        ``controller.errors`` where there is no console.
        """


@dataclass(frozen=True, slots=True)
class Application:
    """All that the routes use. ``reconcile`` is False where no guest has that name.

    ``healthy`` is about the loop's progress, ``ready`` about the first pass; both give a reason.
    ``metrics`` gives the exposition and its content type.
    """

    version: str
    statuses: StatusStore
    catalog: Callable[[], Snapshot]
    hosts: Callable[[], Sequence[HostView]]
    images: Images
    guests: Guests
    adoptions: Adoptions
    volumes: Callable[[], VolumesSeen]
    journal: Journal
    reconcile: Callable[[str], bool]
    console: Console
    metrics: Callable[[], tuple[bytes, str]]
    healthy: Callable[[], tuple[bool, str]]
    ready: Callable[[], tuple[bool, str]]
    read_documents: Callable[[], None] = lambda: None
    """Reads the directory now: what is asked by hand is about what was just written."""
