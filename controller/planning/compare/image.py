"""A guest's image after its disk was made: is another one wanted now, and is that one built?

The new base is built beside the old one, on which the guest's disk stands; the guest gets a disk on
it only by replacement.
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
    """The system disk is not of the image that is wanted. ``base``: its base, '' until it is there.

    ``changes`` say what of the documents made it so.
    """

    base: str
    changes: tuple[FieldChange, ...]


def outdated(
    owner: Ownership, image: ImageView | None, changes: tuple[FieldChange, ...]
) -> Outdated | None:
    """``changes`` are those of the spec since it was last applied whole.

    A guest that went back to an older disk is not of the wanted image, whatever was applied before.
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
    """What the wanted content of the image is doing: a clause."""
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
    """Make what its image has become; its own disk is not touched.

    ``wanted``: the guest waits for it. Else a ready disk that cannot be made (its file was deleted)
    is nobody's trouble.
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
