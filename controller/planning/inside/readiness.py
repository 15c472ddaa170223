"""Determines whether each service of a guest is ready, and if not, the main reason."""

from dataclasses import dataclass

from controller.desired.effective import EffectiveGuest, EffectiveService
from controller.observed.guest import Failure, Observed
from controller.observed.health import ProbeStatus
from controller.planning.conditions import Condition, ConditionType, Status, true
from controller.planning.inside.schedule import FROZEN, InsidePlan

_C = ConditionType.SERVICES_READY
_WORST_FIRST = (
    "GuestExecDisabled", "FilesystemsFrozen", "AgentRestarted", "ApplyFailed", "LookFailed",
    "ProbeFailed", "Configuring", "WaitingForAgent", "Starting", "ProbeUnknown",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServiceState:
    """``ready`` is None if it is not known."""

    service: str
    ready: bool | None
    reason: str = ""
    message: str = ""


def service_states(
    guest: EffectiveGuest, observed: Observed, inside: InsidePlan, *, applied: bool
) -> tuple[ServiceState, ...]:
    """One state for each service. ``applied``: the guest's spec was once applied whole."""
    failure = observed.failure
    if failure is not None and failure.digest != guest.digest:
        failure = None
    return tuple(
        _state(service, observed, inside, failure, applied=applied) for service in guest.services
    )


def _state(
    service: EffectiveService,
    observed: Observed,
    inside: InsidePlan,
    failure: Failure | None,
    *,
    applied: bool,
) -> ServiceState:
    name = service.name
    prefix = f"services[{name}]."
    refused = inside.refused
    lacking = [change.path for change in inside.changes if change.path.startswith(prefix)]
    if refused is not None and (lacking or (inside.known is None and not applied)):
        return ServiceState(name, False, refused.reason, refused.message)
    if lacking:
        if failure is not None and failure.step == "ApplyInside":
            return ServiceState(name, False, "ApplyFailed", failure.message)
        what = ", ".join(path.removeprefix(prefix) for path in lacking[:3])
        return ServiceState(name, False, "Configuring", f"{name}: {what}")
    if inside.known is None and not applied:
        if failure is not None and failure.step in ("LookInside", "ApplyInside"):
            reason = "LookFailed" if failure.step == "LookInside" else "ApplyFailed"
            return ServiceState(name, False, reason, failure.message)
        return ServiceState(name, False, "WaitingForAgent", f"{name}: not configured yet")
    worst: ServiceState | None = None
    for probe in service.probes:
        view = observed.probes.get((name, probe.name))
        status = view.status if view is not None else ProbeStatus.UNKNOWN
        said = (
            f"{name}/{probe.name}: {view.message}" if view is not None else f"{name}: no probe yet"
        )
        if status is ProbeStatus.FAILURE and refused is not None and refused.reason == FROZEN:
            return ServiceState(name, None, FROZEN, f"{said}; {refused.message}")
        if status is ProbeStatus.FAILURE:
            return ServiceState(name, False, "ProbeFailed", said)
        if status is ProbeStatus.STARTING:
            worst = ServiceState(name, False, "Starting", said)
        elif status is ProbeStatus.UNKNOWN and worst is None:
            worst = ServiceState(name, None, "ProbeUnknown", said)
    return worst or ServiceState(name, True)


def services_ready(states: tuple[ServiceState, ...]) -> Condition:
    """The condition ``ServicesReady``; the worst service gives its reason."""
    if not states:
        return true(_C, "NoServices")
    unready = [state for state in states if not state.ready]
    if not unready:
        return true(_C, "ServicesReady")
    worst = min(unready, key=lambda state: _WORST_FIRST.index(state.reason))
    status = Status.UNKNOWN if worst.ready is None else Status.FALSE
    return Condition(_C, status, worst.reason, worst.message)
