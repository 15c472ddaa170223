"""What came of exporting a domain: its document, and what a person should know of it. Pure."""

from dataclasses import dataclass

from controller.desired.text.parse import read_documents
from controller.observed.kept_devices import Kept


@dataclass(frozen=True, slots=True)
class Exported:
    """A document as YAML. ``notes`` stand in its comments, too: what a person should read.

    ``kept`` stays as it is, for documents have no words for it. ``name`` is the guest's: a domain
    whose name no guest can have has to be renamed. ``foreign``: the domain is to be adopted before
    Guestkeeper looks after it.
    """

    text: str
    notes: tuple[str, ...]
    foreign: bool
    name: str = ""
    kept: tuple[Kept, ...] = ()

    @property
    def kept_lines(self) -> tuple[str, ...]:
        """A line for each kind of what is kept."""
        kinds: dict[str, list[str]] = {}
        for one in self.kept:
            kinds.setdefault(one.kind, []).append(one.place)
        return tuple(
            f"{kind}: {', '.join(places)}" if any(places) else kind
            for kind, places in kinds.items()
        )

    def problems(self) -> list[str]:
        """Of the document's lines, as they stand once these are among the comments above them."""
        (document,) = read_documents(self.text.encode(), "")
        down = len(document.problems)
        return [
            f"line {problem.line + down} is not valid: {problem.field}: {problem.message}"
            for problem in document.problems
        ]
