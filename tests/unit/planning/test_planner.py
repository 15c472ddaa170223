"""The planner's decisions as a table: what is wanted, what is seen, what is decided."""

from dataclasses import replace

import pytest

from controller.observed.domain import BootConfig, DomainState, GuestRecord, StateReason
from controller.observed.guest import Failure, Observed, Operation
from controller.observed.health import ProbeStatus, ProbeView
from controller.observed.host import PoolView, VolumeView
from controller.observed.image import ImageState
from controller.planning.conditions import Health, Printable, Status, Sync
from controller.planning.plan import Plan
from controller.planning.planner import plan
from controller.planning.steps import step_name
from tests.factories import (
    NOW,
    POLICY,
    a_domain,
    a_file,
    a_guest,
    a_host,
    a_probe,
    a_ready_image,
    a_service,
    an_image,
    an_inside,
    observed,
)

WEB = a_service(files=(a_file(),))
GUEST = a_guest(services=(WEB,))


def planned(guest=GUEST, seen: Observed | None = None, **kwargs) -> Plan:  # type: ignore[no-untyped-def]
    seen = seen or observed()
    owner = seen.domain.ownership if seen.domain else None
    record = owner.record if owner else GuestRecord()
    return plan(guest, seen, record, NOW, POLICY, **kwargs)


def names(made: Plan) -> list[str]:
    return [step_name(step) for step in made.steps]


def reason(made: Plan, type: str) -> str:
    found = next((c for c in made.conditions if c.type == type), None)
    return f"{found.status}/{found.reason}" if found else ""


# --- creation -------------------------------------------------------------------------------------


def test_a_guest_without_image_asks_for_it_and_waits() -> None:
    made = planned()
    assert names(made) == ["PrepareImage"]
    assert made.printable is Printable.INSTALLING


def test_while_the_image_is_prepared_its_progress_is_told() -> None:
    image = a_ready_image(state=ImageState.PREPARING, message="uploading 35 %")
    made = planned(seen=observed(image=image))
    assert made.steps == ()
    assert "uploading 35 %" in made.sentence


@pytest.mark.parametrize(("due", "steps"), [(NOW + 5, []), (NOW - 1, ["PrepareImage"])])
def test_a_failed_image_is_tried_again_when_due(due: float, steps: list[str]) -> None:
    image = a_ready_image(state=ImageState.FAILED, message="404", reason="Gone", retry_at=due)
    made = planned(seen=observed(image=image))
    assert names(made) == steps
    assert reason(made, "Provisioned") == "False/Gone"
    assert made.health is Health.DEGRADED


def test_creation_is_disks_then_definition_then_start() -> None:
    guest = a_guest(disks=[{"name": "data", "size": "1Gi"}])
    made = planned(guest, observed(image=a_ready_image()))
    assert names(made) == ["CreateVolume", "CreateVolume", "DefineDomain", "StartDomain"]
    overlay, data = made.steps[0], made.steps[1]
    assert overlay.backing == ("/pool/gk-base-debian12-abc.qcow2", "qcow2")  # type: ignore[union-attr]
    assert (data.backing, data.capacity) == (None, 2**30)  # type: ignore[union-attr]


def test_what_an_earlier_try_made_is_not_made_again() -> None:
    first = planned(seen=observed(image=a_ready_image()))
    overlay = first.steps[0].volume  # type: ignore[union-attr]
    backing = "/pool/gk-base-debian12-abc.qcow2"
    there = VolumeView("default", overlay, f"/pool/{overlay}", "qcow2", 2**31, 0, backing)
    again = planned(seen=observed(image=a_ready_image(), volumes={("default", overlay): there}))
    assert names(again) == ["DefineDomain", "StartDomain"]


@pytest.mark.parametrize("strategy", ["Manual", "Halted"])
def test_manual_and_halted_guests_are_made_but_not_started(strategy: str) -> None:
    made = planned(a_guest(runStrategy=strategy), observed(image=a_ready_image()))
    assert names(made)[-1] == "DefineDomain"


def test_a_missing_pool_is_told_with_its_remedy() -> None:
    seen = replace(observed(), host=a_host(pools={}))
    made = planned(seen=seen)
    assert made.steps == ()
    assert "pools" in made.sentence
    assert reason(made, "Synced") == "False/PoolMissing"


