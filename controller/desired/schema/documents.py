"""The schema of documents: what a file may contain, by kind.

Pydantic parses at the edge: a document becomes one of these frozen models or one clear error. The
change class (docs/reference/changes.md) is declared beside each field of a Guest, so that the
planner, the CLI and the reference page read the same value. A field that is not implemented yet is
declared and refused (``NotYet``), never silently ignored.

The parts of each kind are in ``guest``, ``image`` and ``service``; here are the whole documents.
"""

from typing import Literal

from pydantic import Field

from controller.desired.schema.guest import GuestSpec
from controller.desired.schema.image import ImageSpec
from controller.desired.schema.model import Metadata, Model
from controller.desired.schema.service import ServiceSpec


class GuestDocument(Model):
    api_version: Literal["guestkeeper/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Guest"]
    metadata: Metadata
    spec: GuestSpec


class ImageDocument(Model):
    api_version: Literal["guestkeeper/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Image"]
    metadata: Metadata
    spec: ImageSpec


class ServiceDocument(Model):
    api_version: Literal["guestkeeper/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Service"]
    metadata: Metadata
    spec: ServiceSpec


Document = GuestDocument | ImageDocument | ServiceDocument
DOCUMENTS: dict[str, type[GuestDocument] | type[ImageDocument] | type[ServiceDocument]] = {
    "Guest": GuestDocument,
    "Image": ImageDocument,
    "Service": ServiceDocument,
}
