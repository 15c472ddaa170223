"""Adoptions of a made-up world: the real plan of a foreign domain, and nothing done."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from controller.observed.domain import (
    DiskConfig,
    DomainConfig,
    DomainState,
    DomainView,
    StateReason,
)
from controller.observed.guest import Observed
from controller.observed.locating import located_view
from controller.planning.adoption.adopt import AdoptionPlan, plan_adoption
from tests import factories as make

if TYPE_CHECKING:
    from tests.unit.web.support import World

UUID = "5e0f6a3c-0000-4000-8000-000000000001"
CONFIG = DomainConfig(
    name="db1",
    uuid=UUID,
    accelerator="tcg",
    vcpus=1,
    max_vcpus=4,
    memory=2**29,
    max_memory=2**29,
    firmware="bios",
    boot=None,
    disks=(DiskConfig("vda", "", "/pool/db1.img", format="raw", target="vda"),),
    nics=(),
    title="old",
)


class FakeAdoptions:
    """Of db1, whose name a foreign domain has."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.config = CONFIG
        self.view: dict[str, Any] = {}
        self.said: dict[str, Any] = {}
        """What its document says beside."""
        self.adopted: list[tuple[str, str]] = []
        self.error: Exception | None = None

    def preview(self, name: str) -> AdoptionPlan:
        if self.error is not None:
            raise self.error
        domain = DomainView(
            name=name,
            uuid=UUID,
            state=DomainState.RUNNING,
            reason=StateReason.OTHER,
            ownership=None,
            config=self.config,
            live=self.config,
            run=1,
        )
        found = self._world.snapshot.guests[name]
        guest = replace(found, spec=found.spec.model_copy(update=self.said))
        host = make.a_host()
        seen = Observed(host, located_view(replace(domain, **self.view), host.pools))
        return plan_adoption(guest, seen, self._world.now, make.POLICY)

    def adopt(self, name: str, digest: str) -> AdoptionPlan:
        made = self.preview(name)
        self.adopted.append((name, digest))
        return made
