"""Every command that the program or a page tells somebody to type, and the test that executes it.

Of the program: each text in its code, doc strings left out. Of pages: lines of shell, and code in
running text. A command is known by its program, its subcommand and its options, so that one that
loses an option (``virsh blockcommit`` without ``--base`` destroys) is another command.
"""

import ast
import re
from collections.abc import Iterator

from tests.unit.docs.pages import PAGES, ROOT, inline_code, name_of, shell_lines

_COMMAND = re.compile(r"(?<![\w./-])(virsh|qemu-img)((?: -c (?:\S+))?) ([a-z][a-z-]+)([^\n]*)")
_END = re.compile(r"[;`|)(]|\. |\.$|, |: | # |&&|virsh|qemu-img|\bguestkeeper ")
_OPTION = re.compile(r"(?<!\S)(--[a-z-]+|-[a-zA-Z])\b")
_ASIDE = re.compile(r"(?:^|\s)#.*|\$\([^)]*\)")
"""A comment of the shell, a command within a command."""


def commands(text: str) -> Iterator[str]:
    """What of virsh and qemu-img a text tells to type, as PROGRAM SUBCOMMAND OPTIONS."""
    start = 0
    while (found := _COMMAND.search(text, start)) is not None:
        rest = _END.split(found[4], maxsplit=1)[0]
        yield " ".join([found[1], found[3], *sorted(set(_OPTION.findall(rest)))])
        start = found.end(3)


def own_commands() -> Iterator[tuple[str, list[str]]]:
    """(place, arguments) of each guestkeeper command in a message; {} stands for what is put in."""
    for file in sorted((ROOT / "controller").rglob("*.py")):
        for text in _texts(ast.parse(file.read_text(encoding="utf-8"))):
            for found in re.finditer(r"(?<![\w./-])guestkeeper (?=[a-z])([^\n]*)", text):
                words = _END.split(found[1], maxsplit=1)[0].split()
                if words and "=" not in words[0] and "…" not in words:
                    yield str(file.relative_to(ROOT)), words


