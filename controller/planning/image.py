"""A guest's image after its disk was made: is there a newer content of it, and is that built?

The new base is built beside the old one, on which the guest's disk stands; another disk comes only
by replacement.
"""

from controller.desired.effective import EffectiveGuest
from controller.desired.schema import Change
from controller.observed.domain import Ownership
from controller.observed.guest import Observed
from controller.observed.image import ImageState, ImageView
from controller.planning.changes import FieldChange
from controller.planning.steps import PrepareImage


def outdated_base(owner: Ownership, image: ImageView | None) -> tuple[FieldChange, ...]:
    """The base that its disk stands on is not the one that its image has now."""
    if image is None or not image.base or not owner.base or image.base == owner.base:
        return ()
    return (FieldChange("image.base", owner.base, image.base, Change.REPLACE),)


def outdated_message(desired: EffectiveGuest, image: ImageView | None) -> str:
    """What the present content of the image is doing, and what can be done."""
    name = desired.spec.image
    if desired.image.install is None:
        new = "is another"
    elif image is None or image.state is ImageState.MISSING:
        new = "is not built yet"
    elif image.state is ImageState.READY:
        new = f"is ready ({image.base})"
    elif image.state is ImageState.PREPARING:
        new = f"is being made: {image.message}"
    else:
        new = f"cannot be made: {image.message}"
    return (
        f"its system disk was made from an older content of image {name}, whose present one {new};"
        " this version does not replace disks: it goes on as it is"
    )


def build_beside(desired: EffectiveGuest, observed: Observed, now: float) -> list[PrepareImage]:
    """Build what its image has become, for the guests to come; its own disk is not touched."""
    image = observed.image
    if image is None or image.stalled:
        return []
    due = image.retry_at is None or now >= image.retry_at
    if image.state is ImageState.MISSING or (image.state is ImageState.FAILED and due):
        return [PrepareImage(image.pool, desired.spec.image)]
    return []