def test_an_inactive_pool_is_told() -> None:
    pool = PoolView("default", "/pool", False, 1, 1)
    made = planned(seen=replace(observed(), host=a_host(pools={"default": pool})))
    assert reason(made, "Synced") == "False/PoolInactive"
    assert "virsh pool-start default" in made.sentence


def test_a_system_disk_smaller_than_its_image_is_refused() -> None:
    made = planned(a_guest(systemDisk={"size": "1Gi"}), observed(image=a_ready_image()))
    assert made.steps == ()
    assert "write at least 2Gi" in made.sentence


def test_a_cloud_init_image_gets_a_seed() -> None:
    guest = a_guest(image=an_image(cloudInit=True))
    assert "CreateSeed" in names(planned(guest, observed(image=a_ready_image())))


def test_direct_boot_uses_the_images_kernel_in_the_pool() -> None:
    guest = a_guest(image=an_image(boot={"kernel": "k", "initrd": "i", "args": "root=/dev/vda"}))
    image = a_ready_image(kernel_path="/pool/k", initrd_path="/pool/i")
    define = planned(guest, observed(image=image)).steps[1]
    assert define.config.boot.kernel == "/pool/k"  # type: ignore[union-attr]
    assert define.config.boot.args == "root=/dev/vda"  # type: ignore[union-attr]


# --- no act ---------------------------------------------------------------------------------------


def test_no_data_means_no_act() -> None:
    host = a_host(reachable=False, why="connection refused")
    made = planned(seen=Observed(host, a_domain(GUEST, DomainState.SHUTOFF, StateReason.CRASHED)))
    assert made.steps == ()
    assert {c.status for c in made.conditions} == {Status.UNKNOWN}
    assert made.probes == ()


def test_a_domain_of_unknown_state_is_no_data() -> None:
    made = planned(seen=observed(a_domain(GUEST, DomainState.UNKNOWN)))
    assert made.steps == ()
    assert made.health is Health.UNKNOWN


@pytest.mark.parametrize("state", [DomainState.RUNNING, DomainState.SHUTOFF])
def test_a_foreign_domain_of_the_same_name_is_left_alone(state: DomainState) -> None:
    foreign = replace(a_domain(GUEST, state), ownership=None)
    made = planned(seen=observed(foreign))
    assert made.steps == ()
    assert reason(made, "Synced") == "False/NameConflict"
    assert "virsh domrename" in made.sentence


def test_a_clone_that_carries_our_element_is_foreign_too() -> None:
    clone = replace(a_domain(GUEST), uuid="11111111-1111-1111-1111-111111111111")
    assert reason(planned(seen=observed(clone)), "Synced") == "False/NameConflict"


@pytest.mark.parametrize(
    ("why", "told"), [(StateReason.IO_ERROR, "make room"), (StateReason.USER, "virsh resume")]
)
def test_a_paused_guest_is_left_paused(why: StateReason, told: str) -> None:
    made = planned(seen=observed(a_domain(GUEST, DomainState.PAUSED, why)))
    assert made.steps == ()
    assert made.printable is Printable.PAUSED
    assert told in made.sentence


def test_a_guest_that_sleeps_is_told_how_to_wake_it() -> None:
    made = planned(seen=observed(a_domain(GUEST, DomainState.PMSUSPENDED)))
    assert made.steps == ()
    assert (made.printable, reason(made, "Running")) == (Printable.PAUSED, "False/Asleep")
    assert "virsh dompmwakeup web1" in made.sentence
    assert "resume" not in made.sentence


