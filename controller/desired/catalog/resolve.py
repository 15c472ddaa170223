"""Resolve a Guest document, with everything that it names, to its effective desired state.

Pure except for Jinja2: the same documents give the same digests, whatever file they are in and in
whatever order they were read, so a digest can be compared across restarts of the daemon.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from controller.desired.effective import (
    EffectiveGuest,
    EffectiveImage,
    EffectiveService,
    RenderedFile,
)
from controller.desired.schema.documents import GuestDocument, ImageDocument, ServiceDocument
from controller.desired.schema.guest import GuestSpec
from controller.desired.schema.quantities import format_size
from controller.desired.schema.service import File, GuestService, ServiceSpec
from controller.desired.templates.sandbox import TemplateError, compile_template, render
from controller.desired.templates.used_values import named_values
from controller.desired.text.parse import LoadedDocument
from controller.desired.text.problems import Problem, format_path, suggestion


def digest_of(data: Any) -> str:
    """sha256 over canonical JSON, in hex."""
    text = json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def plain(model: Any, **options: Any) -> Any:
    """A model as JSON data without defaults, so that neither writing a default out nor adding a
    field to the schema changes a digest."""
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True, **options)


def effective_image(document: LoadedDocument) -> EffectiveImage:
    """The effective image of an Image document."""
    model = document.model
    assert isinstance(model, ImageDocument)  # noqa: S101
    spec, install = model.spec, document.install
    digest = digest_of(plain(spec))
    if install is None:
        # The roll-out (how new content reaches the guests) is no part of the content.
        content = digest_of(plain(spec, exclude={"rollout"}))
        return EffectiveImage(document.name, spec, digest, content)
    parts = {
        "install": install.digest,
        "osFamily": spec.os_family.value,
        "cloudInit": spec.cloud_init,
    }
    content = digest_of(parts)
    return EffectiveImage(document.name, spec, digest_of([digest, content]), content, install)


def _misfits(document: LoadedDocument, spec: GuestSpec, image: EffectiveImage) -> Iterator[Problem]:
    """Problems of a guest whose firmware or disk size does not fit its installed image."""
    install = image.install
    if install is None:
        return
    if spec.firmware is not install.firmware:
        message = (
            f"Image {image.name} is installed for {install.firmware} and boots by no other;"
            f" write firmware: {install.firmware}, or change the Image's builder.firmware"
        )
        yield document.problem("spec.firmware", message)
    size = spec.system_disk.size
    if size is not None and size < install.disk_size:
        least = format_size(install.disk_size)
        message = (
            f"{format_size(size)} is smaller than the disk that Image {image.name} is installed to;"
            f" write {least} or more, or leave it out"
        )
        yield document.problem("spec.systemDisk.size", message)


def merge_values(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` overlaid: mappings are merged at every depth, anything else (lists too) replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_values(old, value)
        else:
            merged[key] = value
    return merged


def check_templates(document: LoadedDocument) -> list[Problem]:
    """Problems of templates that do not compile, so that no guest could ever use them."""
    problems = []
    for where, file in _all_files(document):
        try:
            compile_template(_text(document, file))
        except TemplateError as error:
            problems.append(_template_problem(document, where, file, str(error)))
    return problems


def _all_files(document: LoadedDocument) -> list[tuple[str, File]]:
    model = document.model
    if isinstance(model, ServiceDocument):
        return [(f"spec.files[{i}]", file) for i, file in enumerate(model.spec.files)]
    if isinstance(model, GuestDocument):
        return [
            (f"spec.services[{n}].files[{i}]", file)
            for n, service in enumerate(model.spec.services)
            for i, file in enumerate(service.files)
        ]
    return []


def _text(document: LoadedDocument, file: File) -> str:
    return document.sources[file.source] if file.source is not None else file.content or ""


def _template_problem(document: LoadedDocument, where: str, file: File, message: str) -> Problem:
    if file.source is None:
        return document.problem(f"{where}.content", message)
    return document.problem(f"{where}.source", f"{file.source}: {message}")


class GuestResolver:
    """Resolves guests; equal services of many guests share one object."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], EffectiveService] = {}
        self._files: dict[RenderedFile, RenderedFile] = {}
        self._probes: dict[int, tuple[ServiceSpec, str]] = {}

    @property
    def size(self) -> int:
        """The number of objects that are kept to be shared."""
        return len(self._services) + len(self._files) + len(self._probes)

    def resolve(
        self,
        document: LoadedDocument,
        image: EffectiveImage,
        used: Mapping[str, LoadedDocument],
    ) -> tuple[EffectiveGuest | None, tuple[Problem, ...]]:
        """The effective guest, or the problems that prevent it.

        ``used`` has the Service documents by name.
        """
        model = document.model
        assert isinstance(model, GuestDocument)  # noqa: S101
        spec = model.spec
        labels = dict(model.metadata.labels)
        variables = {
            "name": document.name,
            "hostname": spec.hostname or document.name,
            "labels": labels,
            "image": spec.image,
            "host": spec.host,
        }
        problems = list(_misfits(document, spec, image))
        services: list[EffectiveService] = []
        digests: list[list[str]] = []
        owners: dict[str, str] = {}
        for index, item in enumerate(spec.services):
            name, source, base, where = _base(document, item, index, used)
            values = dict(item.values)
            if item.use is not None:
                problems += _unread_values(document, item, index, source, base)
                values = merge_values(base.values, values)
            context = {"guest": variables, "service": {"name": name}, "values": values}
            files = self._render(document, source, base, where, context, problems)
            for file in files:
                first = owners.setdefault(file.path, name)
                if first != name:
                    field = f"spec.services[{index}]"
                    message = (
                        f"services {first} and {name} both write {file.path};"
                        " keep the file in one of them"
                    )
                    problems.append(document.problem(field, message))
            service = self._service(name, base, files)
            services.append(service)
            digests.append([service.digest, self._probes_digest(base)])
        if problems:
            return None, tuple(problems)
        parts = {
            "labels": labels,
            "spec": plain(spec, exclude={"services"}),
            "image": image.content,
            "services": digests,
        }
        effective = EffectiveGuest(
            document.name,
            tuple(sorted(labels.items())),
            spec,
            image,
            tuple(services),
            document.origin,
            digest_of(parts),
        )
        return effective, ()

    def _render(
        self,
        guest: LoadedDocument,
        source: LoadedDocument,
        spec: ServiceSpec,
        where: str,
        context: Mapping[str, Any],
        problems: list[Problem],
    ) -> tuple[RenderedFile, ...]:
        files = []
        for index, file in enumerate(spec.files):
            try:
                content = render(_text(source, file), context)
            except TemplateError as error:
                about = "" if source is guest else f" (for Guest {guest.name}, {guest.origin})"
                problems.append(
                    _template_problem(source, f"{where}.files[{index}]", file, f"{error}{about}")
                )
                continue
            rendered = RenderedFile(
                file.path,
                content,
                hashlib.sha256(content).hexdigest(),
                file.owner,
                file.group,
                int(file.mode, 8),
            )
            files.append(self._files.setdefault(rendered, rendered))
        return tuple(files)

    def _service(
        self, name: str, spec: ServiceSpec, files: tuple[RenderedFile, ...]
    ) -> EffectiveService:
        digest = digest_of(
            {
                "name": name,
                "packages": spec.packages,
                "files": [[f.path, f.sha256, f.owner, f.group, f.mode] for f in files],
                "unit": spec.unit,
                "onChange": spec.on_change.value,
            }
        )
        service = EffectiveService(
            name,
            tuple(spec.packages),
            files,
            spec.unit,
            spec.on_change,
            tuple(spec.probes),
            digest,
        )
        return self._services.setdefault((digest, self._probes_digest(spec)), service)

    def _probes_digest(self, spec: ServiceSpec) -> str:
        known = self._probes.get(id(spec))
        if known is None:
            # The spec is kept beside its digest, so that its id is not reused for another object.
            known = (spec, digest_of([plain(probe) for probe in spec.probes]))
            self._probes[id(spec)] = known
        return known[1]


def _base(
    document: LoadedDocument, item: GuestService, index: int, used: Mapping[str, LoadedDocument]
) -> tuple[str, LoadedDocument, ServiceSpec, str]:
    """A service's name, the document and spec that define it, and the path in that document."""
    if item.use is None:
        return item.name or "", document, item, f"spec.services[{index}]"
    source = used[item.use]
    model = source.model
    assert isinstance(model, ServiceDocument)  # noqa: S101
    return item.use, source, model.spec, "spec"


def _unread_values(
    document: LoadedDocument,
    item: GuestService,
    index: int,
    source: LoadedDocument,
    spec: ServiceSpec,
) -> list[Problem]:
    """Problems for values that the guest gives and the Service does not read: misspelt, unused."""
    strange = [key for key in item.values if key not in spec.values]
    if not strange:
        return []
    known = set(spec.values)
    for file in spec.files:
        named = named_values(_text(source, file))
        if named is None:
            return []
        known |= named
    problems = []
    for key in strange:
        if key in known:
            continue
        tip = suggestion(key, known, listing="it has") if known else "it takes none; remove it"
        field = format_path(("spec", "services", index, "values", key))
        problems.append(document.problem(field, f"Service {item.use} has no such value; {tip}"))
    return problems
