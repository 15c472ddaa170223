"""What documents of several kinds have in common: a strict model, metadata, secrets, a machine."""

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
    """Strict, frozen, unknown fields refused; documents write camelCase, code snake_case."""

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
    """Identity: the name is what the domain is called; the file's path means nothing."""

    name: Name
    labels: dict[str, LabelValue] = {}
    annotations: dict[str, str] = {}


class SecretRef(Model):
    """Where a value that must not stand in a document is read from, at the time it is used."""

    file: AbsolutePath | None = None
    credential: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        one_of(self, "file", "credential")
        return self


# --- Probes ---------------------------------------------------------------------------------------


class Firmware(StrEnum):
    BIOS = "bios"
    EFI = "efi"


class Accelerator(StrEnum):
    """``auto`` takes KVM where the host really offers it (DESIGN section 9)."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"
