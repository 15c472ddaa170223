"""Bad input that cannot be stored in git: by its size, kind, mode, owner or where it leads."""

import os
from collections.abc import Callable
from pathlib import Path

from .support import guest, make_directory, put, service

Recipe = Callable[[Path], None]


def ten_megabytes(root: Path) -> None:
    put(root / "web.yaml", guest() + "# " + "x" * 10 * 2**20 + "\n")


def just_too_large(root: Path) -> None:
    put(root / "web.yaml", guest() + "#" * (256 * 1024))


def fifo(root: Path) -> None:
    os.mkfifo(root / "web.yaml", 0o644)


def device_by_link(root: Path) -> None:
    (root / "web.yaml").symlink_to("/dev/zero")


def directory_named_yaml_group_writable(root: Path) -> None:
    put(root / "more.yaml" / "web.yaml", guest())
    (root / "more.yaml").chmod(0o775)


def group_writable_file(root: Path) -> None:
    put(root / "web.yaml", guest(), 0o664)


def world_writable_file(root: Path) -> None:
    put(root / "web.yaml", guest(), 0o666)


def world_writable_directory(root: Path) -> None:
    put(root / "web.yaml", guest())
    root.chmod(0o777)


def world_writable_subdirectory(root: Path) -> None:
    put(root / "team" / "web.yaml", guest())
    (root / "team").chmod(0o777)


def link_out(root: Path) -> None:
    put(root.parent / "outside.yaml", guest())
    (root / "web.yaml").symlink_to("../outside.yaml")


def directory_link_out(root: Path) -> None:
    make_directory(root.parent / "outside")
    (root / "team").symlink_to("../outside")


def link_to_nowhere(root: Path) -> None:
    (root / "web.yaml").symlink_to("gone.yaml")


def link_to_itself(root: Path) -> None:
    (root / "web.yaml").symlink_to("web.yaml")


def not_utf8(root: Path) -> None:
    put(root / "web.yaml", guest().encode() + b"# caf\xe9\n")


def utf16(root: Path) -> None:
    put(root / "web.yaml", guest().encode("utf-16"))


def nul_bytes(root: Path) -> None:
    put(root / "web.yaml", guest().encode() + b"\0" * 20)


def control_character(root: Path) -> None:
    put(root / "web.yaml", guest() + "# \x1b[31m\n")


_SOURCED = "  files: [{path: /etc/a, source: a.j2}]\n"


def source_link_out(root: Path) -> None:
    put(root / "app.yaml", service(spec=_SOURCED))
    put(root.parent / "secret", "x")
    (root / "a.j2").symlink_to("../secret")


def source_too_large(root: Path) -> None:
    put(root / "app.yaml", service(spec=_SOURCED))
    put(root / "a.j2", "x" * (1024 * 1024 + 1))


def source_group_writable(root: Path) -> None:
    put(root / "app.yaml", service(spec=_SOURCED))
    put(root / "a.j2", "x", 0o664)


def source_is_a_directory(root: Path) -> None:
    put(root / "app.yaml", service(spec=_SOURCED))
    make_directory(root / "a.j2")


def source_is_a_fifo(root: Path) -> None:
    put(root / "app.yaml", service(spec=_SOURCED))
    os.mkfifo(root / "a.j2", 0o644)


def source_not_text(root: Path) -> None:
    put(root / "app.yaml", service(spec=_SOURCED))
    put(root / "a.j2", b"\xff\xfe\x00")


def foreign_owner(root: Path) -> None:
    put(root / "web.yaml", guest())
    os.chown(root / "web.yaml", 54321, -1)


def empty_directory(root: Path) -> None:
    for path in root.iterdir():
        path.unlink()


def missing_directory(root: Path) -> None:
    empty_directory(root)
    root.rmdir()


def a_file_instead(root: Path) -> None:
    missing_directory(root)
    put(root, "x")


NEEDS_ROOT = frozenset({"foreign_owner"})
RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe
    for recipe in (
        ten_megabytes,
        just_too_large,
        fifo,
        device_by_link,
        directory_named_yaml_group_writable,
        group_writable_file,
        world_writable_file,
        world_writable_directory,
        world_writable_subdirectory,
        link_out,
        directory_link_out,
        link_to_nowhere,
        link_to_itself,
        not_utf8,
        utf16,
        nul_bytes,
        control_character,
        source_link_out,
        source_too_large,
        source_group_writable,
        source_is_a_directory,
        source_is_a_fifo,
        source_not_text,
        foreign_owner,
        empty_directory,
        missing_directory,
        a_file_instead,
    )
}