# --- off ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "why", "starts"),
    [
        ("Always", StateReason.CRASHED, True),
        ("Always", StateReason.SHUTDOWN, True),
        ("Always", StateReason.DESTROYED, True),
        ("Always", StateReason.OTHER, True),
        ("RerunOnFailure", StateReason.CRASHED, True),
        ("RerunOnFailure", StateReason.FAILED, True),
        ("RerunOnFailure", StateReason.PANICKED, True),
        ("RerunOnFailure", StateReason.DAEMON, True),
        ("RerunOnFailure", StateReason.SHUTDOWN, False),
        ("Manual", StateReason.CRASHED, False),
        ("Halted", StateReason.CRASHED, False),
    ],
)
def test_run_strategies(strategy: str, why: StateReason, starts: bool) -> None:
    guest = a_guest(services=(WEB,), runStrategy=strategy)
    made = planned(guest, observed(a_domain(guest, DomainState.SHUTOFF, why)))
    finished = ["UpdateRecord"] if why is StateReason.SHUTDOWN else []
    assert names(made) == (["StartDomain"] if starts else finished)
    assert made.printable is (Printable.STARTING if starts else Printable.STOPPED)


@pytest.mark.parametrize(
    ("attempts", "ago", "starts"),
    [(0, 0, True), (1, 9, False), (1, 10, True), (2, 39, False), (2, 40, True), (9, 299, False),
     (9, 300, True), (9, 3600, True)],
)  # fmt: skip
def test_starts_back_off_and_the_count_is_forgotten(
    attempts: int, ago: float, starts: bool
) -> None:
    record = GuestRecord(attempts, NOW - ago)
    domain = a_domain(GUEST, DomainState.SHUTOFF, StateReason.CRASHED, record=record)
    made = planned(seen=observed(domain))
    assert ("StartDomain" in names(made)) is starts
    if not starts:
        assert made.printable is Printable.CRASH_LOOP
        assert made.recheck_at is not None


def test_after_an_hour_the_count_begins_at_one_again() -> None:
    record = GuestRecord(9, NOW - 3600)
    domain = a_domain(GUEST, DomainState.SHUTOFF, StateReason.CRASHED, record=record)
    start = planned(seen=observed(domain)).steps[0]
    assert dict(start.noted)["start_attempts"] == 1  # type: ignore[union-attr]


def test_a_finished_guest_is_not_rerun_when_libvirt_has_forgotten_why_it_is_off() -> None:
    guest = a_guest(services=(WEB,), runStrategy="RerunOnFailure")
    finished = GuestRecord(finished=True)
    off = a_domain(guest, DomainState.SHUTOFF, StateReason.OTHER, record=finished)
    assert planned(guest, observed(off)).steps == ()
    again = planned(guest, running(guest, domain=a_domain(guest, record=finished)))
    assert names(again) == ["UpdateRecord"]


def test_an_orderly_shutdown_is_no_failed_start_unless_it_comes_at_once() -> None:
    def off(ago: float):  # type: ignore[no-untyped-def]
        record = GuestRecord(4, NOW - ago)
        shut = a_domain(GUEST, DomainState.SHUTOFF, StateReason.SHUTDOWN, record=record)
        return planned(seen=observed(shut))

    assert names(off(61)) == ["StartDomain"]
    assert dict(off(61).steps[0].noted)["start_attempts"] == 4  # type: ignore[union-attr]
    assert off(59).printable is Printable.CRASH_LOOP


def test_a_clock_set_back_keeps_no_guest_down() -> None:
    record = GuestRecord(5, NOW + 10_000_000)
    dead = a_domain(GUEST, DomainState.SHUTOFF, StateReason.CRASHED, record=record)
    assert "StartDomain" in names(planned(seen=observed(dead)))


@pytest.mark.parametrize(("asked", "run"), [(NOW - 130, 0), (NOW + 500, 1)])
def test_a_request_of_another_run_or_another_clock_pulls_no_plug(asked: float, run: int) -> None:
    guest = a_guest(runStrategy="Halted")
    record = GuestRecord(shutdown_requested=asked, stop_for="halt", stop_run=run)
    made = planned(guest, observed(a_domain(guest, record=record)))
    assert names(made) == ["UpdateRecord", "ShutdownDomain"]


def test_a_guest_that_runs_again_forgets_an_earlier_wish_to_halt() -> None:
    known = GuestRecord(shutdown_requested=NOW - 50, stop_for="halt", stop_run=0)
    made = planned(seen=running(domain=a_domain(GUEST, record=known)))
    (record,) = made.steps
    assert dict(record.changes) == {  # type: ignore[union-attr]
        "stop_for": "",
        "shutdown_requested": None,
        "stop_run": None,
        "stop_wanted": None,
        "stop_key": "",
    }


