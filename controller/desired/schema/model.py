"""What documents of several kinds share: the strict base model, metadata, secrets, firmware."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from controller.desired.schema.fields import (
    AbsolutePath,
    LabelValue,
    Name,
)

API_VERSION = "guestkeeper/v1alpha1"


class Model(BaseModel):
    """Base of all models: strict, frozen, no unknown fields; camelCase in YAML, snake_case here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


def one_of(model: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        wrong = [type(model).model_fields[name].alias or name for name in given]
        aliases = ", ".join(type(model).model_fields[name].alias or name for name in names)
        raise PydanticCustomError(
            "one_of",
            "needs exactly one of {names}; {remedy}",
            {
                "names": aliases,
                "remedy": f"keep one of {' and '.join(wrong)}" if wrong else "add one",
            },
        )


class Metadata(Model):
    """Identity: ``name`` is also the domain's name; the file's path means nothing."""

    name: Name
    labels: dict[str, LabelValue] = {}
    annotations: dict[str, str] = {}


class SecretRef(Model):
    """Where to read a value that must not be written in a document; it is read at each use."""

    file: AbsolutePath | None = None
    credential: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        one_of(self, "file", "credential")
        return self


class Firmware(StrEnum):
    BIOS = "bios"
    EFI = "efi"


class Accelerator(StrEnum):
    """How the machine is run; ``auto`` takes KVM if the host really offers it."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"
