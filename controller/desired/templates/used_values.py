"""Find the ``values`` that a template reads, so that a misspelt one in a guest is reported.

A value that nothing reads is a mistake that no rendering can find: the template uses the Service's
own value. It can be found only if every use of ``values`` names its key literally.
"""

import functools
from collections.abc import Iterator

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from controller.desired.templates.plain_comments import PlainComments

_VALUES = "values"
# Only parses, with the syntax of desired/templates/sandbox; nothing is rendered by it.
_PARSER = ImmutableSandboxedEnvironment(extensions=[PlainComments])


@functools.lru_cache(maxsize=512)
def named_values(text: str) -> frozenset[str] | None:
    """Keys of ``values`` that the template names; None if it may use any of them."""
    if _VALUES not in text:
        return frozenset()
    try:
        found = list(_uses(_PARSER.parse(text)))
    except (jinja2.TemplateError, RecursionError):
        return None  # reported where the template is compiled
    if any(key is None for key in found):
        return None
    return frozenset(key for key in found if key is not None)


def _uses(node: nodes.Node) -> Iterator[str | None]:
    """The key of each use below ``node``; None for a use without a literal key."""
    if isinstance(node, nodes.Getattr) and _is_values(node.node):
        # ``values.items()`` returns everything, ``values.items`` may be the user's own key.
        yield None if hasattr(dict, node.attr) else node.attr
        return
    if isinstance(node, nodes.Getitem) and _is_values(node.node):
        key = node.arg
        known = isinstance(key, nodes.Const) and isinstance(key.value, str)
        yield key.value if known else None  # type: ignore[attr-defined]
        if not known:
            yield from _uses(key)
        return
    if isinstance(node, nodes.Call) and _is_get(node.node) and node.args:
        first, *others = node.args
        if isinstance(first, nodes.Const) and isinstance(first.value, str):
            yield first.value
            for other in others:
                yield from _uses(other)
            return
    if isinstance(node, nodes.Name) and node.name == _VALUES:
        yield None
    for child in node.iter_child_nodes():
        yield from _uses(child)


def _is_values(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == _VALUES and node.ctx == "load"


def _is_get(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Getattr) and node.attr == "get" and _is_values(node.node)
