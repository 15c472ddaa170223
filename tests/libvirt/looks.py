"""A domain as the daemon sees it, looked at while the daemon is at work on it."""

from controller.errors import HostUnreachableError, TransientError
from controller.hypervisor.hypervisor import Hypervisor
from controller.observed.domain import DomainView
from tests.waiting import wait_until


def domain_of(hypervisor: Hypervisor, host: str, name: str) -> DomainView | None:
    """Asked again where it changes faster than it can be read. Raises ``HostUnreachableError``."""

    def look() -> tuple[DomainView | None] | None:
        try:
            return (hypervisor.domain(host, name),)
        except HostUnreachableError:
            raise
        except TransientError:
            return None

    (found,) = wait_until(look, 10, f"{name} can be read")  # type: ignore[misc]
    return found
