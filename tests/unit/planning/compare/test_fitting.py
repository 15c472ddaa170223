"""What the rest of a definition does not allow is told before it is tried, and tried never."""

from dataclasses import replace
from typing import Any

import pytest

from controller.desired.schema.fields import Change
from controller.observed.domain import DomainState, DomainView
from controller.observed.surroundings import Surroundings
from controller.planning.compare.fitting import fitted
from controller.planning.planner import plan
from controller.planning.steps import DefineDomain, SetMemory, step_name
from controller.planning.wanted.domain import wanted_config
from tests.factories import NOW, POLICY, a_domain, a_guest, a_host, a_ready_image, observed

MAC = "52:54:00:aa:00:01"
BEFORE: dict[str, Any] = {
    "cpu": {"vcpus": 4},
    "memory": {"size": "2Gi"},
    "disks": [{"name": "data", "size": "1Gi", "cache": "none"}],
    "interfaces": [{"name": "lan", "network": "default", "mac": MAC}],
}


def domain_of(around: Surroundings, *, running: bool = True, **fields: Any) -> DomainView:
    made = a_domain(
        a_guest(**(BEFORE | fields)), DomainState.RUNNING if running else DomainState.SHUTOFF
    )
    config = replace(made.config, around=around)
    return replace(made, config=config, live=config if running else None)


def planned(domain: DomainView, **fields: Any):  # type: ignore[no-untyped-def]
    wanted = a_guest(**(BEFORE | fields))
    return plan(wanted, observed(domain, image=a_ready_image()), domain.record, NOW, POLICY)


def synced(made) -> tuple[str, str]:  # type: ignore[no-untyped-def]
    found = next(one for one in made.conditions if one.type == "Synced")
    return found.reason, found.message


E1000E = [{"name": "lan", "network": "default", "mac": MAC, "model": "e1000e"}]
WRITEBACK = [{"name": "data", "size": "1Gi", "cache": "writeback"}]
DEFAULT = [{"name": "data", "size": "1Gi"}]


@pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
@pytest.mark.parametrize(
    ("around", "change", "path", "told"),
    [
        (
            Surroundings(cell_memory=True, cell_vcpus=4),
            {"memory": {"size": "4Gi"}},
            "memory.size",
            "NUMA cells say how much memory it has",
        ),
        (
            Surroundings(cell_memory=True, cell_vcpus=4),
            {"memory": {"size": "2Gi", "max": "4Gi"}},
            "memory.max",
            "virsh edit web1",
        ),
        (
            Surroundings(cell_memory=True, cell_vcpus=4),
            {"memory": {"size": "1Gi"}},
            "memory.size",
            "or write 2Gi",
        ),
        (
            Surroundings(cell_vcpus=4),
            {"cpu": {"vcpus": 2}},
            "cpu.vcpus",
            "hold 4 vCPUs",
        ),
        (
            Surroundings(balloon=False),
            {"memory": {"size": "1Gi", "max": "2Gi"}},
            "memory.size",
            "no memory balloon",
        ),
        (Surroundings(acpi=False), {"firmware": "efi"}, "firmware", "UEFI needs ACPI"),
        (
            Surroundings(native_io=frozenset({"vdb"})),
            {"disks": WRITEBACK},
            "disks[data].cache",
            "io='native' needs none or directsync",
        ),
        (
            Surroundings(native_io=frozenset({"vdb"})),
            {"disks": DEFAULT},
            "disks[data].cache",
            "io='native' needs none or directsync",
        ),
        (
            Surroundings(virtio_only=frozenset({MAC})),
            {"interfaces": E1000E},
            "interfaces[lan].model",
            "only virtio has",
        ),
    ],
)
def test_what_a_definition_does_not_allow_is_refused_with_its_reason(
    around: Surroundings, change: dict[str, Any], path: str, told: str, running: bool
) -> None:
    domain = domain_of(around, running=running)
    made = planned(domain, **change)
    names = {step_name(step) for step in made.steps}
    assert not names & {"DefineDomain", "SetMemory", "SetVcpus", "UpdateDevice", "UnplugDevice"}
    reason, message = synced(made)
    assert reason == "ChangeRefused"
    assert message.startswith(f"{path}: ")
    assert told in message
    assert [one.change for one in made.changes if one.path == path] == [Change.IMMUTABLE]


