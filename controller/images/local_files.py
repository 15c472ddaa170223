"""Files of the images directory, which no document may lead out of."""

from pathlib import Path

from controller.errors import PermanentError


def resolve(images_dir: Path, relative: str) -> Path:
    """The path that ``relative`` means, links followed.

    Raises ``PermanentError``: ``ImageNotFound``, or ``ImageRefused`` for what leads outside.
    """
    try:
        root = images_dir.resolve()
        path = (root / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of symlinks
        raise PermanentError(
            f"the image file {relative} cannot be found: {error}", reason="ImageNotFound"
        ) from error
    if not path.is_relative_to(root):
        raise PermanentError(
            f"the image file {relative} leads out of the images directory {root}; put the"
            " file itself there",
            reason="ImageRefused",
        )
    return path
