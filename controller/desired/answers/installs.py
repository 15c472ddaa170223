"""Turn an Image document with an unattended install into the checked install that is built.

Everything that can be known without an installer is checked here, when the document is loaded: a
mistake in an answer file costs a person a glance now, and an hour of a builder later.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.desired.answers.autoinstall import autoinstall_findings
from controller.desired.answers.kickstart import kickstart_findings
from controller.desired.answers.ksvalidator import Ksvalidator, ValidatorError
from controller.desired.answers.preseed import preseed_findings
from controller.desired.answers.render import line_places, render_answer
from controller.desired.answers.rules import Finding
from controller.desired.answers.templates import TemplateSet
from controller.desired.catalog.resolve import digest_of, plain
from controller.desired.effective import (
    AUTHORIZED_KEYS_BASE64,
    ROOT_PASSWORD_HASH,
    EffectiveInstall,
    InstallKind,
)
from controller.desired.schema.documents import ImageDocument
from controller.desired.schema.image import Install, Kickstart
from controller.desired.templates.sandbox import TemplateError
from controller.desired.templates.used_values import named_values
from controller.desired.text.parse import LoadedDocument
from controller.desired.text.problems import MAX_PROBLEMS, Problem, format_path, suggestion

KSVALIDATOR = Ksvalidator()
"""One for the process, so that a document that several readers load is checked once."""
_FINDINGS = {
    InstallKind.KICKSTART: kickstart_findings,
    InstallKind.PRESEED: preseed_findings,
    InstallKind.AUTOINSTALL: autoinstall_findings,
}
_LOGIN = re.compile(r"(?<=://)[^/?#@]*@")


@dataclass(frozen=True, slots=True)
class LoadedInstall:
    """The install; None if it has ``problems``. ``again``: the next scan may judge otherwise."""

    install: EffectiveInstall | None
    problems: tuple[Problem, ...] = ()
    again: bool = False


def load_install(
    document: LoadedDocument, templates: TemplateSet, validator: Ksvalidator
) -> LoadedInstall:
    """The install of an Image document, with its answer file rendered and checked."""
    image = document.model
    assert isinstance(image, ImageDocument)  # noqa: S101
    kind, install = install_of(image)
    where = f"spec.source.{kind}"
    if templates.flaw is not None:
        flaw = document.problem(f"{where}.template", str(templates.flaw))
        return LoadedInstall(None, (flaw,))
    variables = _variables(image, kind, install)
    problems = list(_unread_values(document, where, install, templates))
    try:
        answer = render_answer(templates, variables)
    except TemplateError as error:
        problems.append(document.problem(f"{where}.template", str(error)))
        return LoadedInstall(None, tuple(problems))
    findings = list(_FINDINGS[kind](answer))
    again = False
    if isinstance(install, Kickstart):
        try:
            verdict = validator.check(answer, install.version)
            if verdict.unknown_version:
                message = f"pykickstart knows no version {install.version}; write one of"
                known = ", ".join(validator.versions())
                problems.append(document.problem(f"{where}.version", f"{message} {known}"))
            secret = {finding.line for finding in findings if finding.secret}
            hidden = secret | ({0} if secret else set())
            findings += [
                Finding(complaint.line, complaint.message)
                for complaint in verdict.complaints
                if complaint.line not in hidden  # the message may quote the secret
            ]
        except ValidatorError as error:
            again = True
            findings.append(Finding(0, str(error)))
    told = _told(findings, templates, variables, answer)
    problems += [document.problem(f"{where}.template", text) for text in told]
    if problems:
        return LoadedInstall(None, tuple(problems), again)
    return LoadedInstall(_effective(image, kind, install, answer))


def install_of(image: ImageDocument) -> tuple[InstallKind, Install]:
    """The kind of the Image's unattended install, and the install."""
    source = image.spec.source
    for kind in InstallKind:
        install = getattr(source, kind.value)
        if install is not None:
            assert isinstance(install, Install)  # noqa: S101
            return kind, install
    raise ValueError("the Image is no unattended install")


def _variables(image: ImageDocument, kind: InstallKind, install: Install) -> dict[str, Any]:
    location = install.location
    hashed, keys = install.root_password_hash_from, install.ssh_authorized_keys_from
    return {
        "values": install.values,
        "image": {
            "name": image.metadata.name,
            "osFamily": image.spec.os_family.value,
            "cloudInit": image.spec.cloud_init,
        },
        "install": {
            "kind": kind.value,
            "version": install.version if isinstance(install, Kickstart) else "",
            "repo": location.tree or location.repo or "",
            "firmware": image.spec.builder.firmware.value,
        },
        "root_password_hash": ROOT_PASSWORD_HASH if hashed is not None else "",
        "authorized_keys_base64": AUTHORIZED_KEYS_BASE64 if keys else "",
    }


def _unread_values(
    document: LoadedDocument, where: str, install: Install, templates: TemplateSet
) -> Iterator[Problem]:
    """Problems for values that neither the template nor a snippet reads: misspelt or unused."""
    known: set[str] = set()
    for file in templates.files.values():
        named = named_values(file.text)
        if named is None:
            return
        known |= named
    for key in install.values:
        if key in known:
            continue
        tip = suggestion(key, known, listing="it has") if known else "it takes none; remove it"
        field = format_path((*where.split("."), "values", key))
        label = templates.files[templates.root].label
        yield document.problem(field, f"{label} has no such value; {tip}")


def _told(
    findings: list[Finding], templates: TemplateSet, variables: Mapping[str, Any], answer: str
) -> list[str]:
    """The findings as texts, with places in the templates instead of the rendering."""
    if not findings:
        return []
    label = templates.files[templates.root].label
    places = None
    if any(finding.line for finding in findings):
        places = line_places(templates, variables, answer)
    told: dict[str, None] = {}
    for finding in sorted(findings):
        if not finding.line or places is None:
            told[f"{label}: {finding.message}"] = None
        else:
            name, line = places[min(finding.line, len(places)) - 1]
            told[f"{name} line {line}: {finding.message}"] = None
    texts = list(told)
    if len(texts) > MAX_PROBLEMS:
        rest = len(texts) - MAX_PROBLEMS
        texts = [*texts[:MAX_PROBLEMS], f"{label}: {rest} more problems; fix these first"]
    return texts


def _effective(
    image: ImageDocument, kind: InstallKind, install: Install, answer: str
) -> EffectiveInstall:
    spec = image.spec
    parts = {
        "kind": kind.value,
        "version": install.version if isinstance(install, Kickstart) else "",
        "answer": answer,
        "location": {
            key: _without_login(value) if isinstance(value, str) else value
            for key, value in plain(install.location).items()
        },
        "delivery": install.delivery.value if isinstance(install, Kickstart) else "",
        "disk": spec.disk.size,
        "firmware": spec.builder.firmware.value,
        "secrets": plain(install, include={"root_password_hash_from", "ssh_authorized_keys_from"}),
    }
    return EffectiveInstall(
        kind=kind,
        answer=answer,
        location=install.location,
        delivery=install.delivery if isinstance(install, Kickstart) else None,
        disk_size=spec.disk.size,
        firmware=spec.builder.firmware,
        root_password_hash_from=install.root_password_hash_from,
        ssh_authorized_keys_from=tuple(install.ssh_authorized_keys_from),
        digest=digest_of(parts),
    )


def _without_login(url: str) -> str:
    """The URL without user and password, because a login does not change what is fetched."""
    return _LOGIN.sub("", url)
