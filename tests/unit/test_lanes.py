"""What hangs costs its own lane, and the others have the bound to themselves."""

import pytest

from controller.lanes import Lane, Lanes, Lined, lane_of_guest

A, B, C = Lane("a"), Lane("b"), Lane("c")


def begun(lanes: Lanes, lane: Lane, now: float, number: int = 100) -> int:
    """How many of so many could begin."""
    for count in range(number):
        if not lanes.may_begin(lane, now):
            return count
        lanes.begin(f"{lane}{now}{count}", lane, now)
    return number


def test_a_single_lane_may_have_the_whole_bound() -> None:
    assert begun(Lanes(8), A, 0) == 8


def test_of_several_lanes_none_may_have_the_whole_bound() -> None:
    lanes = Lanes(8)
    lanes.may_begin(B, 0)
    assert begun(lanes, A, 0) == 6
    assert begun(lanes, B, 0) == 2


def test_what_is_slow_does_not_count_against_the_bound_and_holds_its_lane_back() -> None:
    lanes = Lanes(8, slow=1, places=3)
    lanes.may_begin(B, 0)
    assert begun(lanes, A, 0) == 6
    assert lanes.changes_at() == 1
    assert not lanes.may_begin(A, 1), "six of it hang"
    assert begun(lanes, B, 1) == 6
    lanes.begin("c", C, 1)
    assert lanes.may_begin(C, 1)


def test_a_lane_that_was_slow_gets_few_places_until_one_is_quick_again() -> None:
    lanes = Lanes(8, slow=1, places=3)
    lanes.may_begin(B, 0)
    lanes.begin("first", A, 0)
    lanes.end("first", 5)
    assert begun(lanes, A, 10) == 3
    lanes.end(f"{A}100", 10.5)
    assert begun(lanes, A, 10.5) >= 4


def test_one_that_hangs_leaves_its_lane_the_rest() -> None:
    lanes = Lanes(8, slow=1, places=3)
    lanes.begin("hangs", A, 0)
    assert begun(lanes, A, 5, 2) == 2, "it is slow, and so is the lane"
    lanes.end(f"{A}50", 5.1)
    assert begun(lanes, A, 5.2, 20) == 8, "one was quick: the whole bound, beside what hangs"


def test_a_lane_that_is_suspect_from_the_beginning_stays_outside_of_the_bound() -> None:
    lanes = Lanes(8, few=4)
    silent = lane_of_guest("a", silent=True)
    assert begun(lanes, silent, 0) == 4
    lanes.end(f"{silent}00", 0.1)
    assert begun(lanes, silent, 0.2) == 1, "a quick one does not clear it"
    assert begun(lanes, lane_of_guest("a", silent=False), 0) == 6


@pytest.mark.parametrize("bound", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("count", [2, 5])
def test_however_many_lanes_hang_one_that_is_well_has_room(bound: int, count: int) -> None:
    lanes = Lanes(bound, slow=1, places=3)
    sick = [Lane(f"sick{n}") for n in range(count)]
    for lane in sick:
        lanes.may_begin(lane, 0)
    begun_in_all = 0
    for now in range(20):
        for lane in sick:
            begun_in_all += begun(lanes, lane, now)
    lanes.may_begin(A, 20)
    assert begun(lanes, A, 21) >= max(1, bound // 2)
    assert begun_in_all <= lanes.most(count)


def test_lanes_take_turns_and_a_lane_keeps_its_order() -> None:
    line: Lined[str] = Lined()
    for lane, one in ((A, "a1"), (A, "a2"), (A, "a3"), (B, "b1"), (C, "c1"), (B, "b2")):
        line.append(lane, one)
    taken = []
    while (found := line.take(lambda _: True)) is not None:
        taken.append(found[1])
    assert taken == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_lane_that_may_not_begin_keeps_its_place() -> None:
    line: Lined[str] = Lined()
    line.append(A, "a1")
    line.append(B, "b1")
    assert line.take(lambda lane: lane == B) == (B, "b1")
    assert line.take(lambda lane: lane == B) is None
    assert (list(line), len(line)) == (["a1"], 1)


def test_what_is_not_wanted_any_more_is_dropped() -> None:
    line: Lined[str] = Lined()
    line.append(A, "a1")
    line.append(A, "a2")
    assert line.take(lambda _: True, lambda one: one != "a1") == (A, "a2")
    assert not line