def test_halting_asks_waits_and_then_pulls_the_plug() -> None:
    guest = a_guest(runStrategy="Halted", shutdownTimeout="60s")

    def asked(ago: float) -> Plan:
        record = GuestRecord(shutdown_requested=NOW - ago, stop_for="halt", stop_run=1)
        seen = observed(a_domain(guest, record=record))
        assert seen.domain is not None
        assert seen.domain.ownership is not None
        record = seen.domain.ownership.record
        return plan(guest, seen, record, NOW, replace(POLICY, daemon_started=NOW - 500))

    assert names(planned(guest, observed(a_domain(guest)))) == ["UpdateRecord", "ShutdownDomain"]
    assert asked(30).steps == ()
    assert names(asked(61)) == ["DestroyDomain"]


# --- running --------------------------------------------------------------------------------------


def running(guest=GUEST, **fields):  # type: ignore[no-untyped-def]
    domain = fields.pop("domain", None) or a_domain(guest)
    return observed(domain, **{"inside": an_inside(guest), **fields})


def test_a_converged_guest_has_nothing_to_do() -> None:
    made = planned(seen=running())
    assert (made.steps, made.changes) == ((), ())
    assert (made.sync, made.health, made.printable) == (
        Sync.SYNCED,
        Health.HEALTHY,
        Printable.HEALTHY,
    )
    assert reason(made, "Ready") == "True/Ready"
    assert made.recheck_at == NOW - 1 + GUEST.spec.drift_interval


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"hostname": "other"}, "hostname"),
        ({"missing_ssh_keys": 1}, "sshAuthorizedKeysFrom"),
        ({"packages": {"nginx-light": None}}, "services[web].packages[nginx-light]"),
        ({"files": {"/etc/app.conf": None}}, "services[web].files[/etc/app.conf]"),
        ({"units": {"nginx.service": None}}, "services[web].unit[nginx.service]"),
    ],
)
def test_drift_inside_is_named_and_applied(fields: dict, path: str) -> None:  # type: ignore[type-arg]
    inside = an_inside(GUEST, **fields)
    made = planned(seen=running(inside=inside))
    assert names(made) == ["ApplyInside"]
    assert path in [change.path for change in made.changes]
    assert made.sync is Sync.OUT_OF_SYNC


def test_a_file_with_another_mode_is_drift() -> None:
    inside = an_inside(GUEST)
    files = {path: replace(fact, mode=0o600) for path, fact in inside.files.items()}
    made = planned(seen=running(inside=replace(inside, files=files)))
    (change,) = made.changes
    assert (change.old, change.new) == ("root:root 0600", "root:root 0644")


def test_changed_content_is_applied_without_another_look() -> None:
    changed = a_guest(services=(a_service(files=(a_file(content=b"new"),)),))
    made = planned(changed, observed(a_domain(GUEST), inside=an_inside(GUEST)))
    assert names(made) == ["ApplyInside"]


def test_a_new_file_needs_a_look_first() -> None:
    more = a_guest(services=(a_service(files=(a_file(), a_file("/etc/more"))),))
    made = planned(more, observed(a_domain(GUEST), inside=an_inside(GUEST)))
    assert names(made) == ["LookInside"]


def test_one_long_action_at_a_time() -> None:
    made = planned(seen=running(inside=None, operation=Operation("ApplyInside", NOW - 5)))
    assert made.steps == ()


@pytest.mark.parametrize(("ago", "steps"), [(100, []), (301, ["LookInside"])])
def test_drift_is_looked_for_each_interval(ago: float, steps: list[str]) -> None:
    made = planned(
        seen=running(
            inside=an_inside(GUEST, looked_at=NOW - ago),
            domain=a_domain(GUEST, started_at=NOW - 9999),
        )
    )
    assert names(made) == steps


def test_a_look_from_before_the_boot_says_nothing() -> None:
    made = planned(seen=running(inside=an_inside(GUEST, looked_at=NOW - 200)))
    assert names(made) == ["LookInside"]


