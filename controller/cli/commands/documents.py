"""Commands that need documents only, and no host: ``validate``, ``render``, ``schema``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from controller.cli.client.names import image_name
from controller.cli.client.options import Output
from controller.cli.errors import DONE, INVALID, CliError
from controller.cli.terminal.formats import dump
from controller.cli.terminal.output import FAINT, count, hint, say, show, stderr, stdout, write
from controller.desired.catalog.catalog import load_paths
from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveGuest, RenderedFile
from controller.hypervisor.xml.render import render as render_xml
from controller.observed.domain import DomainConfig, Ownership
from controller.observed.host import HostView
from controller.observed.image import ImageState, ImageView
from controller.planning.wanted.domain import wanted_config
from controller.settings import Settings, machine_identity


def validate(paths: Sequence[Path], settings: Settings | None, output: Output) -> int:
    """Print problems on stderr, a summary on stdout; returns the exit code.

    ``settings`` None: names of hosts and permissions of files are not checked.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise CliError(f"{missing[0]}: does not exist; name a file or a directory", INVALID)
    hosts = list(settings.hosts) if settings is not None else None
    snapshot = load_paths(list(paths), hosts, check_permissions=settings is not None)
    if output in (Output.JSON, Output.YAML):
        from controller.web.views import problem_view

        dump(
            {
                "valid": not snapshot.problems,
                "documents": usable(snapshot),
                "problems": [problem_view(problem) for problem in snapshot.problems],
            },
            output,
        )
        return INVALID if snapshot.problems else DONE
    console = stderr()
    for problem in snapshot.problems:
        place = f"{problem.file}:{problem.line}" if problem.line else problem.file
        line = Text(f"{place}: ", "bold")
        if problem.field:
            line.append(f"{problem.field}: ", "yellow")
        console.print(line.append(problem.message, "not bold"))
    good = summary(snapshot)
    if not snapshot.problems:
        stdout().print(f"valid: {good}")
        return DONE
    many = count(len(snapshot.problems), "problem")
    files = len({problem.file for problem in snapshot.problems})
    console.print(f"{many} in {count(files, 'file')}; without them: {good}")
    return INVALID


def usable(snapshot: Snapshot) -> dict[str, int]:
    """Usable documents by kind; a valid Guest that names an unknown Image does not count."""
    return {**snapshot.documents, "Guest": len(snapshot.guests)}


def summary(snapshot: Snapshot) -> str:
    """``2 guests, 1 image``."""
    words = [count(number, kind.lower()) for kind, number in usable(snapshot).items() if number]
    return ", ".join(words) or "no documents"


def schema() -> None:
    """Print the JSON Schema of the documents."""
    from controller.desired.schema.json_schema import json_schema

    write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
    hint("for an editor: guestkeeper schema > guestkeeper.schema.json")


def render(settings: Settings, name: str, output: Output) -> int:
    """Print what a new guest, or an image's build, would be made of. No host is asked."""
    snapshot = load_paths([settings.desired_dir], list(settings.hosts))
    guest = snapshot.guests.get(name)
    if guest is not None:
        return _render_guest(settings, guest, output)
    image = snapshot.images.get(image_name(name) or name)
    if image is not None:
        from controller.cli.commands.render_image import render_image

        return render_image(settings, snapshot, image, output)
    problems = snapshot.document_problems(name)
    for problem in problems:
        say(str(problem))
    if problems:
        raise CliError(f"{name} has errors; correct them first", INVALID)
    known = ", ".join([*sorted(snapshot.guests), *sorted(snapshot.images)]) or "none"
    wrong = "; what is wrong with others: guestkeeper validate" if snapshot.problems else ""
    raise CliError(
        f"no guest or image is named `{name}` in {settings.desired_dir}; there are: {known}{wrong}",
        INVALID,
    )


def _render_guest(settings: Settings, guest: EffectiveGuest, output: Output) -> int:
    notes: list[str] = []
    config = _config(settings, guest, notes)
    owner = Ownership(uid=config.uuid, name=guest.name, generation=1, digest="", spec="")
    xml = render_xml(config, owner)
    for note in notes:
        say(f"note: {note}")
    if output in (Output.JSON, Output.YAML):
        dump({"item": _document(guest, xml)}, output)
    else:
        _show(guest, xml)
    return DONE


def _config(settings: Settings, guest: EffectiveGuest, notes: list[str]) -> DomainConfig:
    """The domain as the planner would define it on a host that has nothing of the guest yet."""
    settled = settings.hosts[guest.spec.host]
    host = HostView(
        name=guest.spec.host, uri=settled.uri, reachable=True, default_pool=settled.pool
    )
    if str(guest.spec.accelerator) == "auto":
        notes.append("accelerator: auto is decided on the host (kvm where it has it); shown as tcg")
    boot = guest.image.spec.boot
    pool = guest.spec.system_disk.pool or settled.pool
    place = settled.pools.get(pool, Path("/POOL") / pool)
    if boot is not None:
        notes.append("kernel and initrd get their names in the pool when the image is prepared")
    image = ImageView(
        name=guest.image.name,
        host=host.name,
        pool=pool,
        state=ImageState.READY,
        kernel_path=str(place / Path(boot.kernel).name) if boot is not None else None,
        initrd_path=str(place / Path(boot.initrd).name) if boot and boot.initrd else None,
    )
    return wanted_config(guest, host, None, image, machine_identity(settings))


def _document(guest: EffectiveGuest, xml: str) -> dict[str, Any]:
    return {
        "name": guest.name,
        "digest": guest.digest,
        "domain_xml": xml,
        "hostname": guest.hostname,
        "services": [
            {
                "name": service.name,
                "packages": list(service.packages),
                "unit": service.unit,
                "files": [
                    {
                        "path": file.path,
                        "owner": file.owner,
                        "group": file.group,
                        "mode": f"{file.mode:04o}",
                        "sha256": file.sha256,
                        "content": _text(file),
                    }
                    for file in service.files
                ],
            }
            for service in guest.services
        ],
    }


def _text(file: RenderedFile) -> str | None:
    try:
        return file.content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _show(guest: EffectiveGuest, xml: str) -> None:
    console = stdout()
    _title(f"domain {guest.name}")
    write(xml.rstrip() + "\n")
    for service in guest.services:
        if service.packages or service.unit:
            _title(f"service {service.name}")
        if service.packages:
            console.print(f"packages: {' '.join(service.packages)}")
        if service.unit:
            change = f" ({service.on_change} when a file changes)" if service.files else ""
            console.print(f"unit: {service.unit}, enabled and active{change}")
        for file in service.files:
            _title(
                f"file {file.path} of service {service.name},"
                f" {file.owner}:{file.group} {file.mode:04o}"
            )
            text = _text(file)
            if text is None:
                console.print(f"({len(file.content)} bytes that are no text)")
            else:
                write(text if text.endswith("\n") else f"{text}\n")


def _title(text: str) -> None:
    show(stdout(), [Text(f"--- {text}", f"{FAINT} bold")])
