"""What a NAME on the command line means: a guest, else an image; ``image/NAME`` is the image."""

from typing import NamedTuple
from urllib.parse import quote

from controller.cli.client.client import Client, Json, NotFoundError
from controller.cli.errors import INVALID, CliError

IMAGE = "image/"


class Found(NamedTuple):
    """``item`` is everything the daemon knows about it."""

    is_image: bool
    item: Json

    @property
    def subject(self) -> str:
        """By which the journal knows it."""
        return f"{IMAGE}{self.item['name']}" if self.is_image else str(self.item["name"])


def find(client: Client, name: str) -> Found:
    """Raises ``CliError`` where there is neither."""
    alone = image_name(name)
    if alone is not None:
        return Found(True, client.get(image_path(alone))["item"])
    try:
        return Found(False, client.get(f"guests/{name}")["item"])
    except NotFoundError as error:
        try:
            return Found(True, client.get(image_path(name))["item"])
        except NotFoundError:
            raise error from None


def image_name(name: str) -> str | None:
    """What stands behind ``image/``; None without it."""
    if not name.startswith(IMAGE):
        return None
    alone = name.removeprefix(IMAGE)
    if not alone:
        raise CliError("write image/NAME, with the image's name", INVALID)
    return alone


def image_path(name: str) -> str:
    """Of the API, without the prefix."""
    return f"images/{quote(name, safe='')}"
