"""Finds out whether an existing guest wants another image content, and whether that is built.

The new base is built beside the old one, which backs the guest's disk; the guest gets a disk on the
new base only by replacement.
"""

from dataclasses import dataclass

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.fields import Change
from controller.observed.domain import Ownership
from controller.observed.guest import Observed
from controller.observed.image import ImageState, ImageView
from controller.planning.compare.changes import FieldChange
from controller.planning.steps import PrepareImage


@dataclass(frozen=True, slots=True)
class Outdated:
    """The system disk was not made from the wanted image.

    ``base`` is the wanted base, '' until it exists; ``changes`` are the causes in the documents.
    """

    base: str
    changes: tuple[FieldChange, ...]


def outdated(
    owner: Ownership, image: ImageView | None, changes: tuple[FieldChange, ...]
) -> Outdated | None:
    """Whether the system disk is outdated; None if not. ``changes`` are those of the spec since it
    was last applied whole.

    A guest that went back to an older disk is outdated, whatever was applied before.
    """
    of_image = tuple(
        change
        for change in changes
        if change.change is Change.REPLACE
        and (change.path == "image" or change.path.startswith("image."))
    )
    ready = image.base if image is not None and image.state is ImageState.READY else None
    if ready and owner.base:
        if ready == owner.base:
            return None
        moved = FieldChange("image.base", owner.base, ready, Change.REPLACE)
        return Outdated(ready, of_image or (moved,))
    taken_out = owner.record.refused != "" and owner.record.refused != owner.base and not ready
    if of_image or taken_out:
        return Outdated(ready or "", of_image)
    return None


def image_state(desired: EffectiveGuest, image: ImageView | None) -> str:
    """The state of the wanted image, as a clause."""
    name = desired.spec.image
    if image is None or image.state is ImageState.MISSING:
        return f"image {name} is not built yet"
    if image.state is ImageState.READY:
        return f"image {name} is ready ({image.base})"
    if image.state is ImageState.PREPARING:
        return f"image {name} is being made: {image.message}"
    return f"image {name} cannot be made: {image.message}"


def build_beside(
    desired: EffectiveGuest, observed: Observed, now: float, *, wanted: bool
) -> list[PrepareImage]:
    """The step that builds the current content of the guest's image; its disk is not touched.

    ``wanted``: the guest waits for it. If not, a failed build is retried only for images that are
    installed: a ready-made disk that is gone harms no guest.
    """
    image = observed.image
    if image is None or image.stalled:
        return []
    due = image.retry_at is None or now >= image.retry_at
    again = image.state is ImageState.FAILED and due
    if image.state is ImageState.MISSING or (
        again and (wanted or desired.image.install is not None)
    ):
        return [PrepareImage(image.pool, desired.spec.image)]
    return []
