"""Equal parts of documents become one object: thousands of guests differ in few of theirs.

The models are frozen, so nobody can tell, but by the memory that they take. Which of a part's
fields were written and which are defaults is asked while it is validated only; so parts that differ
in that alone are one, too. A part is known for as long as a document has it.
"""

import hashlib
from typing import TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)
_PARTS: WeakValueDictionary[tuple[type[BaseModel], bytes], BaseModel] = WeakValueDictionary()


def share_parts(model: M) -> M:
    """``model`` itself, right after it was made, with its parts shared with those of others."""
    for name, value in model.__dict__.items():
        if isinstance(value, BaseModel):
            model.__dict__[name] = _first(value)
        elif isinstance(value, list):
            value[:] = [_first(one) if isinstance(one, BaseModel) else one for one in value]
    return model


def _first(part: BaseModel) -> BaseModel:
    """The first one that says the same."""
    says = hashlib.sha256(part.model_dump_json().encode()).digest()
    return _PARTS.setdefault((type(part), says), part)
