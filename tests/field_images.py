"""The rows of images: what is changed about one under a guest that runs from a disk of it."""

from collections.abc import Iterator
from typing import Any

from tests.field_rows import On, Row, Takes, Tree, row

BOTH = (On.TEST, On.QEMU)
_A, _B = "a" * 64, "b" * 64
_MEDIUM = "https://mirror.example.org/os/"
_FILES = {"kernel": "linux", "initrd": "initrd"}
KINDS = {"kickstart": ("mine.ks.j2", {"version": "RHEL9"}), "preseed": ("mine.preseed.j2", {}),
         "autoinstall": ("mine.autoinstall.j2", {})}  # fmt: skip


def _url(name: str, sha256: str) -> dict[str, Any]:
    return {"source": {"file": None, "url": f"https://example.org/{name}", "sha256": sha256}}


def _spec(**change: Any) -> dict[str, Any]:
    """An installed image; ``change`` are fields of the Image's spec."""
    install = {"template": "mine.preseed.j2", "location": _FILES}
    source = {"file": None, "preseed": install}
    return {"source": source, "boot": None, "disk": {"size": "1Gi"}, **change}


IMAGES = [
    row("Image.apiVersion", Takes.REFUSED, {"apiVersion": "guestkeeper/v2"}, says="v1alpha1"),
    row("Image.kind", Takes.REFUSED, {"kind": "Disk"}, says="Disk"),
    row("Image.metadata.name", Takes.ANOTHER, {"metadata": {"name": "another"}}),
    row("Image.metadata.labels", Takes.CONTROLLER, {"metadata": {"labels": {"tier": "front"}}}),
    row("Image.metadata.annotations", Takes.CONTROLLER, {"metadata": {"annotations": {"a": "b"}}}),
    row("Image.spec.osFamily", Takes.CONTROLLER, {"osFamily": "rhel"}),
    row(
        "Image.spec.osFamily",
        Takes.REFUSED,
        {"osFamily": "suse"},
        says="not supported yet",
        why="of SUSE",
    ),
    row(
        "Image.spec.source.file",
        Takes.REPLACE,
        {"source": {"file": "two.qcow2"}},
        on=BOTH,
        named="image.source.file",
        inside=("cat /etc/image", "image two"),
    ),
    row(
        "Image.spec.source.url",
        Takes.CONTROLLER,
        _url("other.qcow2", _A),
        before=_url("one.qcow2", _A),
    ),
    row(
        "Image.spec.source.sha256",
        Takes.REPLACE,
        _url("one.qcow2", _B),
        before=_url("one.qcow2", _A),
        named="image.source.sha256",
    ),
    row(
        "Image.spec.boot.kernel",
        Takes.RESTART,
        {"boot": {"kernel": "vmlinuz-2"}},
        named="image.boot.kernel",
        shows=lambda seen: seen.live.boot.kernel.endswith("vmlinuz-2"),
    ),
    row(
        "Image.spec.boot.initrd",
        Takes.RESTART,
        {"boot": {"initrd": "initrd-2"}},
        named="image.boot.kernel",
        shows=lambda seen: seen.live.boot.initrd.endswith("initrd-2"),
    ),
    row(
        "Image.spec.boot.args",
        Takes.RESTART,
        {"boot": {"args": "quiet row=changed"}},
        on=BOTH,
        named="image.boot.args",
        shows=lambda seen: seen.live.boot.args.endswith("row=changed"),
        inside=("grep -o row=changed /proc/cmdline", "row=changed"),
    ),
    row("Image.spec.cloudInit", Takes.CONTROLLER, {"cloudInit": True}),
    row("Image.spec.rollout.maxParallel", Takes.CONTROLLER, {"rollout": {"maxParallel": 3}}),
    row(
        "Image.spec.disk.size",
        Takes.REPLACE,
        {"disk": {"size": "2Gi"}},
        before=_spec(),
        named="image.content",
    ),
    row(
        "Image.spec.builder.firmware",
        Takes.REFUSED,
        {"builder": {"firmware": "efi"}},
        before=_spec(),
        says="write firmware: efi",
    ),
    *(
        row(f"Image.spec.builder.{name}", Takes.CONTROLLER, {"builder": {name: value}},
            before=_spec())
        for name, value in (
            ("vcpus", 4), ("memory", "4Gi"), ("accelerator", "tcg"), ("network", "net-one"),
            ("bridge", "br-two"),
        )
    ),
    *(
        row(f"Image.spec.{name}", Takes.CONTROLLER, {name: value}, before=_spec())
        for name, value in (
            ("timeout", "50m"), ("stallTimeout", "7m"), ("retries", 3), ("keepFailedBuilder", True),
        )
    ),
]  # fmt: skip


