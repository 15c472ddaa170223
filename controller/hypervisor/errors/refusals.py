"""What this room refuses of its own accord, where libvirt raised nothing."""

from controller.errors import PermanentError, TransientError


def conflict(host: str, name: str, what: str) -> PermanentError:
    """A domain that is not ours: it is not touched."""
    return PermanentError(
        f"domain {name} on host {host} {what} and is left untouched; rename the guest or it",
        reason="NameConflict",
    )


def ineffective(what: str, change: str) -> TransientError:
    """libvirt said that it was done, and a look says that it was not."""
    return TransientError(f"{what}: {change} had no effect", reason="LiveChangeIneffective")


def missing(name: str, alias: str, where: str) -> TransientError:
    """The plan was made before somebody changed the domain."""
    return TransientError(f"the {where} of {name} has no device {alias}", reason="DeviceMissing")


def would_shrink(what: str, has: int, wanted: int) -> PermanentError:
    """Sizes in bytes."""
    return PermanentError(
        f"{what} has {has} bytes and would shrink to {wanted}, which would cut off what is on it:"
        " make a new disk and move the data",
        reason="WouldShrink",
    )


def in_use(what: str, domain: str) -> PermanentError:
    """A base that is the disk of a running domain, and holds what that wrote."""
    return PermanentError(
        f"{what} is the disk of domain {domain}, which runs: it stays until that has a disk of its"
        " own",
        reason="BaseInUse",
    )


def pool_busy(host: str, pool: str, what: str) -> TransientError:
    """libvirt makes a volume in the pool: what is in it is not known just now."""
    return TransientError(
        f"pool {pool} of host {host} cannot be looked through while volumes are made in it, so"
        f" {what}; it is tried again",
        reason="PoolBusy",
        retry_after=2.0,
    )
