"""The little Markdown that the reference pages are made of."""

from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by `python -m docs.generate` from the code. Do not edit. -->"


def page(title: str, *parts: str) -> str:
    """A whole page: the note that it is generated, the title, the parts."""
    text = "\n\n".join((NOTE, f"# {title}", *(part.strip("\n") for part in parts if part)))
    return text + "\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; '|' and newlines in cells are escaped."""
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def code(text: str) -> str:
    """``text`` as code, '' as nothing."""
    return f"`{text}`" if text else ""


def anchor(title: str) -> str:
    """GitHub's anchor of a heading."""
    kept = (c for c in title.lower().replace("`", "") if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def first_paragraph(text: str | None) -> str:
    """A docstring's first paragraph on one line, its double backticks as single ones."""
    lines = (text or "").strip().split("\n\n")[0].split()
    return " ".join(lines).replace("``", "`")