def test_a_probe_that_began_to_fail_is_a_reason_to_look() -> None:
    guest = a_guest(services=(a_service(probes=(a_probe(),)),))
    view = ProbeView("web", "http", ProbeStatus.FAILURE, "refused", NOW)
    made = planned(guest, running(guest, probes={("web", "http"): view}))
    assert names(made) == ["LookInside"]
    assert reason(made, "ServicesReady") == "False/ProbeFailed"
    assert made.health is Health.DEGRADED


@pytest.mark.parametrize(
    ("status", "told", "health"),
    [
        (ProbeStatus.SUCCESS, "True/ServicesReady", Health.HEALTHY),
        (ProbeStatus.STARTING, "False/Starting", Health.PROGRESSING),
        (ProbeStatus.UNKNOWN, "Unknown/ProbeUnknown", Health.PROGRESSING),
        (ProbeStatus.FAILURE, "False/ProbeFailed", Health.DEGRADED),
    ],
)
def test_services_are_as_ready_as_their_probes(
    status: ProbeStatus, told: str, health: Health
) -> None:
    guest = a_guest(services=(a_service(probes=(a_probe(),)),))
    view = ProbeView("web", "http", status, "said", NOW - 50)
    made = planned(guest, running(guest, probes={("web", "http"): view}))
    assert reason(made, "ServicesReady") == told
    assert made.health is health


def test_the_agent_gone_while_probes_succeed_is_a_condition_and_nothing_more() -> None:
    guest = a_guest(services=(a_service(probes=(a_probe(),)),))
    view = ProbeView("web", "http", ProbeStatus.SUCCESS, "200", NOW)
    domain = a_domain(guest, agent=False, started_at=NOW - 5000)
    made = planned(guest, observed(domain, probes={("web", "http"): view}))
    assert made.steps == ()
    assert reason(made, "AgentConnected") == "False/AgentNotConnected"
    assert made.health is Health.HEALTHY


def test_a_new_guest_waits_for_its_agent_then_degrades() -> None:
    young = a_domain(GUEST, agent=False, applied=False)
    made = planned(seen=observed(young))
    assert reason(made, "ServicesReady") == "False/WaitingForAgent"
    assert made.health is Health.PROGRESSING
    old = a_domain(GUEST, agent=False, applied=False, started_at=NOW - 700)
    assert planned(seen=observed(old)).health is Health.DEGRADED


def test_the_spec_is_recorded_once_it_is_applied_whole() -> None:
    made = planned(seen=running(domain=a_domain(GUEST, applied=False)))
    assert names(made) == ["RecordApplied"]


def test_a_failed_apply_waits_for_its_next_try_unless_the_spec_changed() -> None:
    failure = Failure("ApplyInside", "ApplyFailed", "no", NOW - 1, 1, NOW + 9, GUEST.digest)
    inside = an_inside(GUEST, hostname="x")
    held = planned(seen=running(inside=inside, failure=failure))
    assert held.steps == ()
    assert held.recheck_at == NOW + 9
    other = replace(failure, digest="another")
    assert names(planned(seen=running(inside=inside, failure=other))) == ["ApplyInside"]


# --- hardware -------------------------------------------------------------------------------------


def test_hardware_changes_are_defined_at_once_and_wait_for_a_cold_boot() -> None:
    bigger = a_guest(services=(WEB,), memory={"size": "1Gi"})
    made = planned(bigger, running(domain=a_domain(GUEST)))
    assert names(made) == ["DefineDomain"]
    assert {change.path for change in made.changes} >= {"memory.size"}
    assert reason(made, "RestartRequired").startswith("True")


def test_once_defined_only_the_restart_is_left() -> None:
    bigger = a_guest(services=(WEB,), memory={"size": "1Gi"})
    domain = replace(a_domain(bigger), live=a_domain(GUEST).live)
    made = planned(bigger, running(bigger, domain=domain))
    assert made.steps == ()
    assert made.printable is Printable.RESTART_REQUIRED
    assert reason(made, "Synced") == "False/RestartRequired"


def test_virsh_edits_of_what_we_own_are_drift() -> None:
    domain = a_domain(GUEST)
    edited = replace(domain, config=replace(domain.config, vcpus=7))
    made = planned(seen=running(domain=edited))
    assert names(made) == ["DefineDomain"]
    assert [(c.path, c.old, c.new) for c in made.changes] == [("cpu.vcpus", "7", "1")]


