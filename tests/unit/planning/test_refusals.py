"""What an agent or a host refuses is told as that, with what helps; it is no fault of the guest."""

from dataclasses import replace
from typing import Any

import pytest

from controller.observed.domain import DomainState, GuestRecord, StateReason
from controller.observed.guest import Failure, Observed
from controller.observed.health import ProbeStatus, ProbeView
from controller.planning.conditions import Health, Printable
from controller.planning.plan import Plan
from controller.planning.planner import plan
from controller.planning.steps import LookInside, ShutdownDomain
from tests.factories import (
    NOW,
    POLICY,
    a_domain,
    a_guest,
    a_probe,
    a_ready_image,
    a_service,
    an_inside,
    observed,
)
from tests.libvirt_errors import RECORDED

GUEST = a_guest(services=(a_service(probes=(a_probe(),)),))


def failed(step: str, reason: str, *, retry_in: float = 5.0) -> Failure:
    return Failure(step, reason, f"{reason} and what helps", NOW - 1, 1, NOW + retry_in, "")


def planned(failure: Failure, *, record: GuestRecord | None = None, **fields: Any) -> Plan:
    applied = fields.pop("applied", True)
    domain = a_domain(GUEST, record=record, applied=applied)
    seen: Observed = observed(
        domain, image=a_ready_image(), failure=replace(failure, digest=GUEST.digest), **fields
    )
    return plan(GUEST, seen, domain.record, NOW, POLICY)


def said(made: Plan, kind: str) -> tuple[str, str]:
    found = next(one for one in made.conditions if one.type == kind)
    return found.status.value, found.reason


@pytest.mark.parametrize("reason", ["GuestExecDisabled", "FilesystemsFrozen", "AgentRestarted"])
@pytest.mark.parametrize("step", ["LookInside", "ApplyInside"])
def test_what_the_agent_refuses_of_a_new_guest_is_every_conditions_reason(
    reason: str, step: str
) -> None:
    made = planned(failed(step, reason), applied=False)
    for kind in ("Ready", "Provisioned", "ServicesReady", "Synced"):
        assert said(made, kind) == ("False", reason)
    assert said(made, "AgentConnected") == ("True", reason)
    assert "what helps" in made.sentence
    assert made.steps == ()


def test_a_guest_whose_agent_came_to_refuse_is_as_ready_as_its_probes_say() -> None:
    well = {("web", "http"): ProbeView("web", "http", ProbeStatus.SUCCESS, "200", NOW)}
    made = planned(
        failed("LookInside", "GuestExecDisabled"),
        inside=an_inside(GUEST, looked_at=NOW - 10**6),
        probes=well,
    )
    assert said(made, "Ready") == ("True", "Ready")
    assert said(made, "AgentConnected") == ("True", "GuestExecDisabled")


def test_probes_that_fail_while_the_file_systems_are_frozen_say_nothing() -> None:
    ill = {("web", "http"): ProbeView("web", "http", ProbeStatus.FAILURE, "timed out", NOW)}
    inside = an_inside(GUEST)
    made = planned(failed("LookInside", "FilesystemsFrozen"), inside=inside, probes=ill)
    assert said(made, "ServicesReady") == ("Unknown", "FilesystemsFrozen")
    made = planned(failed("LookInside", "LookFailed"), inside=inside, probes=ill)
    assert said(made, "ServicesReady") == ("False", "ProbeFailed")


def test_a_cold_boot_waits_while_the_file_systems_are_frozen() -> None:
    wished = GuestRecord(restart_requested=NOW - 2)
    inside = an_inside(GUEST)
    for step in ("LookInside", "ShutdownDomain"):
        frozen = failed(step, "FilesystemsFrozen")
        made = planned(frozen, record=wished, inside=inside)
        assert not any(isinstance(one, ShutdownDomain) for one in made.steps)
        assert made.recheck_at == frozen.retry_at
        thawed = planned(replace(frozen, retry_at=NOW - 1), record=wished, inside=inside)
        assert any(isinstance(one, (ShutdownDomain, LookInside)) for one in thawed.steps)
    made = planned(failed("LookInside", "FilesystemsFrozen"), record=wished, inside=inside)
    assert said(made, "Synced") == ("False", "FilesystemsFrozen")


# --- What a host lacks for a start ----------------------------------------------------------------


HOST_LACKS = sorted(
    {one.reason for name, one in RECORDED.items() if name.startswith("start with ")}
)


def off(failure: Failure | None, why: StateReason = StateReason.FAILED, *, tried: int = 2) -> Plan:
    record = GuestRecord(start_attempts=tried, last_start_attempt=NOW - 1 if tried else None)
    domain = a_domain(GUEST, DomainState.SHUTOFF, why, record=record)
    if failure is not None:
        failure = replace(failure, digest=GUEST.digest)
    return plan(
        GUEST, observed(domain, image=a_ready_image(), failure=failure), domain.record, NOW, POLICY
    )


@pytest.mark.parametrize("why", [StateReason.FAILED, StateReason.OTHER, StateReason.CRASHED])
@pytest.mark.parametrize("reason", HOST_LACKS)
def test_what_a_host_lacks_for_a_start_is_no_crash(reason: str, why: StateReason) -> None:
    """Also of a guest that never ran (which libvirt gives no reason for)."""
    made = off(failed("StartDomain", reason), why)
    assert said(made, "Ready") == said(made, "Running") == ("False", reason)
    assert (made.printable, made.health) == (Printable.DEGRADED, Health.DEGRADED)
    assert made.sentence.startswith(f"{reason} and what helps; start number 3 waits")


def test_a_refusal_without_a_word_of_its_own_is_a_failed_start() -> None:
    made = off(failed("StartDomain", "TransientFailure"))
    assert said(made, "Running") == ("False", "StartFailed")


def test_a_restarted_daemon_does_not_take_a_failed_start_for_a_crash() -> None:
    made = off(None)
    assert said(made, "Running") == ("False", "StartFailed")
    assert made.printable is Printable.DEGRADED
    assert said(off(None, StateReason.CRASHED), "Running") == ("False", "CrashLoopBackOff")
    assert off(None, StateReason.CRASHED).printable is Printable.CRASH_LOOP


def test_what_another_step_met_is_no_reason_of_a_crash_loop() -> None:
    made = off(failed("SetAutostart", "NetworkInactive"), StateReason.CRASHED)
    assert said(made, "Running") == ("False", "CrashLoopBackOff")
