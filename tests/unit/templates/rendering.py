"""The shipped templates of answer files, rendered as the daemon renders them, and their scripts."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from controller.desired.answers.render import render_answer
from controller.desired.answers.templates import TemplateFile, TemplateSet
from controller.desired.effective import AUTHORIZED_KEYS_BASE64, ROOT_PASSWORD_HASH

DIRECTORY = Path(__file__).parents[3] / "kickstart-templates"
VERSIONS = {
    "rhel9-minimal.ks.j2": ("RHEL9",),
    "rhel10-minimal.ks.j2": ("RHEL10",),
    "fedora-server.ks.j2": ("F41", "F42", "F43"),
}
"""Each kickstart template with the versions of pykickstart it is for."""
PRESEEDS = ("debian12.preseed.j2", "debian13.preseed.j2")
AUTOINSTALL = "ubuntu-server.autoinstall.j2"
TEMPLATES = (*VERSIONS, *PRESEEDS, AUTOINSTALL)
TREE = "http://mirror.example.test/os/"

EVERYTHING: Mapping[str, Any] = {
    "timezone": "Europe/Berlin",
    "language": "de_DE.UTF-8",
    "keyboard": "de",
    "packages": ["vim", "tcpdump"],
    "disk": "/dev/vdb",
    "filesystem": "ext4",
    "swap": 512,
    "kernel_arguments": "console=ttyS0",
    "ntp_servers": ["ntp1.example.test", "ntp2.example.test"],
    "grow_root": False,
    "updates": True,
    "post": "touch /etc/made-by-post\necho made",
}
"""Every value that all templates have, each other than its default."""
RED_HAT = {
    **EVERYTHING,
    "repos": {"AppStream": "http://mirror.example.test/AppStream/"},
    "selinux": "permissive",
    "agent_selinux": "confined",
    "firewall": False,
}
DEBIAN = {**EVERYTHING, "filesystem": "xfs", "mirror": "https://debian.example.test/pub/debian"}
UBUNTU = {**EVERYTHING, "filesystem": "xfs", "mirror": "http://ubuntu.example.test/ubuntu"}


def every_value(template: str) -> Mapping[str, Any]:
    """All values of ``template``, each other than its default."""
    if template in VERSIONS:
        return RED_HAT
    return DEBIAN if template in PRESEEDS else UBUNTU


def texts() -> dict[str, str]:
    """Templates and snippets by name."""
    files = sorted(DIRECTORY.rglob("*.j2"))
    return {str(file.relative_to(DIRECTORY)): file.read_text() for file in files}


def render(
    template: str,
    values: Mapping[str, Any] | None = None,
    *,
    repo: str = TREE,
    firmware: str = "bios",
    secrets: bool = True,
    cloud_init: bool = False,
) -> str:
    """The answer file; with ``secrets``, their placeholders are in it."""
    kind = template.split(".")[-2].replace("ks", "kickstart")
    variables = {
        "values": values or {},
        "image": {
            "name": "golden",
            "osFamily": "rhel" if kind == "kickstart" else "debian",
            "cloudInit": cloud_init,
        },
        "install": {
            "kind": kind,
            "version": VERSIONS.get(template, ("",))[0],
            "repo": repo,
            "firmware": firmware,
        },
        "root_password_hash": ROOT_PASSWORD_HASH if secrets else "",
        "authorized_keys_base64": AUTHORIZED_KEYS_BASE64 if secrets else "",
    }
    return _render(template, texts(), variables)


def _render(root: str, found: Mapping[str, str], variables: Mapping[str, Any]) -> str:
    files = {name: TemplateFile(name, text) for name, text in found.items()}
    return render_answer(TemplateSet(root, files, None, ()), variables)


def plain(template: str) -> str:
    """With no values, on BIOS, from a tree, with secrets."""
    return render(template)


def full(template: str) -> str:
    """With every value and cloud-init, on EFI, from an ISO, without secrets."""
    values = every_value(template)
    return render(template, values, repo="", firmware="efi", secrets=False, cloud_init=True)


def render_text(text: str, **values: Any) -> str:
    """A template that is not shipped, from a tree, with secrets."""
    variables = {
        "values": values,
        "image": {"name": "own", "osFamily": "rhel", "cloudInit": False},
        "install": {"repo": TREE},
        "root_password_hash": ROOT_PASSWORD_HASH,
        "authorized_keys_base64": AUTHORIZED_KEYS_BASE64,
    }
    return _render("own", {**texts(), "own": text}, variables)


def snippet(name: str, **values: Any) -> str:
    """A snippet alone, with secrets."""
    return render_text(f'{{% include "snippets/{name}" %}}', **values)


def scripts(template: str, answer: str) -> Iterator[tuple[str, str]]:
    """Each shell script in an answer file, with a name for it."""
    if template in VERSIONS:
        section = re.compile(r"^%(pre|post|onerror)\b.*\n((?:.*\n)*?)%end$", re.MULTILINE)
        for number, match in enumerate(section.finditer(answer)):
            yield f"{match[1]} {number}", match[2]
    elif template in PRESEEDS:
        for mark, name in (("#|", "installer"), ("#>", "target")):
            lines = [line[3:] for line in answer.split("\n") if line.startswith(mark)]
            yield name, "\n".join(lines) + "\n"
    else:
        autoinstall = yaml.safe_load(answer)["autoinstall"]
        for when in ("early", "late", "error"):
            for number, command in enumerate(autoinstall[f"{when}-commands"]):
                yield f"{when} {number}", command
                for inner in re.finditer(r"<<'(GK_\w+)'\n(.*?)\n\1$", command, re.S | re.M):
                    yield f"{when} {number} {inner[1]}", inner[2]
