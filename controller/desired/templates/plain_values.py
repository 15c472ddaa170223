"""Values that a template may turn into text: only data with the same text in every process.

A rendering is part of the desired state: if it differed at each start of the daemon, services would
be restarted and disks made anew for nothing. Templates cannot read the time, the machine or random
numbers, so only two things could differ. One is an object that Python shows with its memory
address, such as a method that is not called: here every way to turn one into text raises. The other
is the order of a set: here there are no sets, because a difference of keys is a list. So the same
documents render to the same bytes in any process, and need not be rendered twice to know that; a
test does it for everything that Jinja2 offers, with two hash seeds.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import jinja2
from jinja2.utils import Cycler, Joiner, Namespace

_TEXT: Final = (str, int, float, bool, type(None), jinja2.Undefined)
_MANY: Final = (list, tuple)
_ADD_LIST: Final = "add | list, or | join(...)"


class UnprintableError(TypeError):
    """A value without a text was used as text; the message says what to write instead."""


class _NoText:
    """Base of values that raise when they are turned into text."""

    __slots__ = ()
    _words = "it has no text"

    def _explain(self) -> str:
        return type(self)._words

    def __str__(self) -> NoReturn:
        raise UnprintableError(type(self)._explain(self))  # a namespace has attributes of its own

    __repr__ = __str__

    def __format__(self, _: str) -> NoReturn:
        str(self)
        raise AssertionError("it has no text")


class Method(_NoText):
    """A method or function, ``call``, that may be called and nothing else."""

    __slots__ = ("_name", "call")

    def __init__(self, call: Callable[..., Any], name: str = "") -> None:
        self.call = call
        self._name = name or getattr(call, "__name__", "")

    def _explain(self) -> str:
        if not self._name.isidentifier():
            return "a function has no text; call it"
        return f"{self._name} is a function, and no text or list; call it: {self._name}()"

    def __iter__(self) -> Iterator[Any]:
        raise UnprintableError(self._explain())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


class Items(_NoText):
    """Items that can only be iterated, and only once."""

    __slots__ = ("_items",)
    _words = f"items that are made one by one have no text; {_ADD_LIST}"

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._items)


class _Cycler(_NoText, Cycler):
    _words = "a cycler has no text; write .next() or .current behind it"


class _Joiner(_NoText, Joiner):
    _words = "a joiner has no text; call it"


class _Namespace(_NoText, Namespace):
    _words = "a namespace has no text; name one of its attributes"


GLOBALS: Final = {"cycler": _Cycler, "joiner": _Joiner, "namespace": _Namespace}
"""Replacements for Jinja2's globals of these names."""


def tame(value: Any) -> Any:
    """``value``, or a wrapper without text if it is an iterator or a function."""
    if isinstance(value, (*_TEXT, *_MANY, _NoText)):
        return value
    if isinstance(value, Iterator):
        return Items(value)
    return Method(value) if callable(value) else value


def tamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that its result is tame."""

    @functools.wraps(function)
    def taming(*args: Any, **kwargs: Any) -> Any:
        return tame(function(*args, **kwargs))

    return taming


def printable(value: Any) -> Any:
    """``value``, which a template prints; raises ``UnprintableError`` if it is not data."""
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, also where it is within a list
    if isinstance(value, _TEXT):
        return value
    if isinstance(value, _MANY):
        for item in value:
            printable(item)
    elif isinstance(value, dict):
        for pair in value.items():
            printable(pair)
    elif isinstance(value, _NoText):
        str(value)
    else:
        kind = type(value).__name__
        if callable(value):
            raise UnprintableError("a function has no text; call it")
        tip = _ADD_LIST if hasattr(value, "__iter__") else "name what you want of it"
        raise UnprintableError(f"a {kind} is no text; {tip}")
    return value


def same(one: Any, other: Any) -> bool:
    """The test ``sameas``, by type and value: memory addresses say nothing about documents."""
    return type(one) is type(other) and bool(one == other)
