"""Every field that libvirt's test driver lacks, changed on a real guest and changed back.

One micro guest serves all rows of the table (``tests/field_table.py``) that are carried out on real
QEMU: first what a running guest takes, then what somebody edits behind the daemon's back, then what
takes a cold boot, each staged alone and all applied by one, then another system disk.
"""

import secrets
from collections.abc import Iterator
from dataclasses import fields

import pytest

from controller.desired.schema.fields import Change
from controller.observed.domain import DiskConfig, DomainConfig, IoTune, NicConfig
from tests.e2e.field_drifts import NOT_BY_HAND, cold_drifts, drifts, never_booted
from tests.e2e.field_site import RealSite, a_real_site
from tests.e2e.system_libvirtd import AVAILABLE
from tests.field_checks import (
    assert_replaced,
    assert_restarted,
    change,
    check_row,
    converge,
    does_not_show,
    facts,
    proposed,
    restart,
    restored,
    settled,
    shows,
    staged,
)
from tests.field_rows import OTHER_PORT, On, Row, Takes, changed
from tests.field_table import ROWS
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not AVAILABLE, reason="only a privileged libvirtd plugs in interfaces"),
]
HERE = [row for row in ROWS if On.QEMU in row.on]
LIVE = [row for row in HERE if row.takes is Takes.LIVE]
THERE_AND_BACK = [row for row in LIVE if row.back not in (Takes.RESTART, Takes.IMMUTABLE)]
GROWN = [row for row in LIVE if row.back is Takes.IMMUTABLE]
COLD = [row for row in HERE if row.takes is Takes.RESTART]
# UEFI needs more memory than a micro guest has; that it is defined and waits for a boot is seen.
ON_PAPER_ONLY = [row for row in COLD if row.path == "Guest.spec.firmware"]
REPLACED = [row for row in HERE if row.takes is Takes.REPLACE]


@pytest.fixture(scope="module")
def site(prefix: str) -> Iterator[RealSite]:
    with a_real_site(f"{prefix}row", secrets.token_hex(2)) as made:
        converge(made, made.base)
        yield made


@pytest.mark.parametrize("row", THERE_AND_BACK, ids=[row.id for row in THERE_AND_BACK])
def test_a_running_guest_takes_a_change_and_gives_it_back(site: RealSite, row: Row) -> None:
    check_row(site, site.base, row)


# --- What somebody else changes -------------------------------------------------------------------

PLACEHOLDERS = drifts("", "")
ON_PAPER = [*PLACEHOLDERS, *never_booted(), *cold_drifts("")]


def drift_id(number: int) -> str:
    drift = ON_PAPER[number]
    return " ".join((*drift.owns, drift.id)).strip()


def test_every_owned_field_is_changed_by_hand() -> None:
    """All by which two definitions are compared; what else is read is not kept as it is."""
    owned = {
        f"{kind.__name__}.{field.name}"
        for kind in (DomainConfig, DiskConfig, NicConfig, IoTune)
        for field in fields(kind)
        if field.compare
    }
    changed_by_hand = {name for drift in ON_PAPER for name in drift.owns}
    missing = {name for name in owned if name.partition(".")[2] not in changed_by_hand}
    assert missing == set(NOT_BY_HAND)


@pytest.mark.parametrize("number", range(len(ON_PAPER)), ids=drift_id)
def test_what_is_changed_by_hand_is_found_and_put_right_without_a_boot(
    site: RealSite, number: int
) -> None:
    words = site.words
    edits = drifts(words["br-two"], words["net-two"])
    drift = [*edits, *never_booted(), *cold_drifts(words[OTHER_PORT])][number]
    was, had = facts(site), site.domain()
    site.house.knowledge.begins_anew(site.name)  # each is another day's
    drift.by_hand(site.by_hand())
    # A balloon moves, and a device goes, when the guest has heard of it.
    told = wait_until(lambda: drift.told in (told := site.told()) and told, 10, "it is found")
    assert told[drift.told] is Change.LIVE, told
    settled(site, site.settle())
    assert facts(site) == was
    restored(had, site.domain())


def test_what_it_was_booted_with_by_hand_takes_another_boot(site: RealSite) -> None:
    had, began = site.domain(), facts(site)
    # QEMU is not given both; and what restarts at each power-off takes the whole shutdownTimeout.
    edits = cold_drifts(site.words[OTHER_PORT])
    edits = [drift for drift in edits if "on_poweroff" not in drift.owns]
    for drift in edits:
        drift.by_hand(site.by_hand())
    site.by_hand().destroy()
    site.by_hand().create()
    found = site.settle()
    assert facts(site).run == (began.run or 0) + 1
    assert site.domain().config == had.config
    told = {change.path: change.change for change in found.changes}
    assert told == {drift.told: Change.RESTART for drift in edits}
    was = facts(site)
    restart(site)
    settled(site, site.settle())
    assert_restarted(was, facts(site))
    restored(had, site.domain())


# --- What takes a cold boot, or another disk ------------------------------------------------------


def test_what_takes_a_cold_boot_is_staged_each_alone_and_all_is_applied_by_one(
    site: RealSite,
) -> None:
    """And the vCPU that a running guest takes, and does not give back."""
    had, was = site.domain(), facts(site)
    everything, more = site.base, next(row for row in LIVE if row.back is Takes.RESTART)
    for row in COLD:
        does_not_show(site, row)
        site.write(changed(site.base, row, after=True))
        staged(site.settle(), row)
        site.write(site.base)
        settled(site, site.settle())
        if row not in ON_PAPER_ONLY:
            everything = changed(everything, row, after=True)
    assert facts(site) == was
    restored(had, site.domain())
    does_not_show(site, more)
    change(site, changed(site.base, more, after=True), more, Takes.LIVE)
    shows(site, more)
    everything = changed(everything, more, after=True)
    booted = [row for row in COLD if row not in ON_PAPER_ONLY]
    for documents, rows in ((everything, booted), (site.base, [*booted, more])):
        was = facts(site)
        site.write(documents)
        plan = site.settle()
        for row in rows:
            assert any(one.path.startswith(row.named) for one in plan.changes), row.id
        assert facts(site) == was
        restart(site)
        settled(site, site.settle())
        assert_restarted(was, facts(site))
        if documents is everything:
            for row in rows:
                shows(site, row)
    restored(had, site.domain())


def test_another_disk_takes_the_place_of_the_system_disk_and_of_nothing_else(
    site: RealSite,
) -> None:
    site.inside("echo precious >/data/kept")
    had, was = site.domain(), facts(site)
    by_name, by_file = REPLACED
    site.write(changed(site.base, by_name, after=True))
    proposed(site.settle(), by_name)
    site.write(site.base)
    settled(site, site.settle())
    assert facts(site) == was
    does_not_show(site, by_file)
    for documents in (changed(site.base, by_file, after=True), site.base):
        was = facts(site)
        site.write(documents)
        plan = site.settle()
        proposed(plan, by_file)
        assert facts(site) == was
        site.ask(approved=plan.replace_to)
        settled(site, site.settle())
        assert_replaced(was, facts(site))
        assert site.inside("cat /data/kept") == "precious"
        if documents is not site.base:
            shows(site, by_file)
    restored(had, site.domain())


@pytest.mark.parametrize("row", GROWN, ids=[row.id for row in GROWN])
def test_what_has_grown_stays_grown(site: RealSite, row: Row) -> None:
    check_row(site, site.base, row)