def _changes(kind: str) -> Iterator[tuple[str, Tree, Tree]]:
    """Fields of an unattended install: path, before, after."""
    template, _ = KINDS[kind]
    yield "template", {}, {"template": f"other{template.removeprefix('mine')}"}
    yield "values", {}, {"values": {"word": "changed"}}
    tree = {"location": {"tree": _MEDIUM}}
    yield "location.tree", tree, {"location": {"tree": f"{_MEDIUM}next/"}}
    iso = {"location": {"iso": {"pool": "gk", "volume": "one.iso"}}}
    yield "location.iso.pool", iso, {"location": {"iso": {"pool": "spare", "volume": "one.iso"}}}
    yield "location.iso.volume", iso, {"location": {"iso": {"pool": "gk", "volume": "two.iso"}}}
    yield "location.kernel", {}, {"location": _FILES | {"kernel": "linux-2"}}
    yield "location.initrd", {}, {"location": _FILES | {"initrd": "initrd-2"}}
    for name in ("kernelSha256", "initrdSha256"):
        yield (
            f"location.{name}",
            {"location": _FILES | {name: _A}},
            {"location": _FILES | {name: _B}},
        )
    repo = {"location": _FILES | {"repo": _MEDIUM}}
    yield "location.repo", repo, {"location": _FILES | {"repo": f"{_MEDIUM}next/"}}
    yield "location.args", {}, {"location": _FILES | {"args": "noapic"}}
    hashed = "rootPasswordHashFrom"
    for name, one, other in (("file", "/k/a", "/k/b"), ("credential", "a", "b")):
        yield f"{hashed}.{name}", {hashed: {name: one}}, {hashed: {name: other}}
    keys = "sshAuthorizedKeysFrom"
    yield f"{keys}[]", {}, {keys: [{"file": "/k/a"}]}
    for name, one, other in (("file", "/k/a", "/k/b"), ("credential", "a", "b")):
        yield f"{keys}[].{name}", {keys: [{name: one}]}, {keys: [{name: other}]}


def _installs() -> Iterator[Row]:
    for kind, (template, more) in KINDS.items():
        usual = {"template": template, "location": _FILES, **more}

        def spec(change: Tree, kind: str = kind, usual: Tree = usual) -> dict[str, Any]:
            install = {**usual, **change}
            return _spec(source={"file": None, kind: install})

        for path, before, after in _changes(kind):
            of_ubuntu = kind == "autoinstall" and path == "location.tree"
            yield row(
                f"Image.spec.source.{kind}.{path}",
                Takes.REFUSED if of_ubuntu else Takes.REPLACE,
                spec({"location": {"tree": _MEDIUM}} if of_ubuntu else {**before, **after}),
                before={} if of_ubuntu else spec(before),
                named="image.content",
                says="no installer tree" if of_ubuntu else "",
            )
        if kind == "kickstart":
            for path, after in (
                ("version", {"version": "F41"}),
                ("delivery", {"delivery": "oemdrv"}),
            ):
                yield row(
                    f"Image.spec.source.{kind}.{path}",
                    Takes.REPLACE,
                    spec(after),
                    before=spec({}),
                    named="image.content",
                )


IMAGE_ROWS = [*IMAGES, *_installs()]
