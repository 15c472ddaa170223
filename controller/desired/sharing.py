"""Equal parts of documents become one object: thousands of guests differ in few of theirs.

The models are frozen, so nobody can tell, but by the memory that they take. Which of a part's
fields were written and which are defaults is asked while it is validated only; so parts that differ
in that alone are one, too.
"""

from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


class _Part:
    """A model as what it says."""

    __slots__ = ("_key", "model")

    def __init__(self, model: BaseModel) -> None:
        self.model = model
        self._key = (type(model), model.model_dump_json())

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Part) and other._key == self._key


@lru_cache(maxsize=4096)
def _first(part: _Part) -> BaseModel:
    return part.model


def share_parts(model: M) -> M:
    """``model`` itself, right after it was made, with its parts shared with those of others."""
    for name, value in model.__dict__.items():
        if isinstance(value, BaseModel):
            model.__dict__[name] = _first(_Part(value))
        elif isinstance(value, list):
            value[:] = [_first(_Part(one)) if isinstance(one, BaseModel) else one for one in value]
    return model
