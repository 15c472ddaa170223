"""The clock that decisions are made by: it never jumps, whatever is done to the host's."""

from dataclasses import dataclass, field

import pytest

from controller.clock import PULL, SteadyClock

DAY = 86400.0


@dataclass
class Host:
    """A host whose clock somebody sets; ``told`` is what the daemon said of it."""

    monotonic: float = 50.0
    wall: float = 1_800_000_000.0
    told: list[float] = field(default_factory=list)

    def clock(self) -> SteadyClock:
        return SteadyClock(
            wall=lambda: self.wall, monotonic=lambda: self.monotonic, on_set=self.told.append
        )

    def passes(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


def test_it_shows_what_the_host_shows() -> None:
    host = Host()
    clock = host.clock()
    for seconds in (0.1, 3.0, DAY, 30 * DAY):
        host.passes(seconds)
        assert clock.now() == host.wall
    assert clock.ahead() == 0.0
    assert host.told == []


@pytest.mark.parametrize("by", [-30 * DAY, -3600.0, -60.0, 60.0, 300.0, 8 * DAY])
def test_a_clock_that_is_set_moves_no_deadline(by: float) -> None:
    host = Host()
    clock = host.clock()
    host.passes(1000)
    began = clock.now()
    host.passes(3)
    host.wall += by
    host.passes(117)
    assert 120 * (1 - PULL) <= clock.now() - began <= 120 * (1 + PULL)


@pytest.mark.parametrize("by", [-3600.0, 3600.0])
def test_it_comes_to_show_the_same_in_time_and_tells_once(by: float) -> None:
    host = Host()
    clock = host.clock()
    host.wall += by
    before = clock.now()
    for _ in range(2000):
        host.passes(60)
        assert clock.now() > before
        before = clock.now()
    assert clock.now() == host.wall
    assert clock.ahead() == 0.0
    assert host.told == [by]


def test_it_says_how_far_the_host_is_ahead() -> None:
    host = Host()
    clock = host.clock()
    host.wall += 8 * DAY
    assert clock.ahead() == 8 * DAY
    assert host.told == [8 * DAY]
    host.passes(60)
    host.wall -= 8 * DAY
    assert abs(clock.ahead()) <= 10.0
    assert len(host.told) == 2


def test_a_monotonic_clock_that_stands_still_gives_the_same_time() -> None:
    host = Host()
    clock = host.clock()
    host.wall += 5
    assert clock.now() == clock.now() == host.wall - 5
