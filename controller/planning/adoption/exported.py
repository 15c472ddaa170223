"""The result of exporting a domain: its document, and notes for a person. Pure."""

from dataclasses import dataclass

from controller.desired.text.parse import read_documents
from controller.observed.kept_devices import Kept


@dataclass(frozen=True, slots=True)
class Exported:
    """``text`` is a document as YAML. ``notes`` are for a person; its comments have them too.

    ``kept``: devices that stay as they are, because documents cannot express them. ``name``: the
    guest's name; a domain with a name that no guest can have must be renamed. ``foreign``: the
    domain must be adopted before Guestkeeper manages it.
    """

    text: str
    notes: tuple[str, ...]
    foreign: bool
    name: str = ""
    kept: tuple[Kept, ...] = ()

    @property
    def kept_lines(self) -> tuple[str, ...]:
        """One line for each kind of device in ``kept``."""
        kinds: dict[str, list[str]] = {}
        for one in self.kept:
            kinds.setdefault(one.kind, []).append(one.place)
        return tuple(
            f"{kind}: {', '.join(places)}" if any(places) else kind
            for kind, places in kinds.items()
        )

    def problems(self) -> list[str]:
        """The errors in the document; line numbers include the comment lines that report them."""
        (document,) = read_documents(self.text.encode(), "")
        down = len(document.problems)
        return [
            f"line {problem.line + down} is not valid: {problem.field}: {problem.message}"
            for problem in document.problems
        ]
