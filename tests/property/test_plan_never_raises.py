"""Whatever stands in a domain and in its metadata, written by us, by hand or by another version: a
plan comes of it, and none that deletes what is in use, holds data, or what others stand on.
"""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.observed.domain import (
    BootConfig,
    DiskVolume,
    DomainConfig,
    DomainState,
    DomainView,
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    StateReason,
    SystemDisk,
)
from controller.observed.guest import Failure, Fleet, Observed, Operation
from controller.observed.host import HostView, VolumeView
from controller.observed.image import ImageState, ImageView
from controller.planning.deletion.orphan import plan_orphan
from controller.planning.plan import Plan, Policy
from controller.planning.planner import plan
from controller.planning.steps import (
    LONG,
    DeleteRetired,
    DeleteVolume,
    UndefineDomain,
    update_record,
)
from tests.factories import (
    NOW,
    a_domain,
    a_guest,
    a_host,
    a_ready_image,
    a_service,
    an_image,
    an_inside,
)

ME = Policy(seed="test", daemon_started=NOW - 10, controller="me")
OLD, NEW = "gk-base-debian12-abc.qcow2", "gk-base-debian12-new.qcow2"
EXAMPLE = a_domain(a_guest(disks=[{"name": "data", "size": "1Gi"}]))
VOLUMES = [*(disk.volume or "" for disk in EXAMPLE.config.disks), "a", "b", "", OLD, NEW, "/pool/x"]
GUESTS = [
    a_guest(
        services=(a_service(),),
        disks=[{"name": "data", "size": "1Gi"}],
        runStrategy=strategy,
        image=an_image(cloudInit=cloud_init),
        updatePolicy={"replace": replacing, "restart": restart, "maintenanceWindows": windows},
    )
    for strategy in ("Always", "Manual", "Halted", "RerunOnFailure")
    for cloud_init in (True, False)
    for replacing, restart in (("Automatic", "Staged"), ("Manual", "Automatic"))
    for windows in ([], [{"cron": "0 3 * * *", "duration": "1h"}])
]
FAILED = [
    "Look", "DeleteVolume", "DeleteRetired", "CreateVolume", "StartDomain", "DefineDomain",
    "UpdateRecord", "UnplugDevice", "LookInside", "ApplyInside", "UndefineDomain",
    "ShutdownDomain", "DestroyDomain", "GrowDisk",
]  # fmt: skip

pools = st.sampled_from(["default", "other", ""])
volumes = st.sampled_from(VOLUMES)
bases = st.sampled_from(["", OLD, NEW])
texts = st.sampled_from(["", "x"])
times = st.one_of(
    st.sampled_from([0.0, -1.0, NOW - 1e6, NOW - 700, NOW - 130, NOW - 10, NOW, NOW + 5, 9e18]),
    st.floats(allow_nan=False, allow_infinity=False),
)
clocks = st.one_of(st.just(NOW), st.floats(0, 2 * NOW))  # the daemon's own
maybe = st.one_of(st.none(), times)
system_disks = st.builds(SystemDisk, pools, volumes, bases, texts, texts, texts)
replacements = st.builds(
    Replacement,
    to=system_disks,
    back=system_disks,
    why=st.sampled_from(["image", "rollback", "x"]),
    phase=st.sampled_from(ReplacePhase),
    since=times,
    agent=st.booleans(),
    swapped_at=maybe,
    failure=texts,
)
retired = st.builds(
    RetiredDisk, system_disks, times, st.sampled_from(["replaced", "failed", "rolled-back", "x"])
)
aliases = st.sampled_from(["disk-system", "disk-data", "disk-x", ""])
noted = st.builds(DiskVolume, aliases, pools, volumes)


def rarely() -> st.SearchStrategy[bool]:
    return st.sampled_from([False] * 9 + [True])


