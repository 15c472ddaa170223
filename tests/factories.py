"""Builders of desired and observed values for tests: every argument is optional and named."""

import hashlib
from dataclasses import replace
from typing import Any

from controller.desired.effective import (
    EffectiveGuest,
    EffectiveImage,
    EffectiveInstall,
    EffectiveService,
    InstallKind,
    Origin,
    RenderedFile,
)
from controller.desired.schema.guest import GuestSpec
from controller.desired.schema.image import ImageSpec
from controller.desired.schema.service import OnChange, Probe
from controller.observed.domain import (
    DomainState,
    DomainView,
    GuestRecord,
    Ownership,
    StateReason,
)
from controller.observed.guest import Observed
from controller.observed.host import HostView, PoolView
from controller.observed.image import ImageState, ImageView
from controller.observed.inside import FileFact, InsideView, UnitFact
from controller.planning.compare.changes import spec_document
from controller.planning.plan import Policy
from controller.planning.wanted.domain import placed, wanted_config

NOW = 1_800_000_000.0
POLICY = Policy(seed="test", daemon_started=NOW - 10)


def digest_of(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def a_file(
    path: str = "/etc/app.conf", content: bytes = b"hello\n", mode: int = 0o644
) -> RenderedFile:
    return RenderedFile(path, content, hashlib.sha256(content).hexdigest(), "root", "root", mode)


def a_probe(name: str = "http", **fields: Any) -> Probe:
    return Probe.model_validate({"name": name, **(fields or {"httpGet": {"port": 80}})})


def a_service(
    name: str = "web",
    packages: tuple[str, ...] = ("nginx-light",),
    files: tuple[RenderedFile, ...] = (),
    unit: str | None = "nginx.service",
    probes: tuple[Probe, ...] = (),
) -> EffectiveService:
    digest = digest_of(name, packages, files, unit)
    return EffectiveService(name, packages, files, unit, OnChange.RELOAD, probes, digest)


def an_image(name: str = "debian12", **fields: Any) -> EffectiveImage:
    spec = ImageSpec.model_validate(
        {"osFamily": "debian", "source": {"file": "debian12.qcow2"}, **fields}
    )
    digest = digest_of(name, spec.model_dump_json())
    return EffectiveImage(name, spec, digest, digest)


def an_install_image(
    name: str = "rocky9", *, answer: str = "poweroff\n", **fields: Any
) -> EffectiveImage:
    """An image by kickstart; the installer is two files of the images directory."""
    kickstart = {
        "template": "rhel9-minimal.ks.j2",
        "version": "RHEL9",
        "location": {"kernel": "vmlinuz", "initrd": "initrd", "repo": "http://127.0.0.1/repo"},
        **fields.pop("kickstart", {}),
    }
    spec = ImageSpec.model_validate(
        {
            "osFamily": "rhel",
            "source": {"kickstart": kickstart},
            "disk": {"size": "1Mi"},
            **fields,
        }
    )
    made = spec.source.kickstart
    assert made is not None
    content = digest_of(name, answer, made.model_dump_json())
    install = EffectiveInstall(
        kind=InstallKind.KICKSTART,
        answer=answer,
        location=made.location,
        delivery=made.delivery,
        disk_size=spec.disk.size,
        firmware=spec.builder.firmware,
        root_password_hash_from=made.root_password_hash_from,
        ssh_authorized_keys_from=tuple(made.ssh_authorized_keys_from),
        digest=content,
    )
    digest = digest_of(content, spec.model_dump_json())
    return EffectiveImage(name, spec, digest, content, install)


def a_guest(
    name: str = "web1",
    services: tuple[EffectiveService, ...] = (),
    image: EffectiveImage | None = None,
    **fields: Any,
) -> EffectiveGuest:
    image = image or an_image()
    spec = GuestSpec.model_validate({"image": image.name, "memory": {"size": "512Mi"}, **fields})
    digest = digest_of(spec.model_dump_json(), image.digest, [s.digest for s in services])
    return EffectiveGuest(name, (), spec, image, services, Origin("guests.yaml", 1), digest)


def a_host(**fields: Any) -> HostView:
    pools = {"default": PoolView("default", "/pool", True, 10**12, 10**12)}
    return replace(HostView("local", "test:///", True, pools=pools), **fields)


def a_ready_image(**fields: Any) -> ImageView:
    view = ImageView(
        name="debian12",
        host="local",
        pool="default",
        state=ImageState.READY,
        base="gk-base-debian12-abc.qcow2",
        base_path="/pool/gk-base-debian12-abc.qcow2",
        capacity=2 * 2**30,
    )
    return replace(view, **fields)


def a_domain(
    guest: EffectiveGuest,
    state: DomainState = DomainState.RUNNING,
    reason: StateReason = StateReason.OTHER,
    *,
    record: GuestRecord | None = None,
    applied: bool = True,
    agent: bool = True,
    started_at: float | None = NOW - 100,
) -> DomainView:
    """The domain that planning ``guest`` would have led to."""
    config = wanted_config(guest, a_host(), None, a_ready_image(), POLICY.seed)
    owner = Ownership(
        uid=config.uuid,
        name=guest.name,
        generation=1,
        digest=guest.digest if applied else "",
        spec=spec_document(guest) if applied else "",
        record=replace(
            record or GuestRecord(),
            controller=POLICY.controller,
            deletion_policy=guest.spec.deletion_policy,
            agent_seen=agent,
            **placed(config),
        ),
        created=NOW - 3600,
        base=a_ready_image().base or "",
    )
    return DomainView(
        name=guest.name,
        uuid=config.uuid,
        state=state,
        reason=reason,
        ownership=owner,
        config=config,
        live=config if state.active else None,
        agent_connected=agent and state.active,
        started_at=started_at if state.active else None,
        run=1 if state.active else None,
        autostart=guest.spec.autostart,
    )


def an_inside(guest: EffectiveGuest, *, looked_at: float = NOW - 1, **fields: Any) -> InsideView:
    """The inside of ``guest`` once everything is applied."""
    files = [file for service in guest.services for file in service.files]
    units = [service.unit for service in guest.services if service.unit]
    view = InsideView(
        looked_at=looked_at,
        boot_id="boot-1",
        hostname=guest.hostname,
        packages={p: "1.0" for service in guest.services for p in service.packages},
        files={f.path: FileFact(f.path, f.sha256, f.owner, f.group, f.mode) for f in files},
        units={unit: UnitFact(unit, "active", "enabled") for unit in units},
    )
    return replace(view, **fields)


def observed(domain: DomainView | None = None, **fields: Any) -> Observed:
    return replace(Observed(a_host(), domain), **fields)
