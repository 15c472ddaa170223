"""An immutable snapshot of the desired state, replaced by each scan."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.desired.effective import EffectiveGuest, EffectiveImage
from controller.desired.schema.documents import ServiceDocument
from controller.desired.text.problems import Problem


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The desired state after a scan. Mappings are by name and in the order of names.

    ``guests`` are good, or as they last were good. ``orphans`` are guests whose document vanished
    since the daemon started. ``held`` are guests whose document is missing in a pass that may not
    believe it; they are still in ``guests``. ``uncertain`` says why no missing document is believed
    to be gone, '' if it is. ``empty``: the directory exists and has no documents at all, so ending
    a guest needs an operator's approval. ``documents`` counts by kind, ``invalid`` counts those
    that cannot be used (a file that cannot be read counts once). ``scanned_at`` is in epoch
    seconds, 0 before the first scan; ``revision`` is the git commit of the directory. ``gone`` says
    since when (``time.monotonic``) the name of a Guest that was in the directory is missing;
    ``believed_since`` is when a pass could be believed for the first time, by the same clock.
    ``lost`` are guests whose document's place is not what it was: ending them needs an operator's
    approval. ``quiet`` is false until enough unchanged passes prove that no pass overlooked a
    document that was being moved.
    """

    guests: Mapping[str, EffectiveGuest] = field(default_factory=dict)
    images: Mapping[str, EffectiveImage] = field(default_factory=dict)
    services: Mapping[str, ServiceDocument] = field(default_factory=dict)
    orphans: Mapping[str, EffectiveGuest] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    uncertain: str = "the directory was not read yet"
    empty: bool = False
    problems: tuple[Problem, ...] = ()
    guest_problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)
    invalid: int = 0
    revision: str | None = None
    scanned_at: float = 0.0
    gone: Mapping[str, float] = field(default_factory=dict)
    believed_since: float | None = None
    lost: frozenset[str] = frozenset()
    quiet: bool = True

    def document_problems(self, name: str) -> tuple[Problem, ...]:
        """What is wrong with the Guest ``name`` or with what its document names."""
        return self.guest_problems.get(name, ())

    def absent(self, name: str, now: float) -> float:
        """Seconds for which the Guest ``name`` is known to have no document; 0.0 if it has one, or
        if that is not known. ``now`` is a time of ``time.monotonic``.
        """
        if name in self.guests or self.believed_since is None:
            return 0.0
        return max(0.0, now - max(self.gone.get(name, self.believed_since), self.believed_since))


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The result of a scan: names of the guests and images about which something changed.

    ``anything`` is true if any part of the snapshot but its time differs. ``unsettled`` asks for
    another scan soon: a file was left out because somebody may still be writing it. So does
    ``again``: a missing document is believed to be gone only after several scans.
    """

    snapshot: Snapshot
    changed: frozenset[str]
    images_changed: frozenset[str]
    anything: bool
    unsettled: bool
    again: bool = False


def changed_guests(old: Snapshot, new: Snapshot) -> frozenset[str]:
    """Guests whose effective digest, orphan state or problems differ, and orphans for which it
    changed whether they are believed to be gone."""
    changed = set()
    for before, after in ((old.guests, new.guests), (old.orphans, new.orphans)):
        for name in before.keys() | after.keys():
            first, second = before.get(name), after.get(name)
            if first is not second and (
                first is None or second is None or first.digest != second.digest
            ):
                changed.add(name)
    for name in old.guest_problems.keys() | new.guest_problems.keys():
        if old.guest_problems.get(name) != new.guest_problems.get(name):
            changed.add(name)
    if (old.uncertain, old.empty, old.quiet) != (new.uncertain, new.empty, new.quiet):
        changed |= new.orphans.keys()
    return frozenset(changed | (old.held ^ new.held) | (old.lost ^ new.lost))


def changed_images(old: Snapshot, new: Snapshot) -> frozenset[str]:
    """Images that came, went or have another digest."""
    return frozenset(
        name
        for name in old.images.keys() | new.images.keys()
        if name not in old.images
        or name not in new.images
        or old.images[name].digest != new.images[name].digest
    )
