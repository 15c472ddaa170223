"""The documentation says what is: its pages are fresh, its commands, links and documents work."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cli.app import app
from controller.desired.catalog.catalog import load_paths
from controller.desired.schema.documents import DOCUMENTS
from docs import generate
from tests.unit.docs import pages
from tests.unit.docs.pages import PAGES, ROOT, Block, name_of

CALLS = pages.every_call()
YAML = pages.blocks("yaml")
DOCUMENT_BLOCKS = [block for block in YAML if block.info == "yaml"]


def _commands() -> Any:
    from typer.main import get_command

    return get_command(app)


# --- Commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "call"), CALLS, ids=[f"{name_of(page)}: {' '.join(call)}" for page, call in CALLS]
)
def test_every_command_that_a_page_shows_is_one_that_the_program_takes(
    page: Path, call: list[str]
) -> None:
    words = [word for word in call if word != "[OPTIONS]"]
    command = _commands()
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"{name_of(page)}: no command {words[0]}"
        command, name, words = command.commands[words[0]], words[0], words[1:]
    # Parses, with all values, and does not run: a usage error raises.
    context = command.make_context(name, words)
    assert context is not None


def test_commands_that_running_text_names_exist() -> None:
    assert _commands().commands.keys() >= pages.NAMED


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"guestkeeper (\w+)", readme))
    hidden = {name for name, command in _commands().commands.items() if command.hidden}
    assert _commands().commands.keys() - hidden - {"version"} <= shown


def test_make_targets_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    text = [line for _, line in pages.shell_lines()]
    text += [code for page in PAGES for code in pages.inline_code(page)]
    named = {name for line in text for name in re.findall(r"(?:^|\s)make ([a-z][a-z-]+)", line)}
    assert named
    assert named <= targets


# --- Links and files ------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    kept = ["".join(c for c in h.lower() if c.isalnum() or c in " -_") for h in headings]
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in pages.links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {path}"
        if anchor:
            assert anchor in _anchors(target), f"{link}: {target.name} has no such heading"


def test_every_page_can_be_reached() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in pages.links(page)]
        waiting += [target for target in targets if target.suffix == ".md" and target.exists()]
    assert reached >= set(PAGES)


_OURS = re.compile(r"(?:controller|deploy|desired-state|docs|tests|bench)/[\w./-]*")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_of_the_project_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    own_files = {"desired-state/hello.yaml", "desired-state/image-b.yaml"}  # readers make them
    for name in set(_OURS.findall(text)) - own_files:
        if f"/{name}" in text or f"-{name}" in text:
            continue  # part of a longer path: of a host, or relative to the page
        assert (ROOT / name.rstrip("./")).exists(), f"there is no {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_does_not_name_what_is_not_in_the_repository(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for word in ("/work/", "DESIGN", "CONVENTIONS", "FACTS.md", "doc1", "doc2", "guestkeeper-docs"):
        assert word not in text


# --- Documents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_yaml_is_a_document_or_says_that_it_is_a_fragment(block: Block) -> None:
    assert block.info in ("yaml", "yaml fragment")
    loaded = list(yaml.safe_load_all(block.text))
    if block.info == "yaml":
        assert all(document["kind"] in DOCUMENTS for document in loaded)


@pytest.mark.parametrize("block", DOCUMENT_BLOCKS, ids=lambda block: block.place)
def test_documents_of_a_page_are_valid_beside_the_demos_image_and_services(
    block: Block, tmp_path: Path
) -> None:
    (tmp_path / "page.yaml").write_text(block.text, encoding="utf-8")
    shown = {(d["kind"], d["metadata"]["name"]) for d in yaml.safe_load_all(block.text)}
    for file in ("image.yaml", "services.yaml"):
        text = (ROOT / "desired-state" / file).read_text(encoding="utf-8")
        others = [
            document
            for document in yaml.safe_load_all(text)
            if (document["kind"], document["metadata"]["name"]) not in shown
        ]
        (tmp_path / file).write_text(yaml.safe_dump_all(others), encoding="utf-8")
    assert load_paths([tmp_path], None).problems == ()


def test_a_document_that_says_not_supported_yet_is_in_the_readmes_table() -> None:
    """Whatever the schema refuses stands in the README, so nobody is surprised."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = (ROOT / "docs/reference/documents.md").read_text(encoding="utf-8")
    refused = re.findall(r"^\| `(\w+)` .*(?:\*Not supported yet|\*So far only)", reference, re.M)
    assert refused
    for field in refused:
        assert re.search(rf"`(?:[\w.]+\.)?{field}(?:: \w+)?`", readme), field


# --- The reference --------------------------------------------------------------------------------


def test_the_reference_is_fresh() -> None:
    assert generate.stale() == [], "run: python -m docs.generate"


def test_the_reference_is_the_same_every_time() -> None:
    for text in generate.PAGES.values():
        assert text() == text()


def test_check_names_stale_pages_and_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.write(tmp_path)
    (tmp_path / "settings.md").write_text("old", encoding="utf-8")
    (tmp_path / "gone.md").write_text("no generator", encoding="utf-8")
    monkeypatch.setattr(generate, "stale", lambda: generate_stale(tmp_path))
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "settings.md" in said
    assert "gone.md" in said
    assert "metrics.md" not in said


generate_stale = generate.stale


def test_writing_mends_what_is_stale(tmp_path: Path) -> None:
    (tmp_path / "gone.md").write_text("no generator", encoding="utf-8")
    assert set(generate.write(tmp_path)) == {*generate.PAGES, "gone.md"}
    assert generate.stale(tmp_path) == []
    assert generate.write(tmp_path) == []
