"""Resolves a NAME on the command line: a guest, else an image; ``image/NAME`` is the image."""

from typing import NamedTuple
from urllib.parse import quote

from controller.cli.client.client import Client, Json, NotFoundError
from controller.cli.errors import INVALID, CliError

IMAGE = "image/"


class Found(NamedTuple):
    """A guest or image; ``item`` is everything that the API tells of it."""

    is_image: bool
    item: Json

    @property
    def subject(self) -> str:
        """Its name in the journal: ``NAME`` or ``image/NAME``."""
        return f"{IMAGE}{self.item['name']}" if self.is_image else str(self.item["name"])


def find(client: Client, name: str) -> Found:
    """The guest, else the image of that name; raises ``CliError`` where there is neither."""
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
    """The NAME of ``image/NAME``, None without the prefix; raises ``CliError`` if it is empty."""
    if not name.startswith(IMAGE):
        return None
    alone = name.removeprefix(IMAGE)
    if not alone:
        raise CliError("write image/NAME, with the image's name", INVALID)
    return alone


def image_path(name: str) -> str:
    """The image's path in the API, relative to ``/api/v1/``."""
    return f"images/{quote(name, safe='')}"
