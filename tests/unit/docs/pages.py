"""What the documentation's tests read: the pages, their code blocks and their links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

NAMED: set[str] = set()
"""Commands that running text names, gathered by ``every_call``."""

_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: ``info`` is what stands behind the fence."""

    page: Path
    info: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0]}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(*languages: str) -> list[Block]:
    """All blocks of these languages, of every page."""
    return [
        Block(page, match[2].strip(), match[3])
        for page in PAGES
        for match in _FENCE.finditer(page.read_text(encoding="utf-8"))
        if match[2].strip().partition(" ")[0] in languages
    ]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    return [" ".join(text.split()) for text in _INLINE.findall(prose(page))]


def links(page: Path) -> list[str]:
    return _LINK.findall(prose(page))


def guestkeeper_calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of guestkeeper in a line of shell."""
    for part in re.split(r"&&|\|\||[;|]", line):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*|\$|sudo|watch", words[0]):
            words = words[1:]
        if words and words[0].rpartition("/")[2] == "guestkeeper":
            stop = next((i for i, word in enumerate(words) if word in (">", "2>", "<")), len(words))
            yield words[1:stop]


def shell_lines() -> Iterator[tuple[Path, str]]:
    """Every line of shell in blocks; of a console block only what is typed."""
    for block in blocks("sh", "console", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if not block.info.startswith("console"):
                yield block.page, line
            elif line.startswith(("$ ", "# ")):
                yield block.page, line[2:]


def every_call() -> list[tuple[Path, list[str]]]:
    """(page, arguments) of every ``guestkeeper …`` in blocks and in inline code."""
    found = [(page, call) for page, line in shell_lines() for call in guestkeeper_calls(line)]
    for page in PAGES:
        for text in inline_code(page):
            if text.startswith("guestkeeper ") and "/v1alpha1" not in text:
                # A command alone is named there, not called.
                found += [(page, call) for call in guestkeeper_calls(text) if len(call) > 1]
                NAMED.update(call[0] for call in guestkeeper_calls(text) if call)
    return [(page, call) for page, call in found if call and "…" not in call]
