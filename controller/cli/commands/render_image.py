"""``render`` of an image: the answer file, kernel arguments and builder domain of its build.

No host is asked and no secret is read. What only a host or an installer's location can tell is
shown as a word in capitals, with a note.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from controller.cli.client.options import Output
from controller.cli.errors import DONE, INVALID, CliError
from controller.cli.terminal.formats import dump
from controller.cli.terminal.output import FAINT, say, show, stdout, write
from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import (
    AUTHORIZED_KEYS_BASE64,
    ROOT_PASSWORD_HASH,
    EffectiveImage,
    EffectiveInstall,
    InstallKind,
)
from controller.desired.schema.image import Delivery
from controller.desired.schema.model import Accelerator, SecretRef
from controller.hypervisor.xml.builder import render_builder
from controller.images.install.builder_config import builder_config
from controller.images.pool.base_volumes import install_base_name
from controller.observed.build import INFIX, BuildRecord
from controller.observed.host import HostView
from controller.operator.images import build_places
from controller.settings import Settings

_LOCATION, _BUILD = "LOCATION", "BUILD"
_UUID = "00000000-0000-0000-0000-000000000000"
_LOGIN = re.compile(r"(?<=://)[^/?#@\s\"']+@")


def render_image(
    settings: Settings, snapshot: Snapshot, image: EffectiveImage, output: Output
) -> int:
    """Print what a build of the image would give to its installer; returns the exit code."""
    install = image.install
    if install is None:
        source = image.spec.source
        raise CliError(
            f"image {image.name} is a ready disk ({source.file or 'from an address'}): it is used"
            " as it is, and there is nothing to render",
            INVALID,
        )
    made = _document(settings, snapshot, image, install, say)
    if output in (Output.JSON, Output.YAML):
        dump({"item": made}, output)
    else:
        _show(made)
    return DONE


def _document(
    settings: Settings,
    snapshot: Snapshot,
    image: EffectiveImage,
    install: EffectiveInstall,
    note: Callable[[str], None],
) -> dict[str, Any]:
    pools = {name: host.pool for name, host in settings.hosts.items()}
    place = build_places(snapshot, pools, image.name, None, None)[0]
    settled = settings.hosts[place.host]
    host = HostView(place.host, settled.uri, reachable=True, default_pool=settled.pool)
    folder = settled.pools.get(place.pool, Path("/POOL") / place.pool)
    name = f"{image.name}{INFIX}{_BUILD}"
    base = install_base_name(image.name, image.content, _LOCATION)
    on_iso = install.kind is InstallKind.AUTOINSTALL or install.delivery is Delivery.OEMDRV
    config = builder_config(
        name,
        image,
        install,
        host,
        pool=place.pool,
        disk=base,
    ).with_media(
        kernel=str(folder / f"{name}-kernel"),
        initrd=str(folder / f"{name}-initrd"),
        answer_iso=f"{name}-answer.iso" if on_iso else None,
    )
    config = replace(config, args=_without_logins(config.args))
    record = BuildRecord(image=image.name, content=image.content, pool=place.pool, base=base)
    if image.spec.builder.accelerator is Accelerator.AUTO:
        note("note: accelerator: auto is decided on the host (kvm where it has it); shown as tcg")
    note(
        f"note: {_LOCATION} and {_BUILD} stand for what the installer's location holds, which is"
        " known once it was fetched; the builder's UUID and MAC are new for each build"
    )
    return {
        "name": image.name,
        "digest": image.digest,
        "content": image.content,
        "kind": str(install.kind),
        "host": place.host,
        "pool": place.pool,
        "base": base,
        "answer_file": {
            "path": _answer_path(install),
            "delivery": _delivery(install),
            "content": _answer(install),
        },
        "kernel_arguments": config.args,
        "domain_xml": render_builder(config, record, _UUID),
    }


def _answer_path(install: EffectiveInstall) -> str:
    names = {
        InstallKind.KICKSTART: "ks.cfg",
        InstallKind.PRESEED: "preseed.cfg",
        InstallKind.AUTOINSTALL: "user-data",
    }
    return f"/{names[install.kind]}"


def _delivery(install: EffectiveInstall) -> str:
    if install.kind is InstallKind.AUTOINSTALL:
        return "a CD-ROM labelled CIDATA"
    if install.delivery is Delivery.OEMDRV:
        return "a CD-ROM labelled OEMDRV"
    return "the installer's initrd"


def _answer(install: EffectiveInstall) -> str:
    """The answer file, with the sources of secrets in place of the secrets."""
    text = install.answer
    if install.root_password_hash_from is not None:
        text = text.replace(ROOT_PASSWORD_HASH, _from([install.root_password_hash_from]))
    keys = list(install.ssh_authorized_keys_from)
    return _without_logins(text.replace(AUTHORIZED_KEYS_BASE64, _from(keys)) if keys else text)


def _from(refs: list[SecretRef]) -> str:
    sources = [f"file {ref.file}" if ref.file else f"credential {ref.credential}" for ref in refs]
    return f"[from {', '.join(sources)}]"


def _without_logins(text: str) -> str:
    return _LOGIN.sub("[login]@", text)


def _show(made: dict[str, Any]) -> None:
    answer = made["answer_file"]
    _part(f"answer file {answer['path']} of image {made['name']}, in {answer['delivery']}")
    _text(answer["content"])
    _part("kernel arguments")
    _text(made["kernel_arguments"])
    _part(f"builder domain on host {made['host']}")
    _text(made["domain_xml"].rstrip())


def _part(title: str) -> None:
    show(stdout(), [Text(f"--- {title}", f"{FAINT} bold")])


def _text(text: str) -> None:
    write(text if text.endswith("\n") else f"{text}\n")
