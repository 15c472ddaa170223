"""A guest that has to stop while a job (a backup, a migration) of its domain runs."""

from controller.errors import TransientError
from controller.observed.domain import DomainState
from tests.unit.loop.test_replacing import Site, guest


def test_a_guest_that_was_not_asked_is_not_powered_off_for_not_having_heard() -> None:
    """It has all its time once it is asked."""
    site, wanted = Site(), guest(runStrategy="Halted")
    site.documents.guests["web1"] = wanted
    site.world.effects.clear()
    site.world.fail["shutdown"] = TransientError("a job", reason="JobRunning", retry_after=10)
    wait(site, 400)
    assert site.domain.state is DomainState.RUNNING
    assert (site.downs(), site.memory.shutdown_requested) == ([], None)
    del site.world.fail["shutdown"]
    site.world.deaf.add("web1")
    wait(site, wanted.spec.shutdown_timeout)
    assert site.downs() == ["shutdown"]
    wait(site, 10)
    assert site.downs() == ["shutdown", "destroy"]


def wait(site: Site, seconds: float) -> None:
    """With a look every few seconds, before it goes on."""
    until = site.world.now + seconds
    while site.world.now < until:
        site.daemon.reconcile("web1")
        site.world.now += 5
