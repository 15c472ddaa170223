"""A guest's record comes back from JSON as it went in, and a broken part costs that part only."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.observed.domain import (
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    SystemDisk,
)
from controller.observed.domain_xml import parse_record
from controller.observed.stored import stored_text

OLD = SystemDisk("gk", "web1-system.qcow2", "base-1", "/pool/k", "/pool/i", "root=/dev/vda")
NEW = SystemDisk("gk", "web1-6a9c2f31-system-1.qcow2")
FULL = GuestRecord(
    start_attempts=2,
    suspended=True,
    replacement=Replacement(NEW, OLD, "image", ReplacePhase.CONFIRMING, 5.0, swapped_at=6.5),
    retired=(RetiredDisk(OLD, 1.0, "replaced"), RetiredDisk(NEW, 2.0, "failed")),
)

times = st.floats(0, 4e9)
disks = st.from_type(SystemDisk)
memories = st.builds(
    GuestRecord,
    start_attempts=st.integers(0, 10**6),
    last_start_attempt=st.none() | times,
    stop_run=st.none() | st.integers(0, 2**31),
    finished=st.booleans(),
    approved=st.text(),
    replacement=st.none()
    | st.builds(
        Replacement,
        to=disks,
        back=disks,
        why=st.text(),
        phase=st.sampled_from(ReplacePhase),
        since=times,
        swapped_at=st.none() | times,
        failure=st.text(),
    ),
    retired=st.lists(st.builds(RetiredDisk, disk=disks, since=times, why=st.text())).map(tuple),
)


@given(memories)
def test_memory_comes_back(record: GuestRecord) -> None:
    assert parse_record(stored_text(record)) == record


def test_what_is_a_default_is_not_written() -> None:
    assert stored_text(GuestRecord()) == "{}"
    assert stored_text(GuestRecord(retired=(RetiredDisk(NEW, 1.0, "failed"),))) == (
        '{"retired":[{"disk":{"pool":"gk","volume":"web1-6a9c2f31-system-1.qcow2"},'
        '"since":1.0,"why":"failed"}]}'
    )


@pytest.mark.parametrize(
    ("path", "value", "left"),
    [
        (("retired", 0, "since"), "soon", {"retired": FULL.retired[1:]}),
        (("retired", 1), None, {"retired": FULL.retired[:1]}),
        (("retired", 0, "disk", "pool"), 7, {"retired": FULL.retired[1:]}),
        (
            ("retired", 0, "disk", "args"),
            7,
            {"retired": (RetiredDisk(replace(OLD, args=""), 1.0, "replaced"), FULL.retired[1])},
        ),
        (("retired",), {"0": 1}, {"retired": ()}),
        (("replacement", "phase"), "dancing", {"replacement": None}),
        (("replacement", "to"), [], {"replacement": None}),
        (("replacement", "from_the_future"), 1, {}),
        (("start_attempts",), "3", {"start_attempts": 0}),
    ],
)
def test_a_broken_part_costs_that_part_only(
    path: tuple[str | int, ...], value: object, left: dict[str, object]
) -> None:
    document = json.loads(stored_text(FULL))
    part = document
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    assert parse_record(json.dumps(document)) == replace(FULL, **left)  # type: ignore[arg-type]
