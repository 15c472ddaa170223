"""Answers to operators that are no sentence: refusals, pending deletions, lists of volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.errors import PermanentError
from controller.planning.volumes.usage import VolumeUse


class RefusedError(PermanentError):
    """The request names something that does not exist; the message lists what does."""

    reason = "BadRequest"


class NotNowError(PermanentError):
    """The request does not fit the guest's present state; the message says what to do instead."""

    reason = "NotNow"


@dataclass(frozen=True, slots=True)
class Deletion:
    """A guest whose document is gone. ``policy`` is its deletionPolicy; ``since`` epoch seconds."""

    guest: str
    policy: str
    since: float | None
    system_disk: str


@dataclass(frozen=True, slots=True)
class VolumesSeen:
    """Uses of volumes by host. ``unseen``: hosts whose volumes cannot be listed, and why."""

    uses: Mapping[str, Sequence[VolumeUse]]
    unseen: Mapping[str, str]
