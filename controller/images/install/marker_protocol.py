"""What the marker port said in an attempt, line by line. Pure."""

from dataclasses import dataclass, replace

from controller.observed.build import BuildRecord

_MAX_FOUND = 1000
ANSWERED = ("success", "failure")
"""Lines that are said again until they are answered."""


@dataclass(frozen=True, slots=True)
class MarkerState:
    """``observed.build.MARKER_CHANNEL`` has the words."""

    phase: str = ""
    sealed: bool = False
    unsealed: str = ""
    succeeded: bool = False
    failure: str = ""

    def hear(self, line: str) -> "MarkerState":
        """With one more line; one that is none of the words changes nothing."""
        word, _, text = line.strip().partition(" ")
        match word:
            case "phase":
                return replace(self, phase=text)
            case "sealed":
                return replace(self, sealed=True)
            case "unsealed":
                found = f"{self.unsealed}, {text}" if self.unsealed else text
                return replace(self, unsealed=found[:_MAX_FOUND])
            case "success":
                return replace(self, succeeded=True)
            case "failure":
                return replace(self, failure=text or "it gave no reason")
            case _:
                return self

    def into(self, record: BuildRecord) -> BuildRecord:
        """The record with this in it."""
        return replace(
            record,
            phase=self.phase,
            sealed=self.sealed,
            unsealed=self.unsealed,
            succeeded=self.succeeded,
            failure=self.failure,
        )

    @classmethod
    def of(cls, record: BuildRecord) -> "MarkerState":
        """What an earlier daemon heard."""
        return cls(record.phase, record.sealed, record.unsealed, record.succeeded, record.failure)
