"""Share equal parts of documents as one object, because thousands of guests differ in few parts.

The models are frozen, so the only effect is less memory. Which fields were written and which are
defaults matters only during validation, so parts that differ in that alone are shared, too. A part
is kept for as long as a document has it.
"""

import hashlib
from typing import TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)
_PARTS: WeakValueDictionary[tuple[type[BaseModel], bytes], BaseModel] = WeakValueDictionary()


def share_parts(model: M) -> M:
    """``model`` itself, right after it was made, with its parts replaced by shared ones."""
    for name, value in model.__dict__.items():
        if isinstance(value, BaseModel):
            model.__dict__[name] = _first(value)
        elif isinstance(value, list):
            value[:] = [_first(one) if isinstance(one, BaseModel) else one for one in value]
    return model


def _first(part: BaseModel) -> BaseModel:
    """The first part with the same content."""
    says = hashlib.sha256(part.model_dump_json().encode()).digest()
    return _PARTS.setdefault((type(part), says), part)
