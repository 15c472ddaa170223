"""Decides the next action in an image build from the observed builder domain and its record.

A build has one or several attempts. Whatever is killed meanwhile (QEMU, libvirtd, the daemon), the
next observation finds the builder and its record, and these alone decide how it goes on. Pure.
"""

from dataclasses import dataclass, replace

from controller.observed.build import BuilderView, BuildRecord, Step
from controller.observed.domain import DomainState, StateReason

_SELF_STARTED = 60.0
"""Seconds within which the daemon that starts a builder begins to listen to it."""
RETRY_SECONDS = 10.0
"""Seconds between a failed attempt and the next one."""


@dataclass(frozen=True, slots=True)
class BuildPolicy:
    """The limits of a build. Times are in seconds; ``retries`` are attempts beyond the first."""

    timeout: float
    stall_timeout: float
    retries: int
    keep_failed: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """Make disk and media anew, define the builder, start it."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Note:
    """Write ``record`` into the builder's metadata, then look again."""

    record: BuildRecord


@dataclass(frozen=True, slots=True)
class Listen:
    """The builder works: read its output, and look again by ``until`` (epoch seconds)."""

    until: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The disk is a base: give it its marker, remove the builder."""


@dataclass(frozen=True, slots=True)
class Clear:
    """The attempt failed: destroy the builder, delete its disk and media. Its record stays."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before ``until`` (epoch seconds)."""

    until: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Every attempt failed: nothing more is done until ``guestkeeper retry``."""

    record: BuildRecord


Action = Begin | Note | Listen | Finish | Clear | Wait | GiveUp


def next_action(
    view: BuilderView | None,
    policy: BuildPolicy,
    *,
    heard: float,
    listening: float,
    cleared: bool,
    now: float,
) -> Action:
    """The next action of a build whose base has no marker yet.

    ``listening`` is when reading of the builder's output began, ``heard`` when it last sent any
    since then; ``cleared``: the remains of the failed attempt were removed. Times are epoch
    seconds. The caller must refuse ``view.record`` None (a foreign domain has the name).
    """
    if view is None or view.record is None:
        return Begin(attempt=1)
    record = view.record
    if record.step is Step.FAILED:
        return _failed(record, policy, cleared=cleared, now=now)
    if view.state is DomainState.UNKNOWN:
        return Wait(now + 5)
    if record.step is Step.DEFINED:
        if view.active:  # it was started, but the daemon was killed before it wrote that down
            return Note(replace(record, step=Step.STARTED, started=now))
        return Begin(record.attempt)
    if view.active:
        return _running(view, record, policy, heard=heard, listening=listening, now=now)
    return _ended(view, record, now)


def _failed(record: BuildRecord, policy: BuildPolicy, *, cleared: bool, now: float) -> Action:
    last = record.attempt > policy.retries
    if not cleared and not (last and policy.keep_failed):
        return Clear()
    if last:
        return GiveUp(record)
    due = record.ended + RETRY_SECONDS
    # A clock set back must not make a build wait for ever.
    if now < due <= now + RETRY_SECONDS:
        return Wait(due)
    return Begin(record.attempt + 1)


def _running(
    view: BuilderView,
    record: BuildRecord,
    policy: BuildPolicy,
    *,
    heard: float,
    listening: float,
    now: float,
) -> Action:
    if record.failure:
        return Note(_install_failed(record, now))
    if view.state is DomainState.PAUSED and view.reason is StateReason.IO_ERROR:
        message = (
            f"QEMU paused the builder because its disk could not be written: make room in pool"
            f" {record.pool}"
        )
        return Note(record.failed("PoolFull", message, now))
    timeout, stalled = record.started + policy.timeout, heard + policy.stall_timeout
    if listening > record.started + _SELF_STARTED:
        # Nobody read its output for a while, and then an installer blocks.
        timeout = max(timeout, listening + min(policy.stall_timeout, policy.timeout))
    if now >= timeout:
        message = (
            f"the installation took longer than {_span(policy.timeout)}{_at(record)}; give the"
            " Image a larger timeout, or a faster mirror"
        )
        return Note(record.failed("InstallTimedOut", message, now))
    if now >= stalled:
        message = (
            f"the installer said nothing for {_span(policy.stall_timeout)}{_at(record)}; it may"
            " wait for an answer that the answer file does not give"
        )
        return Note(record.failed("InstallStalled", message, now))
    return Listen(min(timeout, stalled))


def _ended(view: BuilderView, record: BuildRecord, now: float) -> Action:
    if record.failure:
        return Note(_install_failed(record, now))
    if view.reason is StateReason.SHUTDOWN:
        return _powered_off(record, now)
    if view.reason is StateReason.DESTROYED:
        reason, why = "BuilderDestroyed", "somebody destroyed the builder domain"
    elif view.reason is StateReason.PANICKED:
        reason, why = "BuilderCrashed", "the installer's kernel panicked"
    elif view.reason in (StateReason.CRASHED, StateReason.FAILED):
        reason = "BuilderCrashed"
        why = "QEMU ended, or the installer's kernel panicked; see QEMU's log on the host"
    else:
        reason = "BuilderLost"
        why = "libvirt does not know how the builder ended (libvirtd or the host was restarted)"
    return Note(record.failed(reason, f"{why}{_at(record)}", now))


def _powered_off(record: BuildRecord, now: float) -> Action:
    if not record.succeeded:
        message = (
            f"it powered off without the success marker{_at(record)}; end the answer file with the"
            " success snippet, and look in the log for what ended it before"
        )
        return Note(record.failed("NoSuccessMarker", message, now))
    if record.unsealed:
        message = (
            f"the disk is not clean for use as a base: {record.unsealed}; let the answer file"
            " include the sealing snippet last"
        )
        return Note(record.failed("NotSealed", message, now))
    if not record.sealed:
        message = (
            "nothing says that the disk was sealed and inspected; let the answer file include the"
            " sealing snippet before the success marker"
        )
        return Note(record.failed("NotSealed", message, now))
    return Finish()


def _install_failed(record: BuildRecord, now: float) -> BuildRecord:
    message = f"the installer reported a failure{_at(record)}: {record.failure}"
    return record.failed("InstallFailed", message, now)


def _at(record: BuildRecord) -> str:
    return f" (phase: {record.phase})" if record.phase else ""


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
