"""Plans the replacement of a guest's system disk: make the new disk while the guest runs, swap,
confirm that it works, or go back.

UUID, MAC addresses and data disks stay: only the system disk (and the kernel that belongs to it) is
swapped, while the guest is off. The phase is in the domain's metadata, written with or before each
step, so that after a crash between any two steps the daemon continues, forward or back.

Longer than other modules on purpose: the phases, and how each continues after an interruption, are
best read side by side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.guest import RunStrategy
from controller.observed.domain import (
    DomainConfig,
    DomainState,
    DomainView,
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    SystemDisk,
)
from controller.observed.guest import Observed
from controller.observed.image import ImageState
from controller.planning.conditions import (
    ConditionType,
    Health,
    Printable,
    Status,
    Sync,
    false,
)
from controller.planning.host.trouble import spoiled
from controller.planning.plan import Plan, Policy
from controller.planning.power.maintenance_windows import window_now
from controller.planning.power.startable import LOOK_AGAIN, no_comeback
from controller.planning.power.starting import HOST_LACKS, NOT_TRIED, decide_start
from controller.planning.power.stopping import NOT_STOPPED, StopFor, Stopping, stop
from controller.planning.replacement.system_disks import config_on
from controller.planning.steps import (
    CreateSeed,
    CreateVolume,
    DefineDomain,
    DeleteSeed,
    DeleteVolume,
    StartDomain,
    Step,
    update_record,
)
from controller.planning.volumes.deletable import may_delete
from controller.planning.wanted.domain import SYSTEM, holds_seed, placed, seed_volume

C = ConditionType
STARTS = 2
"""How many starts a new system disk gets before the old one is put back."""
SILENT_TIMEOUT = 30.0
"""Seconds that a guest without agent gets to shut down before its old disk is put back."""
_ENDED = (
    ("approved", ""), ("approved_now", False), ("replacement", None), ("start_attempts", 0),
    ("restart_requested", None), *NOT_STOPPED.items(),
)  # fmt: skip


# --- A replacement under way ----------------------------------------------------------------------


def is_begun(record: GuestRecord) -> bool:
    """True if the guest was already asked to stop for the replacement, not only planned to be."""
    ongoing = record.replacement
    if ongoing is None or ongoing.phase is ReplacePhase.PREPARING:
        return False
    asked = record.shutdown_requested is not None and record.stop_for == StopFor.REPLACE
    return asked or ongoing.phase is not ReplacePhase.STOPPING


def plan_replacement(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    usual: Plan,
    now: float,
    policy: Policy,
) -> Plan:
    """The next steps of a replacement. ``usual`` is the guest's plan without the replacement.

    For a domain that runs or is off; the caller waits for other states (paused, shutting down).
    """
    ongoing = record.replacement
    assert ongoing is not None  # noqa: S101 - the caller looked
    off = domain.state in (DomainState.SHUTOFF, DomainState.CRASHED)
    view = _View(desired, observed, domain, record, ongoing, usual, now, policy)
    if not is_begun(record):
        return view.prepare(off=off)
    match ongoing.phase:
        case ReplacePhase.PREPARING | ReplacePhase.STOPPING if off:
            return view.swap()
        case ReplacePhase.PREPARING | ReplacePhase.STOPPING:
            return view.stop(desired.spec.shutdown_timeout)
        case ReplacePhase.CONFIRMING if off:
            return view.start_again()
        case ReplacePhase.CONFIRMING:
            return view.confirm()
        case ReplacePhase.RETURNING if off:
            return view.swap_back()
        case ReplacePhase.RETURNING:
            timeout = desired.spec.shutdown_timeout
            silent = not domain.agent_connected
            return view.stop(min(timeout, SILENT_TIMEOUT) if silent else timeout)


@dataclass(frozen=True, slots=True)
class _View:
    """The observation of a guest whose system disk is being replaced, and plans from it."""

    desired: EffectiveGuest
    observed: Observed
    domain: DomainView
    record: GuestRecord
    ongoing: Replacement
    usual: Plan
    now: float
    policy: Policy

    # --- Beside the running guest -----------------------------------------------------------------

    def prepare(self, *, off: bool) -> Plan:
        """Makes the new disk, which takes time, before the guest is stopped."""
        ongoing, observed = self.ongoing, self.observed
        if not observed.host.has_running(ongoing.to.pool):
            return self._waiting(f"waiting for pool {ongoing.to.pool}", self.now + 30)
        made = ongoing.to.place in observed.volumes
        if ongoing.why == "image" and not self._still_wanted():
            return self._told("another image is wanted by now", *self._drop(made=made))
        if ongoing.why == "rollback" and not made:
            volume = f"volume {ongoing.to.pool}/{ongoing.to.volume}"
            if ongoing.to.place not in observed.missing:
                message = f"whether {volume} is there is not known just now"
                return self._waiting(message, self.now + 30)
            return self._told(f"{volume} is gone", update_record(replacement=None))
        if off and self.domain.saved:
            return self._waiting("its run was saved, not ended: it goes on first", None)
        if self.domain.running_job:
            message = "waiting for a job of its domain (backup, migration)"
            return self._waiting(message, self.now + 10)
        windows = self.desired.spec.update_policy.maintenance_windows
        window = window_now(windows, self.now, observed.clock_ahead)
        if not (off or window.open or ongoing.why == "rollback" or self.record.approved_now):
            return self._waiting("its maintenance window is over", window.changes_at)
        bad = self._spoiled()
        if bad:
            return self._waiting(bad, self.now + 60)
        held = self._gone_disks() or no_comeback(observed, self.domain, new_disk=True)
        if held:
            message = f"it would not start again: {held}"
            return self._waiting(message, self.now + LOOK_AGAIN)
        steps = list(self._new_disk())
        if off:
            message = "swapping the disk of the guest, which is off"
            return self._told(message, *steps, *self._put_in(cold=True), down=True)
        halting = self._halting(self.desired.spec.shutdown_timeout)
        message = "its new disk is made, then it is stopped" if steps else halting.message
        if ongoing.phase is not ReplacePhase.STOPPING:
            steps.append(update_record(replacement=replace(ongoing, phase=ReplacePhase.STOPPING)))
        return self._told(message, *steps, *halting.steps, recheck_at=halting.recheck_at)

    def _spoiled(self) -> str:
        """Why no disk may be made from the new base; '' if it may or the disk exists already."""
        image, made = self.observed.image, self.ongoing.to.place in self.observed.volumes
        if made or image is None or self.ongoing.why != "image":
            return ""
        return spoiled(self.desired, image)

    def _gone_disks(self) -> str:
        """The message about a missing data disk, '' for none; only pools that run are checked."""
        host, volumes = self.observed.host, self.observed.volumes
        gone = (
            f"volume {disk.pool}/{disk.volume} of it is gone; put that back"
            for disk in self.domain.config.disks
            if disk.alias.startswith("disk-") and disk.alias != SYSTEM and disk.volume is not None
            if host.has_running(disk.pool)
            if disk.place not in volumes
        )
        return next(gone, "")

    def _still_wanted(self) -> bool:
        image = self.observed.image
        return (
            image is not None
            and image.state is ImageState.READY
            and image.base == self.ongoing.to.base
        )

    def _drop(self, *, made: bool) -> Iterator[Step]:
        """The steps that remove the new disk and seed again and end the replacement."""
        to = self.ongoing.to
        if made and may_delete(self.domain, self.record, *to.place):
            yield DeleteVolume(to.pool, to.volume, "another image is wanted")
        seed = self._seed()
        if seed is not None and seed in self.observed.volumes and not holds_seed(self.domain):
            yield DeleteSeed(*seed)
        yield update_record(replacement=None)

    def _seed(self) -> tuple[str, str] | None:
        return seed_volume(self.desired, self.observed.host, self.domain, self.policy.seed)

    def _new_disk(self) -> Iterator[Step]:
        ongoing, image = self.ongoing, self.observed.image
        if ongoing.why != "image" or image is None:
            return
        if ongoing.to.place not in self.observed.volumes:
            size = self.desired.spec.system_disk.size or image.capacity
            backing = (image.base_path or "", image.base_format)
            yield CreateVolume(ongoing.to.pool, ongoing.to.volume, size, backing)
        seed = self._seed()
        if seed is not None:
            yield CreateSeed(*seed, f"{self.domain.uuid}-{ongoing.to.volume}")

    def _waiting(self, message: str, recheck_at: float | None) -> Plan:
        """The replacement waits, and the usual plan goes on. The intent to stop is removed from the
        record: whoever shuts the guest down from now on wants it off.
        """
        meant = self.domain.run is not None and self.record.stop_for == StopFor.REPLACE
        called_off = (update_record(**NOT_STOPPED),) if meant else ()
        return self._told(message, *called_off, *self.usual.steps, recheck_at=recheck_at)

    # --- The swap ---------------------------------------------------------------------------------

    def stop(self, timeout: float) -> Plan:
        halting = self._halting(timeout)
        return self._told(halting.message, *halting.steps, recheck_at=halting.recheck_at, down=True)

    def _halting(self, timeout: float) -> Stopping:
        since = self.policy.daemon_started
        return stop(
            self.domain, self.record, StopFor.REPLACE,
            timeout=timeout, now=self.now, since=since, failure=self.observed.failure,
        )  # fmt: skip

    def swap(self) -> Plan:
        asked = self._watched(self.record.shutdown_requested or self.ongoing.since)
        failure = self.observed.failure
        deadline = asked + self.desired.spec.update_policy.progress_deadline
        if self.domain.saved:
            message = "its run was saved, not ended: it goes on, to be stopped in good order"
            return self._told(message, StartDomain("its run was saved"), down=True)
        if failure is not None and failure.step == "DefineDomain" and self.now >= deadline:
            # The new disk could not be put in, and the guest was not meant to stay off.
            noted = self._failed(f"it cannot be put in: {failure.message}")
            noted |= {"starting": self.desired.spec.run_strategy is not RunStrategy.HALTED}
            return self._told("it starts on its old disk", update_record(**noted), down=True)
        return self._told("it is off; swapping the disk", *self._put_in(cold=False), down=True)

    def _put_in(self, *, cold: bool) -> Iterator[Step]:
        """The swap, in one definition; then the start. ``cold``: the guest was off before."""
        ongoing = self.ongoing
        config = config_on(
            self.desired, self.observed, self.domain, ongoing.to, self.policy,
            seeded=ongoing.why == "image",
        )  # fmt: skip
        strategy = self.desired.spec.run_strategy
        starts = decide_start(strategy, self.domain, self.record, self.now).due is not None
        stays_off = strategy is RunStrategy.HALTED or (cold and not starts)
        noted: dict[str, Any] = placed(config)
        if stays_off:
            noted |= dict(_ENDED) | self._kept()
        else:
            phase = replace(ongoing, phase=ReplacePhase.CONFIRMING, swapped_at=self.now)
            noted |= {"replacement": phase, "start_attempts": 0}
        yield self._define(config, ongoing.to, noted, f"its system disk is {ongoing.to.volume} now")
        if not stays_off:
            yield from self._start()

    def _start(self, **noted: Any) -> Iterator[Step]:
        yield StartDomain("its system disk was replaced")
        # Counted after the start: a start that the host refused for now is no failed one.
        attempts = self.record.start_attempts + 1
        if self.ongoing.phase is not ReplacePhase.CONFIRMING:
            attempts = 1
        yield update_record(start_attempts=attempts, last_start_attempt=self.now, **noted)

    def _define(
        self, config: DomainConfig, disk: SystemDisk, noted: dict[str, Any], why: str
    ) -> DefineDomain:
        owner = self.domain.ownership
        assert owner is not None  # noqa: S101 - the caller refused foreign domains
        return DefineDomain(
            config,
            owner,
            new=False,
            marks=(("base", disk.base), ("digest", "")),
            record=tuple(noted.items()),
            why=why,
        )

    # --- Does it work? ----------------------------------------------------------------------------

    def start_again(self) -> Plan:
        """The plan for a guest that is off on its new disk: start it, or give up."""
        if self.desired.spec.run_strategy is RunStrategy.HALTED:
            noted = dict(_ENDED) | self._kept()
            return self._told("it is to be off", update_record(**noted), down=True)
        failure = self.observed.failure
        refused = failure is not None and failure.step == "StartDomain"
        if refused and failure is not None and failure.reason in HOST_LACKS | NOT_TRIED:
            # The old disk would not help, or no start was tried; the deadline runs from the start.
            if self.now < failure.retry_at:
                return self._told(failure.message, recheck_at=failure.retry_at, down=True)
            begins = replace(self.ongoing, swapped_at=self.now)
            return self._told("starting it", *self._start(replacement=begins), down=True)
        if self.record.start_attempts >= STARTS:
            return self._give_up(f"it went off again ({self.domain.reason})")
        if refused and failure is not None and failure.attempts >= STARTS:
            return self._give_up(f"it cannot be started: {failure.message}")
        if self.now >= self._deadline():
            return self._give_up("it could not be started in time")
        return self._told("starting it", *self._start(), recheck_at=self._deadline(), down=True)

    def confirm(self) -> Plan:
        """The plan for a guest that runs on its new disk: confirm, wait, or give up."""
        usual, domain, ongoing = self.usual, self.domain, self.ongoing
        ready, synced = usual.condition(C.READY), usual.condition(C.SYNCED)
        works = usual.serves and (domain.agent_connected or not ongoing.agent)
        unconfigured = synced is not None and synced.reason in (
            "ConfigurationOutdated", "WaitingForAgent",
        )  # fmt: skip
        running = domain.live if domain.live is not None else domain.config
        system = running.disk(SYSTEM)
        on_it = system is not None and system.place == ongoing.to.place
        if works and on_it and not unconfigured:
            ended = update_record(**(dict(_ENDED) | self._kept()))
            return self._told("it works", ended, *usual.steps)
        deadline = self._deadline()
        if self.now >= deadline:
            unready = ready is not None and ready.status is not Status.TRUE
            message = ready.message if ready is not None and unready else ""
            if not on_it:
                message = "what runs is another disk (a saved state?)"
            waited = f"not ready within {self.now - (ongoing.swapped_at or self.now):.0f} s"
            return self._give_up(f"{waited}: {message}" if message else waited)
        recheck = min(deadline, usual.recheck_at or deadline)
        message = "waiting until it is ready"
        told = self._told(message, *usual.steps, recheck_at=recheck)
        return replace(told, health=Health.PROGRESSING)

    def _watched(self, since: float) -> float:
        """``since``, or when observation began if that is later: time unobserved does not count."""
        known = since if since <= self.now else 0.0  # in the future: the clock was set back
        return max(known, self.observed.watched_since, self.policy.daemon_started)

    def _deadline(self) -> float:
        began = self._watched(self.ongoing.swapped_at or self.now)
        return began + self.desired.spec.update_policy.progress_deadline

    def _kept(self) -> dict[str, Any]:
        """The record changes after a replacement that worked."""
        ongoing = self.ongoing
        back = ongoing.why == "rollback"
        why_kept = "rolled-back" if back else "replaced"
        retired = RetiredDisk(ongoing.back, self._kept_from(), why_kept)
        why = f"an operator went back from it to {ongoing.to.base}" if back else ""
        return {
            "retired": (*self.record.retired, retired),
            "refused": ongoing.back.base if back else "",
            "refused_why": why,
        }

    def _failed(self, why: str) -> dict[str, Any]:
        """The record changes after a replacement that failed."""
        return dict(_ENDED) | {
            "refused": self.ongoing.to.base,
            "refused_why": why,
            "retired": (
                *self.record.retired,
                RetiredDisk(self.ongoing.to, self._kept_from(), "failed"),
            ),
        }

    def _kept_from(self) -> float:
        """Now, by the later of both clocks: the next daemon begins with the host's clock."""
        return self.now + max(0.0, self.observed.clock_ahead)

    # --- And back ---------------------------------------------------------------------------------

    def _give_up(self, why: str) -> Plan:
        failed = replace(self.ongoing, phase=ReplacePhase.RETURNING, failure=why)
        view = replace(self, ongoing=failed)
        return view._told("stopping it", update_record(replacement=failed), down=True)

    def swap_back(self) -> Plan:
        """Puts the old disk back; after that the guest is started like any other."""
        ongoing = self.ongoing
        config = config_on(
            self.desired, self.observed, self.domain, ongoing.back, self.policy, seeded=False
        )
        noted = placed(config) | self._failed(ongoing.failure)
        noted |= {"starting": self.desired.spec.run_strategy is not RunStrategy.HALTED}
        why = f"its system disk is {ongoing.back.volume} again"
        define = self._define(config, ongoing.back, noted, why)
        return self._told("it is off; putting the old disk back", define, down=True)

    # --- What is reported -------------------------------------------------------------------------

    def _told(
        self,
        message: str,
        *steps: Step,
        recheck_at: float | None = None,
        down: bool = False,
    ) -> Plan:
        """``usual`` with the steps and conditions of the replacement. ``down``: the guest does not
        serve.
        """
        usual = self.usual
        replaced = {C.SYNCED: false(C.SYNCED, "Replacing", message)}
        if down:
            replaced[C.READY] = false(C.READY, "Replacing", message)
            replaced[C.SERVICES_READY] = false(C.SERVICES_READY, "Replacing", message)
        kept = tuple(replaced.get(found.type, found) for found in usual.conditions)
        return replace(
            usual,
            sentence=f"{self._what()}: {message}",
            steps=steps,
            conditions=kept,
            sync=Sync.OUT_OF_SYNC,
            health=Health.PROGRESSING if down else usual.health,
            printable=Printable.REPLACING,
            probes=() if down else usual.probes,
            recheck_at=recheck_at,
            replace_to="",
        )

    def _what(self) -> str:
        ongoing = self.ongoing
        if ongoing.phase is ReplacePhase.RETURNING:
            return f"its old system disk comes back ({ongoing.failure})"
        if ongoing.why == "rollback":
            return f"going back to system disk {ongoing.to.volume}"
        return f"its system disk is replaced by one of {ongoing.to.base}"
