"""What the routes use, as protocols and callables; the daemon fills it in, tests use fakes.

Statuses, catalog and journal are local and answer at once. ``volumes``, ``adoptions``, ``console``
and ``hosts`` (for pools) call libvirt, ``images`` where nothing is known yet; ``guests`` write to
a domain's metadata, or to ``state_dir``.
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
    """The reading part of ``controller.journal.journal.Journal``."""

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
    """Images on hosts: their states, and requests about them. Raises ``controller.errors``."""

    def views(self, name: str | None = None) -> Sequence[ImageView]:
        """Every image (or that one) in each pool that has it, or is to have it."""

    def progress(self) -> Sequence[ImageProgress]: ...

    def build(
        self, name: str, host: str | None, pool: str | None, *, refresh: bool
    ) -> Sequence[ImageView]:
        """Start a build; returns the state in each pool. Raises ``RefusedError`` for an unknown
        host or pool.
        """

    def retry(self, name: str) -> Sequence[ImageView] | None:
        """Forget the failure and build anew; None where nothing had failed."""

    def log(self, name: str, *, follow: bool) -> Iterator[bytes]:
        """The installer's output; with ``follow`` until its build ends. A generator like a
        ``Console``'s.
        """


class Guests(Protocol):
    """Operators' requests about guests. Each answer is a sentence on what happens next.

    Raises ``NotNowError`` where the guest's state does not allow it, with what to do instead, and
    ``HostUnreachableError`` where its state is not known.
    """

    def suspend(self, name: str) -> str:
        """Suspend a guest: it is only observed."""

    def resume(self, name: str) -> str: ...

    def suspend_all(self) -> str:
        """Suspend every guest, also those that are added later."""

    def resume_all(self) -> str: ...

    def restart(self, name: str) -> str:
        """Request a cold boot now, which applies staged changes."""

    def approve(self, name: str, base: str, *, now: bool = False) -> str:
        """Approve the replacement that the guest's plan waits with, if it is one by ``base``;
        ``now`` does not wait for a maintenance window.
        """

    def rollback(self, name: str) -> str:
        """Request the last retired system disk that worked."""

    def retry(self, name: str) -> str:
        """Allow again what failed and is not tried again unasked."""

    def deletions(self) -> Sequence[Deletion]:
        """The stops and deletions that an operator may approve."""

    def approve_deletions(self, names: Collection[str]) -> Mapping[str, str]:
        """Approve these guests' deletions (all if empty); by name, what happens to each."""


class Adoptions(Protocol):
    """Adoption of foreign domains. Raises ``controller.errors``."""

    def preview(self, name: str) -> AdoptionPlan:
        """Plan the adoption; looks inside the guest where its agent answers."""

    def adopt(self, name: str, digest: str) -> AdoptionPlan:
        """Adopt, if the plan still has the ``digest`` of the one that was shown."""


class Console(Protocol):
    """Reads the serial console of a guest's domain."""

    def __call__(self, host: str, name: str, *, follow: bool) -> Iterator[bytes]:
        """The output that the host has kept; with ``follow`` also what comes from now on. Where
        nothing is kept: what comes until it is quiet.

        A generator that yields at least once a second (b'' where nothing came), so that a client
        that left is noticed; it is then closed. Raises ``controller.errors`` where the console
        has to be opened and cannot be.
        """


@dataclass(frozen=True, slots=True)
class Application:
    """All that the routes use. ``reconcile(name)`` is False where no guest has that name.

    ``healthy``: does the loop make progress? ``ready``: was every guest looked at once? Both return
    a reason, too. ``metrics`` returns the exposition and its content type.
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
    """Scans the directory now, so that a request by hand uses documents that were just written."""