def test_a_new_data_disk_is_made_before_it_is_defined() -> None:
    more = a_guest(services=(WEB,), disks=[{"name": "data", "size": "1Gi"}])
    made = planned(more, running(domain=a_domain(GUEST)))
    assert names(made) == ["CreateVolume", "DefineDomain", "PlugDevice"]


def test_another_image_waits_until_it_is_there_and_says_so() -> None:
    other = a_guest(services=(WEB,), image=an_image("debian13"))
    made = planned(other, running(domain=a_domain(GUEST)))
    assert made.steps == ()
    assert reason(made, "Synced") == "False/ImageOutdated"
    assert [(c.path, c.change) for c in made.changes] == [("image", "replace")]
    assert made.health is Health.HEALTHY


def a_volume(disk: str, capacity: int) -> dict[tuple[str, str], VolumeView]:
    (config,) = (one for one in a_domain(GUEST).config.disks if one.alias == f"disk-{disk}")
    name = config.volume or ""
    return {
        ("default", name): VolumeView("default", name, f"/pool/{name}", "qcow2", capacity, 0, None)
    }


def test_a_disk_grows_and_never_shrinks() -> None:
    sized = a_guest(services=(WEB,), systemDisk={"size": "9Gi"})
    small = planned(sized, running(domain=a_domain(GUEST), volumes=a_volume("system", 2**30)))
    assert names(small) == ["GrowDisk"]
    assert [(c.path, c.old, c.new) for c in small.changes] == [("systemDisk.size", "1Gi", "9Gi")]
    large = planned(sized, running(domain=a_domain(GUEST), volumes=a_volume("system", 10 * 2**30)))
    assert "GrowDisk" not in names(large)
    assert reason(large, "Synced") == "False/ChangeRefused"
    assert "write 10Gi" in large.sentence


def test_other_kernel_arguments_wait_for_a_cold_boot() -> None:
    def guest(args: str):  # type: ignore[no-untyped-def]
        return a_guest(services=(WEB,), image=an_image(boot={"kernel": "k", "args": args}))

    domain = a_domain(guest("quiet"))
    boot = BootConfig("/pool/k", None, "quiet")
    config = replace(domain.config, boot=boot)
    made = planned(guest("debug"), running(domain=replace(domain, config=config, live=config)))
    assert names(made) == ["DefineDomain"]
    assert [(c.path, c.old, c.new, c.change) for c in made.changes] == [
        ("image.boot.args", "quiet", "debug", "restart")
    ]


def test_memory_beyond_the_maximum_needs_a_cold_boot_and_below_it_none() -> None:
    grown = a_guest(services=(WEB,), memory={"size": "1Gi"})
    roomy = a_guest(services=(WEB,), memory={"size": "512Mi", "max": "2Gi"})
    more = a_guest(services=(WEB,), memory={"size": "1Gi", "max": "2Gi"})
    beyond = planned(grown, running(domain=a_domain(GUEST))).changes
    within = planned(more, running(roomy, domain=a_domain(roomy))).changes
    assert [(c.path, c.change) for c in beyond] == [("memory.size", "restart")]
    assert [(c.path, c.change) for c in within] == [("memory.size", "live")]


def test_until_its_balloon_is_there_a_guest_has_all_of_its_maximum_and_that_is_no_drift() -> None:
    roomy = a_guest(services=(WEB,), memory={"size": "512Mi", "max": "2Gi"})
    domain = a_domain(roomy)
    full = replace(domain, live=replace(domain.config, memory=domain.config.max_memory))
    made = planned(roomy, running(roomy, domain=replace(full, agent_connected=False)))
    assert (made.changes, reason(made, "RestartRequired")) == ((), "")
    assert names(planned(roomy, running(roomy, domain=full))) == ["SetMemory"]


def test_a_guest_moved_to_another_host_is_refused_not_made_twice() -> None:
    made = planned(seen=observed(image=a_ready_image(), elsewhere="other"))
    assert made.steps == ()
    assert reason(made, "Synced") == "False/HostChanged"


