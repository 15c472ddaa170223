"""Parses label selectors (``tier=web,env!=test,gpu``), Kubernetes' equality-based ones."""

from collections.abc import Callable, Mapping

from controller.errors import PermanentError

Selector = Callable[[Mapping[str, str]], bool]


class SelectorError(PermanentError):
    """The selector cannot be read; the message shows how to write one."""

    reason = "InvalidSelector"


def parse_selector(text: str) -> Selector:
    """A predicate on labels: all comma-separated terms must hold; '' selects everything.

    Raises ``SelectorError``.
    """
    terms = [_term(part.strip()) for part in text.split(",")] if text.strip() else []
    return lambda labels: all(term(labels) for term in terms)


def _term(text: str) -> Selector:
    if not text:
        raise SelectorError(
            "an empty term in the label selector; write such as -l tier=web,env!=test"
        )
    for operator in ("!=", "==", "="):
        key, found, value = text.partition(operator)
        key, value = key.strip(), value.strip()
        if not found:
            continue
        if not key or "=" in value or " " in key:
            raise SelectorError(f"cannot read the label selector `{text}`; write such as tier=web")
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if " " in text:
        raise SelectorError(f"cannot read the label selector `{text}`; write such as tier=web")
    if text.startswith("!"):
        return lambda labels: text[1:] not in labels
    return lambda labels: text in labels