@pytest.mark.parametrize(
    ("around", "change"),
    [
        (Surroundings(cell_vcpus=4, cell_memory=True), {"cpu": {"vcpus": 8}}),
        (Surroundings(cell_vcpus=4, cell_memory=True), {"cpu": {"vcpus": 2, "max": 4}}),
        (
            Surroundings(cell_memory=True, cell_vcpus=4),
            {"memory": {"size": "1Gi", "max": "2Gi"}},
        ),
        (Surroundings(), {"firmware": "efi"}),
        (
            Surroundings(native_io=frozenset({"vdb"})),
            {"disks": [{"name": "data", "size": "1Gi", "cache": "directsync"}]},
        ),
        (Surroundings(native_io=frozenset({"vda"})), {"disks": WRITEBACK}),
        (Surroundings(), {"interfaces": E1000E}),
    ],
)
def test_what_it_allows_is_done(around: Surroundings, change: dict[str, Any]) -> None:
    made = planned(domain_of(around), **change)
    assert any(isinstance(step, DefineDomain) for step in made.steps)
    assert synced(made)[0] != "ChangeRefused"


def test_the_rest_of_a_document_is_carried_out() -> None:
    domain = domain_of(Surroundings(cell_memory=True, cell_vcpus=4))
    made = planned(domain, memory={"size": "4Gi"}, title="Web")
    (definition,) = (step for step in made.steps if isinstance(step, DefineDomain))
    assert definition.config.title == "Web"
    assert definition.config.max_memory == domain.config.max_memory


def test_memory_without_a_balloon_waits_for_a_cold_boot() -> None:
    """It is defined at once; the running guest keeps what it has."""
    made = planned(domain_of(Surroundings(balloon=False)), memory={"size": "1Gi"})
    assert not any(isinstance(step, SetMemory) for step in made.steps)
    assert any(isinstance(step, DefineDomain) for step in made.steps)
    required = next(one for one in made.conditions if one.type == "RestartRequired")
    assert "memory.size" in required.message


def test_what_a_guest_without_balloon_has_beyond_its_document_is_no_endless_drift() -> None:
    """Its definition says 1 GiB of 2, and it runs with 2, as such a guest does."""
    around = Surroundings(balloon=False)
    domain = domain_of(around, memory={"size": "1Gi", "max": "2Gi"})
    full = replace(domain.config, memory=domain.config.max_memory)
    made = planned(replace(domain, live=full), memory={"size": "1Gi", "max": "2Gi"})
    assert {step_name(step) for step in made.steps} == {"LookInside"}
    assert synced(made)[0] == "ChangeRefused"
    assert not any(one.type == "RestartRequired" for one in made.conditions)


def test_a_definition_of_our_own_is_never_unfit() -> None:
    domain = a_domain(a_guest(**BEFORE))
    wanted = replace(domain.config, vcpus=1, max_vcpus=1, memory=2**28, max_memory=2**29)
    assert fitted(domain, wanted) == (wanted, ())


def test_a_new_drive_takes_no_target_that_the_definition_gave_away() -> None:
    """It runs with its drive still, and somebody defined another device at that target."""
    tools = [{"name": "tools", "volume": "tools.iso"}]
    domain = a_domain(a_guest(cdroms=tools))
    (drive,) = domain.config.disks[1:]
    taken = frozenset({"vda", drive.target})
    gone = replace(domain.config, disks=domain.config.disks[:1], taken=taken)
    made = wanted_config(
        a_guest(cdroms=tools), a_host(), replace(domain, config=gone), None, POLICY.seed
    )
    (again,) = made.disks[1:]
    assert again.target not in gone.taken
    kept = replace(domain.config, taken=taken)
    same = wanted_config(
        a_guest(cdroms=tools), a_host(), replace(domain, config=kept), None, POLICY.seed
    )
    assert same.disks[1:] == (drive,)
