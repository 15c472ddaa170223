"""Guests, hosts and problems as JSON, for the API and ``-o json``.

The words are those of the documents and of ``planning.conditions``, the keys snake_case, times RFC
3339 in UTC. Pure. The format is a promise (``format_version``), so it is built here by hand and
tested key by key, instead of following the dataclasses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum

from controller.desired.effective import EffectiveGuest, EffectiveService
from controller.desired.text.problems import Problem
from controller.loop.status import GuestStatus
from controller.observed.domain import DomainView
from controller.observed.guest import Observed
from controller.observed.health import ProbeTarget
from controller.observed.host import HostView
from controller.planning.conditions import ConditionType
from controller.planning.plan import Plan
from controller.planning.steps import step_name
from controller.web import lifecycle_views as life_views
from controller.web.values import Json, when


def guest_summary(status: GuestStatus) -> Json:
    """A guest in short, as lists show it."""
    guest, plan, observed = status.guest, status.plan, status.observed
    ready = status.condition(ConditionType.READY)
    states = plan.services_ready
    total = len(guest.services) if guest is not None else len(states)
    return {
        "name": status.name,
        "labels": dict(guest.labels) if guest is not None else {},
        "printable": str(plan.printable),
        "sync": str(plan.sync),
        "health": str(plan.health),
        "ready": str(ready[0].status) if ready is not None else "Unknown",
        "services_ready": sum(1 for _, is_ready in states if is_ready),
        "services_total": total,
        "sentence": plan.sentence,
        "message": _message(status),
        "orphan": status.guest is None or plan.is_true(ConditionType.ORPHANED),
        "host": guest.spec.host if guest is not None else observed.host.name,
        "image": guest.spec.image if guest is not None else None,
        "addresses": list(observed.inside.addresses) if observed.inside is not None else [],
        "forwards": _forwards(guest, observed.domain),
        "created_at": when(status.created_at),
        "updated_at": when(status.updated_at),
    }


def _message(status: GuestStatus) -> str:
    """The message of Ready, else of Synced, where that is not True; '' if both are."""
    for type in (ConditionType.READY, ConditionType.SYNCED):
        found = status.condition(type)
        if found is not None and found[0].status != "True":
            return found[0].message or found[0].reason
    return ""


class Detail(StrEnum):
    """How much of each guest a list shows."""

    SUMMARY = "summary"
    CONDITIONS = "conditions"
    FULL = "full"


def guest_conditions(status: GuestStatus) -> Json:
    """The summary of a guest with its conditions, for ``wait``."""
    return {
        **guest_summary(status),
        "conditions": [
            {
                "type": str(found.type),
                "status": str(found.status),
                "reason": found.reason,
                "message": found.message,
                "since": when(since),
            }
            for found, since in zip(status.plan.conditions, status.since, strict=True)
        ],
    }


def guest_view(status: GuestStatus, problems: Sequence[Problem] = ()) -> Json:
    """Everything that is known about a guest."""
    guest, plan, observed = status.guest, status.plan, status.observed
    domain = observed.domain
    owner = domain.ownership if domain is not None else None
    return {
        **guest_conditions(status),
        "changes": life_views.changes(status),
        "steps": [{"name": step_name(step), "text": str(step)} for step in plan.steps],
        "recheck_at": when(plan.recheck_at),
        **life_views.life(status),
        "uuid": domain.uuid if domain is not None else None,
        "domain": _domain(domain),
        "inside": _inside(observed),
        "services": [_service(service, status) for service in guest.services] if guest else [],
        "operation": _operation(observed),
        "failure": _failure(observed),
        "problems": [problem_view(problem) for problem in problems],
        "generation": owner.generation if owner is not None else None,
        "applied_digest": (owner.digest or None) if owner is not None else None,
        "digest": guest.digest if guest is not None else None,
        "origin": {"file": guest.origin.file, "line": guest.origin.line} if guest else None,
        "wanted": _wanted(guest) if guest and not plan.is_true(ConditionType.ORPHANED) else None,
    }


def pending_view(guest: EffectiveGuest, detail: Detail) -> Json:
    """A guest that is in the catalog and was not looked at yet, with the keys of the others."""
    sentence = "not looked at yet"
    status = GuestStatus(
        name=guest.name,
        guest=guest,
        observed=Observed(HostView(guest.spec.host, "", reachable=False)),
        plan=Plan(guest.name, sentence),
        since=(),
        updated_at=0.0,
    )
    unknown: Json = {"message": sentence, "updated_at": None}
    if detail is Detail.SUMMARY:
        return guest_summary(status) | unknown
    if detail is Detail.CONDITIONS:
        return guest_conditions(status) | unknown
    return guest_view(status) | unknown | {"services": []}


def _wanted(guest: EffectiveGuest) -> Json:
    spec = guest.spec
    return {
        "run_strategy": str(spec.run_strategy),
        "vcpus": spec.cpu.vcpus,
        "memory": spec.memory.size,
        "hostname": guest.hostname,
        "drift_interval_seconds": spec.drift_interval,
    }


def _domain(domain: DomainView | None) -> Json | None:
    if domain is None:
        return None
    config = domain.live or domain.config
    return {
        "state": str(domain.state),
        "reason": str(domain.reason),
        "ours": domain.ours,
        "persistent": domain.persistent,
        "agent_connected": domain.agent_connected,
        "running_job": domain.running_job,
        "started_at": when(domain.started_at),
        "run": domain.run,
        "autostart": domain.autostart,
        "title": config.title or None,
        "description": config.description or None,
        "accelerator": config.accelerator,
        "firmware": config.firmware,
        "vcpus": config.vcpus,
        "max_vcpus": config.max_vcpus,
        "memory": config.memory,
        "max_memory": config.max_memory,
        "disks": [
            {
                "name": disk.alias,
                "device": disk.device,
                "target": disk.target,
                "pool": disk.pool or None,
                "volume": disk.volume,
                "format": disk.format,
                "cache": disk.cache or None,
                "io_tune": {name: value for name, value in asdict(disk.io_tune).items() if value},
            }
            for disk in config.disks
        ],
        "interfaces": [
            {
                "name": nic.alias,
                "kind": nic.kind,
                "source": nic.source or None,
                "mac": nic.mac,
                "model": nic.model,
                "link": nic.link,
                "forwards": list(nic.forwards),
            }
            for nic in config.nics
        ],
    }


def _inside(observed: Observed) -> Json | None:
    inside = observed.inside
    if inside is None:
        return None
    return {
        "looked_at": when(inside.looked_at),
        "hostname": inside.hostname,
        "boot_id": inside.boot_id,
        "cloud_init": inside.cloud_init or None,
        "units": {
            unit.unit: {"active": unit.active, "enabled": unit.enabled}
            for unit in inside.units.values()
        },
    }


def _forwards(guest: EffectiveGuest | None, domain: DomainView | None) -> list[str]:
    if guest is not None:
        return [
            str(forward)
            for nic in guest.spec.interfaces
            if nic.user is not None
            for forward in nic.user.forwards
        ]
    config = (domain.live or domain.config) if domain is not None else None
    return [forward for nic in config.nics for forward in nic.forwards] if config else []


def _service(service: EffectiveService, status: GuestStatus) -> Json:
    targets: Mapping[str, ProbeTarget] = {
        target.probe: target for target in status.plan.probes if target.service == service.name
    }
    return {
        "name": service.name,
        "ready": dict(status.plan.services_ready).get(service.name),
        "unit": service.unit,
        "packages": list(service.packages),
        "files": [file.path for file in service.files],
        "probes": [
            _probe(service.name, probe.name, status, targets.get(probe.name))
            for probe in service.probes
        ],
    }


def _probe(service: str, name: str, status: GuestStatus, target: ProbeTarget | None) -> Json:
    view = status.observed.probes.get((service, name))
    return {
        "name": name,
        "kind": target.kind if target is not None else None,
        "asks": _asks(target) if target is not None else None,
        "status": str(view.status) if view is not None else "Unknown",
        "message": view.message if view is not None else "not asked yet",
        "since": when(view.since) if view is not None else None,
        "checked_at": when(view.checked_at) if view is not None else None,
    }


def _asks(target: ProbeTarget) -> str:
    where = " in the guest" if target.inside else ""
    if target.port is not None and target.address is None:
        return f"port {target.port} of the guest, whose address is not known"
    if target.kind == "httpGet":
        return f"{target.scheme}://{target.address}:{target.port}{target.path}{where}"
    if target.kind == "tcpSocket":
        return f"{target.address}:{target.port}{where}"
    return " ".join(target.command) + where if target.command else "the guest agent"


def _operation(observed: Observed) -> Json | None:
    operation = observed.operation
    if operation is None:
        return None
    return {"name": operation.name, "since": when(operation.since)}


def _failure(observed: Observed) -> Json | None:
    failure = observed.failure
    if failure is None:
        return None
    return {
        "step": failure.step,
        "reason": failure.reason,
        "message": failure.message,
        "at": when(failure.at),
        "attempts": failure.attempts,
        "retry_at": when(failure.retry_at),
    }


def problem_view(problem: Problem) -> Json:
    return {
        "file": problem.file,
        "line": problem.line or None,
        "field": problem.field,
        "message": problem.message,
        "text": str(problem),
    }


def host_view(host: HostView, guests: int) -> Json:
    return {
        "name": host.name,
        "uri": host.uri,
        "reachable": host.reachable,
        "why": host.why,
        "accelerator": "kvm" if host.kvm else "tcg",
        "guests": guests,
        "default_pool": host.default_pool,
        "pools": [
            {
                "name": pool.name,
                "path": pool.path,
                "active": pool.active,
                "capacity": pool.capacity,
                "available": pool.available,
            }
            for pool in sorted(host.pools.values(), key=lambda pool: pool.name)
        ],
        "libvirt_version": host.libvirt_version,
        "hypervisor_version": host.hypervisor_version,
    }