@pytest.mark.parametrize("spec", ["not json", "[]", "{}", '{"spec": 1, "image": {}}'])
def test_a_damaged_record_of_the_last_spec_is_written_anew(spec: str) -> None:
    domain = a_domain(GUEST)
    assert domain.ownership is not None
    damaged = replace(domain, ownership=replace(domain.ownership, spec=spec, digest="other"))
    assert names(planned(seen=running(domain=damaged))) == ["RecordApplied"]


@pytest.mark.parametrize(
    ("uri", "forward", "address"),
    [
        ("qemu:///system", "127.0.0.1:18080:80", "127.0.0.1"),
        ("qemu:///system", "0.0.0.0:18080:80", "127.0.0.1"),
        ("qemu+ssh://far/system", "0.0.0.0:18080:80", "far"),
        ("qemu+ssh://far/system", "127.0.0.1:18080:80", None),
    ],
)
def test_a_probe_through_a_forward_knocks_on_the_host_that_runs_the_guest(
    uri: str, forward: str, address: str | None
) -> None:
    nic = {"name": "lan", "user": {"forwards": [forward]}}
    guest = a_guest(services=(a_service(probes=(a_probe(),)),), interfaces=[nic])
    seen = replace(running(guest), host=a_host(uri=uri))
    (target,) = planned(guest, seen).probes
    assert target.address == address


def test_nothing_of_another_image_is_taken_over_before_its_disk_is() -> None:
    def guest(name: str, args: str):  # type: ignore[no-untyped-def]
        return a_guest(services=(WEB,), image=an_image(name, boot={"kernel": "k", "args": args}))

    domain = a_domain(guest("one", "quiet"))
    config = replace(domain.config, boot=BootConfig("/pool/k", None, "quiet"))
    seen = running(domain=replace(domain, config=config, live=config))
    made = planned(guest("two", "debug"), seen)
    assert made.steps == ()
    assert reason(made, "Synced") == "False/ImageOutdated"
    assert reason(made, "RestartRequired") == ""


def test_a_running_domain_whose_definition_was_taken_away_gets_it_back() -> None:
    transient = replace(a_domain(GUEST), persistent=False)
    made = planned(seen=running(domain=transient))
    assert names(made) == ["DefineDomain"]
    assert made.sync is Sync.OUT_OF_SYNC


def test_a_guest_that_another_silent_host_may_have_is_not_made() -> None:
    made = planned(seen=observed(image=a_ready_image(), unseen_host="other"))
    assert made.steps == ()
    assert reason(made, "Synced") == "False/HostUnseen"


def test_an_address_with_a_password_is_written_down_nowhere() -> None:
    source = {"url": "https://me:secret@example.org/x.qcow2", "sha256": "0" * 64}
    guest = a_guest(services=(WEB,), image=an_image(source=source))
    made = planned(guest, running(guest, domain=a_domain(guest, applied=False)))
    assert "secret" not in repr(made)


def test_a_failed_definition_waits_and_what_follows_waits_with_it() -> None:
    bigger = a_guest(services=(WEB,), memory={"size": "1Gi"})
    failure = Failure("DefineDomain", "Refused", "xml error", NOW - 1, 1, NOW + 9, bigger.digest)
    made = planned(bigger, running(domain=a_domain(GUEST), failure=failure))
    assert made.steps == ()
    assert "xml error" in made.sentence
    assert made.recheck_at is not None
    assert made.recheck_at <= NOW + 9


# --- cloud-init -----------------------------------------------------------------------------------


def seeded(status: str):  # type: ignore[no-untyped-def]
    guest = a_guest(image=an_image(cloudInit=True))
    domain = a_domain(guest, applied=False)
    return planned(guest, observed(domain, inside=an_inside(guest, cloud_init=status)))


def test_nothing_is_applied_while_cloud_init_is_at_work() -> None:
    made = seeded("running")
    assert made.steps == ()
    assert reason(made, "Provisioned") == "False/Personalising"


def test_a_used_seed_is_ejected_and_deleted() -> None:
    assert names(seeded("done")) == ["EjectSeed", "DeleteSeed"]


def test_a_failed_cloud_init_is_told_and_keeps_its_seed() -> None:
    made = seeded("error")
    assert "EjectSeed" not in names(made)
    assert reason(made, "Provisioned") == "False/CloudInitFailed"
