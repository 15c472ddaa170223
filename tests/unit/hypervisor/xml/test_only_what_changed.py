"""Redefinition of domains in the shapes of the field: defined, adopted, one field changed.

Only what belongs to that field differs then, whatever else the domain has; and what was asked for
is read back.
"""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from controller.hypervisor.domains.adoption import marked
from controller.hypervisor.xml.render import render
from controller.hypervisor.xml.update import update
from controller.observed.adopted_devices import alias_name
from controller.observed.domain_xml import parse_domain
from controller.observed.guest import Observed
from controller.observed.locating import located, located_view
from controller.planning.adoption.adopt import plan_adoption
from controller.planning.adoption.export import export
from controller.planning.compare.changes import config_changes
from controller.planning.steps import DefineDomain
from tests.factories import NOW
from tests.field_adopted import adopted, belongs, changes
from tests.field_corpus import (
    BY_KEY,
    FieldDomain,
    each_field_domain,
    host_with_pools,
    renamed,
    view_of,
    volumes_of,
)
from tests.trees import differences
from tests.unit.planning.adoption.test_adopting import POLICY
from tests.unit.planning.adoption.test_exporting import loaded


def _without_new_aliases(before: str, after: str) -> str:
    """``after`` without the aliases of the devices that had none."""
    old, new = ET.fromstring(before), ET.fromstring(after)
    for kind in ("disk", "interface"):
        pairs = zip(old.iterfind(f"devices/{kind}"), new.iterfind(f"devices/{kind}"), strict=True)
        for had, has in pairs:
            alias = has.find("alias")
            if alias is not None and not alias_name(had):
                has.remove(alias)
    return ET.tostring(new, encoding="unicode")


@each_field_domain
def test_adopting_adds_aliases_where_there_were_none_and_notes(field: FieldDomain) -> None:
    after = _without_new_aliases(field.xml, adopted(field).xml)
    places = differences(field.xml, after)
    assert [place for place in places if not belongs(place, ("metadata",))] == []


@each_field_domain
def test_a_definition_that_is_as_wanted_stays_as_it_is(field: FieldDomain) -> None:
    one = adopted(field)
    assert differences(one.xml, one.redefined(one.config)) == set()


@each_field_domain
def test_only_what_belongs_to_a_changed_field_differs(field: FieldDomain) -> None:
    one = adopted(field)
    pools = host_with_pools(field).pools
    too_much: dict[str, list[str]] = {}
    not_done: dict[str, list[str]] = {}
    for name, (wanted, fields) in changes(one):
        after = one.redefined(wanted)
        places = differences(one.xml, after)
        if found := sorted(place for place in places if not belongs(place, fields)):
            too_much[name] = found
        has = located(parse_domain(after).config, pools)
        if left := [change.path for change in config_changes(has, wanted)]:
            not_done[name] = left
        if not places and config_changes(one.config, wanted):
            not_done[name] = ["everything"]
    assert (too_much, not_done) == ({}, {})


def test_what_names_a_device_by_its_alias_names_it_still() -> None:
    """``qemu:override`` and ``-set device.NAME``; else the domain would not start any more."""
    checked = 0
    for field in BY_KEY.values():
        if "<qemu:override" not in field.xml:
            continue
        one = adopted(field)
        after = one.redefined(parse_domain(one.xml).config)
        root = ET.fromstring(after)
        there = {alias.get("name", "") for alias in root.iterfind("devices/*/alias")}
        named = {
            device.get("alias", "")
            for device in root.iterfind(
                "{http://libvirt.org/schemas/domain/qemu/1.0}override/"
                "{http://libvirt.org/schemas/domain/qemu/1.0}device"
            )
        }
        named = {name for name in named if name.startswith("ua-")}
        assert named <= there, field.key
        checked += len(named)
    assert checked > 0


_TOLD = {
    "title": ("title",),
    "domain.agentChannel": ("devices/channel", "devices/channel[1]", "devices/channel[2]"),
    "domain.on_poweroff": ("on_poweroff",),
    "domain.on_reboot": ("on_reboot",),
    "domain.on_crash": ("on_crash",),
    "image.boot.args": ("os/cmdline",),
}
"""What adopting may change by itself, and says so, with the places of each."""


def test_a_documents_other_title_changes_the_title_and_what_adopting_told(tmp_path: Path) -> None:
    """The whole way: exported, loaded, matched, planned, defined."""
    done, too_much = 0, {}
    for field in BY_KEY.values():
        host = host_with_pools(field)
        view = located_view(view_of(field), host.pools)
        volumes = volumes_of(view.config, host)
        try:
            text = export(view, host, "debian12", volumes).text
            guest = loaded(tmp_path, text, boot=view.config.boot is not None)
        except (ValueError, AssertionError):
            continue  # what cannot be written as a document is not adopted
        view = renamed(view, guest.name)  # as the document's comments tell to
        spec = guest.spec.model_copy(update={"title": "another"})
        observed = Observed(host, view, volumes=volumes)
        made = plan_adoption(replace(guest, spec=spec), observed, NOW, POLICY)
        if made.step is None or made.after is None:
            continue
        (define,) = (step for step in made.after.steps if isinstance(step, DefineDomain))
        before = marked(field.xml, made.step.ownership, dict(made.step.aliases))
        after = update(before, render(define.config, made.step.ownership))
        told = [change.path for change in made.changes]
        if any(path not in _TOLD for path in told):
            continue
        done += 1
        allowed = tuple(place for path in told for place in _TOLD[path])
        places = differences(before, after)
        if found := [place for place in places if not belongs(place, allowed)]:
            too_much[field.key] = found
    assert too_much == {}
    assert done > 90