@st.composite
def memories(draw: st.DrawFn, known: GuestRecord) -> GuestRecord:
    """``known``, edited by hand or written by another version."""
    edited = draw(st.booleans())
    return replace(
        known,
        start_attempts=draw(st.sampled_from([0, 1, 2, 3, 100, -5, 2**62])),
        last_start_attempt=draw(maybe),
        shutdown_requested=draw(maybe),
        stop_for=draw(st.sampled_from(["", "halt", "restart", "replace", "delete", "x"])),
        stop_run=draw(st.sampled_from([None, 1, 2, -1])),
        starting=draw(st.booleans()),
        agent_seen=draw(st.booleans()),
        finished=draw(st.booleans()),
        restart_requested=draw(maybe),
        suspended=draw(rarely()),
        approved=draw(bases),
        approved_now=draw(st.booleans()),
        refused=draw(bases),
        rollback=draw(rarely()),
        replacement=draw(st.one_of(st.none(), replacements)),
        retired=tuple(draw(st.lists(retired, max_size=3))),
        volumes=tuple(draw(st.lists(noted, max_size=3))) if edited else known.volumes,
        macs=() if edited else known.macs,
        restarted_for=draw(texts),
        controller=draw(st.sampled_from(["me", "me", "", "other"])),
        deletion_policy=draw(st.sampled_from(["", "Retain", "Stop", "Delete", "Delete", "x"])),
        orphaned_since=draw(maybe),
        deletion_blocked=draw(rarely()),
        deletion_approved=draw(maybe),
        deleting=draw(rarely()),
    )


@st.composite
def configs(draw: st.DrawFn, config: DomainConfig) -> DomainConfig:
    """``config`` with devices that are not as they were made."""
    disks = []
    for disk in config.disks:
        match draw(st.sampled_from(["as it was", "as it was", "moved", "renamed", "gone"])):
            case "as it was":
                disks.append(disk)
            case "renamed":
                disks.append(replace(disk, alias="disk-x"))
            case "moved":
                disks.append(replace(disk, volume=draw(volumes) or None, pool=draw(pools)))
    config = replace(config, disks=tuple(disks))
    if draw(rarely()):
        config = replace(config, nics=(), title="x")
    return replace(config, boot=BootConfig("/k", None, "")) if draw(rarely()) else config


@st.composite
def domains(draw: st.DrawFn) -> DomainView:
    made = a_domain(
        draw(st.sampled_from(GUESTS)),
        draw(st.sampled_from(DomainState)),
        draw(st.sampled_from(StateReason)),
        applied=draw(st.booleans()),
        agent=draw(st.booleans()),
        started_at=draw(st.sampled_from([None, NOW - 100, NOW + 100, 0.0])),
    )
    owner = made.ownership
    assert owner is not None
    owner = replace(
        owner,
        uid="x" if draw(rarely()) else owner.uid,
        record=draw(memories(owner.record)),
        base=draw(bases),
        digest=draw(st.sampled_from([owner.digest, "", "old"])),
        spec=draw(st.sampled_from([owner.spec, "", "{", "[]", '{"spec":1}'])),
    )
    running = made.live is not None or draw(rarely())
    return replace(
        made,
        ownership=owner,
        live=draw(configs(made.config)) if running else None,
        config=draw(configs(made.config)),
        persistent=not draw(rarely()),
        running_job=draw(rarely()),
        saved=draw(rarely()),
        run=draw(st.sampled_from([made.run, 2, None])),
        autostart=draw(st.booleans()),
    )


@st.composite
def images(draw: st.DrawFn) -> ImageView:
    state = draw(st.sampled_from(ImageState))
    base = draw(bases) or None
    return a_ready_image(
        state=state,
        base=(base or OLD) if state is ImageState.READY else base,
        kernel_path=draw(st.sampled_from([None, "/k"])),
        capacity=draw(st.sampled_from([1, 2**31, 2**60])),
        retry_at=draw(st.sampled_from([None, NOW - 5, NOW + 5])),
        stalled=draw(rarely()),
    )


