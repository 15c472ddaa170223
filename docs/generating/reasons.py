"""Every reason that the code can give, found in its syntax trees, so that none is left out."""

import ast
from collections.abc import Iterator
from pathlib import Path

CODE = Path(__file__).resolve().parents[2] / "controller"


def condition_reasons() -> frozenset[str]:
    """What conditions can say, as far as the planner says it itself."""
    found: set[str] = set()
    for tree in _trees("planning", but=_BUILDING):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                position = _POSITION.get(_name(node.func))
                if position is not None and len(node.args) > position:
                    found.update(_texts(node.args[position]))
            elif isinstance(node, ast.Assign) and _assigns_reason(node):
                found.update(_texts(node.value))
            elif isinstance(node, ast.Assign) and _assigns_pair(node):
                found.update(_texts(_first(node.value)))
    return frozenset(found)


_POSITION = {
    "true": 1,
    "false": 1,
    "unknown": 1,
    "_waiting": 1,
    "_waits": 0,
    "unseen": 1,
    "ServiceState": 2,
    "ChangeDecision": 1,
    "Trouble": 0,
}
"""Where a call's reason stands."""
_BUILDING = "building.py"


def build_reasons() -> frozenset[str]:
    """How an attempt to install an image can end, but for a success."""
    found: set[str] = set()
    for tree in (*_trees(f"planning/images/{_BUILDING}"), *_trees("images/install/build.py")):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) == "failed":
                found.update(text for arg in node.args[:1] for text in _texts(arg))
            elif isinstance(node, ast.Assign) and _assigns_reason(node):
                found.update(_texts(_first(node.value)))
    return frozenset(found)


def _first(value: ast.expr) -> ast.expr:
    """The reason of ``reason, why = "BuilderLost", "Only it knows"``."""
    return value.elts[0] if isinstance(value, ast.Tuple) else value


def step_reasons() -> frozenset[str]:
    """What errors can say: their ``reason``, and what libvirt's errors are translated to."""
    found: set[str] = set()
    for tree in _trees("."):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    if isinstance(line, ast.Assign) and _assigns_reason(line):
                        found.update(_texts(line.value))
            elif isinstance(node, ast.keyword) and node.arg == "reason":
                found.update(_texts(node.value))
    for tree in _trees("hypervisor/errors/complaints.py"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) == "_c":
                found.update(text for arg in node.args[1:2] for text in _texts(arg))
    for tree in _trees("hypervisor/errors/translate.py"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                for value in node.value.values:
                    found.update(_texts(value))
    return frozenset(found)


def event_reasons() -> frozenset[str]:
    """What is recorded in the journal beside reasons of failures and of Ready."""
    found: set[str] = set()
    for tree in (*_trees("execution"), *_trees("daemon"), *_trees("operator")):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) == "record":
                found.update(text for arg in node.args[1:2] for text in _texts(arg))
            elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                found.update(_texts(node.value.elts[0]))
    return frozenset(found)


def _trees(where: str, but: str = "") -> Iterator[ast.Module]:
    place = CODE / where
    for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        if file.name != but:
            yield ast.parse(file.read_text(encoding="utf-8"))


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _assigns_reason(node: ast.Assign) -> bool:
    names = [
        name
        for target in node.targets
        for name in (target.elts if isinstance(target, ast.Tuple) else [target])
    ]
    return any(isinstance(name, ast.Name) and name.id == "reason" for name in names)


def _assigns_pair(node: ast.Assign) -> bool:
    """``found = "DefinitionOutdated", "not as wanted: memory.size"``: a reason and its message."""
    names = {name.id for name in node.targets if isinstance(name, ast.Name)}
    return names == {"found"} and isinstance(node.value, ast.Tuple)


def _texts(value: ast.expr) -> Iterator[str]:
    """CamelCase words in an expression; ``f"{what}Failed"`` for both words it is used with."""
    if isinstance(value, ast.JoinedStr):
        tail = "".join(str(part.value) for part in value.values if isinstance(part, ast.Constant))
        if tail.isalpha():
            yield from (f"{what}{tail}" for what in ("Look", "Apply"))
        return
    compared = {
        id(inner)
        for node in ast.walk(value)
        if isinstance(node, ast.IfExp)
        for inner in ast.walk(node.test)
    }
    for node in ast.walk(value):
        if id(node) in compared or not isinstance(node, ast.Constant):
            continue
        if isinstance(node.value, str) and node.value[:1].isupper() and node.value.isalpha():
            yield node.value
