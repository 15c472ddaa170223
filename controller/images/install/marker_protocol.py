"""Parse the lines that the marker port sends in one attempt. Pure."""

from dataclasses import dataclass, replace

from controller.observed.build import BuildRecord

_MAX_FOUND = 1000
ANSWERED = ("success", "failure")
"""Lines that the builder repeats until they are answered."""


@dataclass(frozen=True, slots=True)
class MarkerState:
    """The markers read so far; ``observed.build.MARKER_CHANNEL`` lists the words."""

    phase: str = ""
    sealed: bool = False
    unsealed: str = ""
    succeeded: bool = False
    failure: str = ""

    def hear(self, line: str) -> "MarkerState":
        """The state after one more line; a line with an unknown word changes nothing."""
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
        """``record`` with these markers."""
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
        """The markers in ``record``, which an earlier daemon read."""
        return cls(record.phase, record.sealed, record.unsealed, record.succeeded, record.failure)
