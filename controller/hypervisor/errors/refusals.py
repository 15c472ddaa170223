"""Errors that this package raises itself, without an error from libvirt."""

from controller.errors import PermanentError, TransientError


def conflict(host: str, name: str, what: str) -> PermanentError:
    """For a domain that is not ours and so not touched; ``what`` says why it is not."""
    return PermanentError(
        f"domain {name} on host {host} {what} and is left untouched; rename the guest or it",
        reason="NameConflict",
    )


def ineffective(what: str, change: str) -> TransientError:
    """For a change that libvirt reported as done, but that a check did not find."""
    return TransientError(f"{what}: {change} had no effect", reason="LiveChangeIneffective")


def missing(name: str, alias: str, where: str) -> TransientError:
    """For a device that is not in the domain (any more): it was changed after the plan was made."""
    return TransientError(f"the {where} of {name} has no device {alias}", reason="DeviceMissing")


def would_shrink(what: str, has: int, wanted: int) -> PermanentError:
    """For a disk or volume that is larger than wanted. Sizes in bytes."""
    return PermanentError(
        f"{what} has {has} bytes and would shrink to {wanted}, which would cut off what is on it:"
        " make a new disk and move the data",
        reason="WouldShrink",
    )


def in_use(what: str, domain: str) -> PermanentError:
    """For a base that is the disk of a running domain, and holds that domain's data."""
    return PermanentError(
        f"{what} is the disk of domain {domain}, which runs: it stays until that has a disk of its"
        " own",
        reason="BaseInUse",
    )


def pool_busy(host: str, pool: str, what: str) -> TransientError:
    """For a pool that cannot be scanned just now, because libvirt creates a volume in it."""
    return TransientError(
        f"pool {pool} of host {host} cannot be looked through while volumes are made in it, so"
        f" {what}; it is tried again",
        reason="PoolBusy",
        retry_after=2.0,
    )