def of_code() -> Iterator[tuple[str, str]]:
    """(place, command) of every message in the code."""
    for file in sorted((ROOT / "controller").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for text in _texts(tree):
            for command in commands(text):
                yield str(file.relative_to(ROOT)), command


def of_pages() -> Iterator[tuple[str, str]]:
    """(place, command) of every page; the history of changes tells what was."""
    for page, line in shell_lines():
        for command in commands(_ASIDE.sub(" ", line)):
            yield name_of(page), command
    for page in PAGES:
        for text in inline_code(page) if page.name != "CHANGELOG.md" else ():
            for command in commands(text):
                yield name_of(page), command


def _texts(tree: ast.Module) -> Iterator[str]:
    """The texts of a module: f-strings whole, with {} for what is put in; no doc strings."""
    within: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            within.update(id(part) for part in ast.walk(node) if part is not node)
        elif isinstance(node, ast.Expr):
            within.add(id(node.value))  # a doc string
    for node in ast.walk(tree):
        if id(node) in within:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def source_of(identity: str) -> str:
    """The source of FILE::TEST, with its helpers' file; raises where there is none."""
    path, _, name = identity.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_source_segment(source, node) or ""
    raise LookupError(identity)


_REAL = "tests/e2e/test_printed_commands_real.py::"
_REFUSALS = "tests/e2e/test_refusals_real.py::"
_POOLS = "tests/e2e/test_pools_real.py::"
LOOKS = frozenset(
    {
        "virsh blockjob",
        "virsh domiflist",
        "virsh domjobinfo",
        "virsh dommemstat",
        "virsh dumpxml",
        "virsh dumpxml --inactive",
        "virsh list",
        "virsh list --all",
        "virsh metadata",
        "virsh net-list --all",
        "virsh pool-list --all",
        "virsh pool-info",
        "virsh vcpucount",
        "virsh vol-dumpxml --pool",
        "virsh vol-list",
    }
)
"""What changes nothing: that it is taken by the program is all there is to know."""
SAID_OF_OTHERS = frozenset({"virsh setvcpus --config"})
"""No advice: what somebody else may do."""
BY_HAND = {
    "virsh console": "it wants a terminal; ours is `guestkeeper logs -f`",
    "virsh net-define": "it takes a file that only who writes it knows",
    "virsh qemu-agent-command": "the tutorial's, in the demo's own guest",
}
EXECUTED = {
    "qemu-img check -r": "tests/unit/images/fetch/test_disk_format.py::"
    "test_a_disk_that_is_marked_corrupt_is_taken_after_the_printed_repair",
    "qemu-img convert --image-opts --object -O": "tests/unit/images/fetch/test_disk_format.py::"
    "test_an_encrypted_disk_is_taken_after_the_printed_conversion",
    "qemu-img convert -O": "tests/unit/images/fetch/test_disk_format.py::"
    "test_an_overlay_is_taken_after_the_printed_conversion",
    "virsh blockcommit --active --base --pivot --wait": _REAL
    + "test_the_printed_merge_of_a_snapshot_ends_on_the_guests_volume_and_leaves_the_base",
    "virsh blockcopy --format --pivot --transient-job --wait": _REAL
    + "test_a_guest_that_was_merged_into_its_base_gets_a_file_of_its_own_as_printed",
    "virsh edit": _REAL + "test_a_guest_that_is_off_on_a_base_gets_a_file_of_its_own_as_printed",
    "virsh detach-interface --config --mac": _REAL
    + "test_a_foreign_domain_is_made_ready_as_printed",
    "virsh domrename": _REAL + "test_a_foreign_domain_is_made_ready_as_printed",
    "virsh metadata --config --remove": _REAL + "test_a_foreign_domain_is_made_ready_as_printed",
    "virsh metadata --live --remove": _REAL + "test_a_foreign_domain_is_made_ready_as_printed",
    "virsh pool-refresh": _REAL + "test_volumes_are_brought_and_moved_as_printed",
    "virsh resume": _REAL + "test_what_somebody_paused_goes_on_as_printed",
    "virsh destroy": _REAL + "test_what_somebody_paused_goes_on_as_printed",
    "virsh start": _REAL + "test_what_somebody_paused_goes_on_as_printed",
    "virsh undefine": _REAL + "test_what_somebody_paused_goes_on_as_printed",
    "virsh domfsthaw": _REFUSALS + "test_what_a_guest_agent_refuses",
    "virsh dompmwakeup": _REFUSALS + "test_what_a_guest_agent_refuses",
    "virsh net-start": _REAL + "test_a_network_is_started_as_printed",
    "virsh pool-autostart": _REAL + "test_a_pool_is_made_and_started_as_printed",
    "virsh pool-define-as --target": _REAL + "test_a_pool_is_made_and_started_as_printed",
    "virsh pool-destroy": _POOLS
    + "test_a_pool_of_that_name_at_another_path_is_told_with_both_and_left_alone",
    "virsh pool-undefine": _POOLS
    + "test_a_pool_of_that_name_at_another_path_is_told_with_both_and_left_alone",
    "virsh pool-start": _POOLS
    + "test_a_pool_whose_directory_is_gone_is_its_own_trouble_and_is_had_once_it_is_back",
    "virsh vol-clone": _REAL + "test_volumes_are_brought_and_moved_as_printed",
    "virsh vol-clone --pool": _REAL + "test_volumes_are_brought_and_moved_as_printed",
    "virsh vol-create-as": _REAL + "test_volumes_are_brought_and_moved_as_printed",
    "virsh vol-create-as --format": _REAL + "test_volumes_are_brought_and_moved_as_printed",
    "virsh vol-delete": _REAL + "test_volumes_are_brought_and_moved_as_printed",
    "virsh vol-delete --pool": _REAL
    + "test_the_printed_end_of_a_marker_makes_a_base_that_is_made_anew",
    "virsh vol-upload": _REAL + "test_volumes_are_brought_and_moved_as_printed",
    "virsh vol-upload --pool": _REAL + "test_volumes_are_brought_and_moved_as_printed",
}
"""Every command that changes something, with the test that executes it where it is shown."""