@st.composite
def sights(draw: st.DrawFn) -> tuple[Any, Observed]:
    """A guest's document, and what is seen of the guest."""
    guest = draw(st.sampled_from(GUESTS))
    host: HostView = a_host(hotplug=draw(st.booleans()), reachable=not draw(rarely()))
    there = draw(st.sets(st.tuples(st.sampled_from(["default", "other"]), volumes)))
    capacity = draw(st.sampled_from([1, 2**30, 2**40]))
    insides = [
        None,
        an_inside(guest),
        an_inside(guest, hostname="x"),
        an_inside(guest, cloud_init="running"),
        an_inside(guest, cloud_init="error"),
    ]
    failure = Failure(
        draw(st.sampled_from(FAILED)), "Reason", "message", NOW - 5, 1,
        draw(st.sampled_from([NOW - 1, NOW + 5])), draw(st.sampled_from([guest.digest, "x"])),
    )  # fmt: skip
    return guest, Observed(
        host,
        None if draw(rarely()) else draw(domains()),
        image=draw(st.one_of(st.none(), images())),
        volumes={
            (pool, name): VolumeView(pool, name, f"/pool/{name}", "qcow2", capacity, 0, None)
            for pool, name in there
        },
        inside=draw(st.sampled_from(insides)),
        fleet=Fleet(
            suspended=draw(rarely()),
            uncertain=draw(st.sampled_from(["", "", "why"])),
            empty=draw(rarely()),
            deletions=draw(st.sampled_from([0, 1, 5])),
            last_policy=draw(st.sampled_from(["", "Delete", "Retain"])),
            hold=draw(texts),
        ),
        watched_since=draw(st.sampled_from([0.0, NOW - 5000, NOW - 5, NOW + 5])),
        operation=draw(st.sampled_from([None, None, Operation("LookInside", NOW)])),
        failure=draw(st.sampled_from([None, failure])),
    )


def check(made: Plan, domain: DomainView) -> None:
    assert not any(isinstance(step, LONG) for step in made.steps[:-1]), "something follows it"
    if not domain.ours:
        assert made.steps == ()
    owner = domain.ownership
    assert owner is not None
    record = owner.record
    undefined = any(isinstance(step, UndefineDomain) for step in made.steps)
    assert not (undefined and domain.live is not None), "undefined while it runs"
    deleted = {
        (step.pool, step.volume) for step in made.steps if isinstance(step, DeleteVolume)
    } | {
        (step.retired.disk.pool, step.retired.disk.volume)
        for step in made.steps
        if isinstance(step, DeleteRetired)
    }
    running = domain.live.disks if domain.live is not None else ()
    defined = domain.config.disks
    ending = record.deleting or update_record(deleting=True) in made.steps  # its own disk goes, too
    in_use = {(disk.pool, disk.volume) for disk in (*running, *(() if ending else defined))}
    assert not deleted & in_use, "in use"
    data = {(one.pool, one.volume) for one in record.volumes if one.alias != "disk-system"}
    data |= {
        (disk.pool, disk.volume)
        for disk in (*running, *defined)
        if disk.alias not in ("disk-system", "cdrom-seed")
    }
    assert not deleted & data, "a data disk"
    disks = [one.disk for one in record.retired]
    if record.replacement is not None:
        disks += [record.replacement.to, record.replacement.back]
    stood_on = {owner.base, *(disk.base for disk in disks)}
    assert not {volume for _, volume in deleted} & {*stood_on, ""}, "a base"


@settings(max_examples=200, deadline=None)
@given(seen=sights(), now=clocks, problems=st.sampled_from([(), ("x",)]))
def test_a_plan_comes_of_anything_and_deletes_nothing_that_anybody_needs(
    seen: tuple[Any, Observed], now: float, problems: tuple[str, ...]
) -> None:
    guest, observed = seen
    domain = observed.domain
    owner = domain.ownership if domain is not None else None
    record = owner.record if owner is not None else GuestRecord()
    made = plan(guest, observed, record, now, ME)
    orphaned = plan_orphan(
        guest.name, domain, observed.fleet, now, ME, problems=problems, failure=observed.failure
    )
    assert made.sentence
    assert orphaned.sentence
    if domain is not None:
        check(made, domain)
        check(orphaned, domain)
