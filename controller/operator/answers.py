"""What an operator is answered, where it is no sentence: why not, and what there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.errors import PermanentError
from controller.planning.volumes.usage import VolumeUse


class RefusedError(PermanentError):
    """What is asked for cannot be meant; the message says what can."""

    reason = "BadRequest"


class NotNowError(PermanentError):
    """What is asked for does not fit how the guest is now; the message says what would."""

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
    """By host. ``unseen``: the hosts whose volumes cannot be told, and why."""

    uses: Mapping[str, Sequence[VolumeUse]]
    unseen: Mapping[str, str]
