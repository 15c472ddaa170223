"""The rows of services: each field once in a Guest's own service, once in a Service document."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.field_rows import APP, WEB, Row, Seen, Takes, Tree, digest, merged, row

_PATH = "/etc/changed.conf"
Shows = Callable[[Seen], bool]
Field = tuple[str, Takes, Tree, Tree, Shows | None]


def _file(**change: str) -> dict[str, Any]:
    return {"files": [{"path": _PATH, "content": "one\n"} | change]}


def _source(name: str) -> dict[str, Any]:
    return {"files": [{"path": _PATH, "source": name}]}


def _probe(kind: str, inner: Tree, **change: Any) -> dict[str, Any]:
    return {"probes": [{"name": "up", kind: inner} | change]}


def _within(port: int, **change: Any) -> dict[str, Any]:
    return {"port": port, "from": "guest"} | change


_HTTP = _probe("httpGet", _within(80))
_TCP = _probe("tcpSocket", _within(80))
_PLAIN = _file()
FIELDS: list[Field] = [
    ("packages[]", Takes.GUEST, {}, {"packages": ["vim"]}, lambda s: _installed(s, "vim")),
    ("files[]", Takes.GUEST, {"files": []}, _PLAIN, lambda s: s.file(_PATH) != ""),
    (
        "files[].path",
        Takes.GUEST,
        _PLAIN,
        _file(path="/etc/moved.conf"),
        lambda s: s.file("/etc/moved.conf") != "",
    ),
    (
        "files[].content",
        Takes.GUEST,
        _PLAIN,
        _file(content="two\n"),
        lambda s: digest("two\n") in s.file(_PATH),
    ),
    (
        "files[].source",
        Takes.GUEST,
        _source("one.conf"),
        _source("other.conf"),
        lambda s: digest("of another file\n") in s.file(_PATH),
    ),
    ("files[].owner", Takes.GUEST, _PLAIN, _file(owner="www"), lambda s: "www:" in s.file(_PATH)),
    ("files[].group", Takes.GUEST, _PLAIN, _file(group="www"), lambda s: ":www" in s.file(_PATH)),
    ("files[].mode", Takes.GUEST, _PLAIN, _file(mode="0600"), lambda s: " 600 " in s.file(_PATH)),
    ("unit", Takes.GUEST, {}, {"unit": "other.service"}, lambda s: _active(s, "other.service")),
    ("onChange", Takes.GUEST, {}, {"onChange": "reload"}, None),
    (
        "values",
        Takes.GUEST,
        {"files": [{"path": _PATH, "content": "size {{ values.size }}\n"}]},
        {"values": {"size": 2}},
        lambda s: digest("size 2\n") in s.file(_PATH),
    ),
    (
        "probes[]",
        Takes.CONTROLLER,
        {"probes": []},
        _TCP,
        lambda s: any(one.port == 80 for one in s.probes),
    ),
    (
        "probes[].name",
        Takes.CONTROLLER,
        _TCP,
        _probe("tcpSocket", _within(80), name="there"),
        lambda s: s.probe.probe == "there",
    ),
    *(
        (
            f"probes[].{kind}.port",
            Takes.CONTROLLER,
            _probe(kind, _within(80)),
            _probe(kind, _within(81)),
            lambda s: s.probe.port == 81,
        )
        for kind in ("httpGet", "tcpSocket")
    ),
    *(
        (
            f"probes[].{kind}.from",
            Takes.CONTROLLER,
            _probe(kind, _within(80)),
            _probe(kind, {"port": 80, "from": "host"}),
            lambda s: not s.probe.inside,
        )
        for kind in ("httpGet", "tcpSocket")
    ),
    (
        "probes[].httpGet.path",
        Takes.CONTROLLER,
        _HTTP,
        _probe("httpGet", _within(80, path="/health")),
        lambda s: s.probe.path == "/health",
    ),
    (
        "probes[].httpGet.scheme",
        Takes.CONTROLLER,
        _HTTP,
        _probe("httpGet", _within(80, scheme="https")),
        lambda s: s.probe.scheme == "https",
    ),
    (
        "probes[].httpGet.headers",
        Takes.CONTROLLER,
        _HTTP,
        _probe("httpGet", _within(80, headers={"Host": "one"})),
        lambda s: s.probe.headers == (("Host", "one"),),
    ),
    (
        "probes[].exec.command[]",
        Takes.CONTROLLER,
        _probe("exec", {"command": ["true"]}),
        _probe("exec", {"command": ["true", "-v"]}),
        lambda s: s.probe.command == ("true", "-v"),
    ),
    (
        "probes[].systemdUnit.unit",
        Takes.CONTROLLER,
        _probe("systemdUnit", {"unit": "one.service"}),
        _probe("systemdUnit", {"unit": "two.service"}),
        lambda s: s.probe.command == ("two.service",),
    ),
    (
        "probes[].guestAgentPing",
        Takes.CONTROLLER,
        _TCP,
        _probe("guestAgentPing", {}),
        lambda s: s.probe.kind == "guestAgentPing",
    ),
    *(
        (
            f"probes[].{name}",
            Takes.CONTROLLER,
            _TCP,
            _probe("tcpSocket", _within(80), **{name: value}),
            lambda s, attribute=attribute, value=value: getattr(s.probe, attribute) == value,
        )
        for name, attribute, value in (
            ("periodSeconds", "period", 20.0),
            ("timeoutSeconds", "timeout", 5.0),
            ("failureThreshold", "failure_threshold", 7),
            ("successThreshold", "success_threshold", 2),
            ("initialDelaySeconds", "initial_delay", 3.0),
            ("startupSeconds", "startup", 90.0),
        )
    ),
]


def _installed(seen: Seen, package: str) -> bool:
    return seen.inside is not None and seen.inside.packages.get(package) is not None


def _active(seen: Seen, unit: str) -> bool:
    fact = seen.inside.units.get(unit) if seen.inside is not None else None
    return fact is not None and fact.active == "active"


def _inline(change: Tree) -> dict[str, Any]:
    return {"services": [merged(WEB, change)]}


def _of_guests() -> Iterator[Row]:
    for path, takes, before, after, shows in FIELDS:
        yield row(
            f"services[].{path}",
            takes,
            _inline(merged(before, after)),
            before=_inline(before),
            shows=shows,
        )


def _of_services() -> Iterator[Row]:
    used = {"Guest": {"services": [{"use": "app"}]}}
    for path, takes, before, after, shows in FIELDS:
        yield row(
            f"Service.spec.{path}",
            takes,
            merged(APP, before, after),
            before=merged(APP, before),
            beside=used,
            shows=shows,
        )


GUEST_SERVICE_ROWS = [
    *_of_guests(),
    row(
        "services[]",
        Takes.GUEST,
        {"services": [WEB, {"use": "app"}, {"use": "spare"}]},
        shows=lambda seen: _installed(seen, "less"),
    ),
    row(
        "services[].use",
        Takes.GUEST,
        {"services": [WEB, {"use": "spare"}]},
        shows=lambda seen: _installed(seen, "less"),
    ),
    row(
        "services[].name",
        Takes.GUEST,
        {"services": [WEB | {"name": "www"}, {"use": "app"}]},
        shows=lambda seen: seen.probe.service == "www",
    ),
    row("services[].validate", Takes.REFUSED, _inline({"validate": "true"}), says="not supported"),
    row(
        "Guest.metadata.labels",
        Takes.GUEST,
        {"metadata": {"labels": {"tier": "back"}}},
        before={"metadata": {"labels": {"tier": "front"}}},
        beside={"Guest": _inline(_file(content="{{ guest.labels.tier }}\n"))},
        shows=lambda seen: digest("back\n") in seen.file(_PATH),
        why="read by a template",
    ),
]
SERVICE_ROWS = [
    *_of_services(),
    row("Service.spec.validate", Takes.REFUSED, {"validate": "true"}, says="not supported yet"),
    row("Service.apiVersion", Takes.REFUSED, {"apiVersion": "guestkeeper/v2"}, says="v1alpha1"),
    row("Service.kind", Takes.REFUSED, {"kind": "Server"}, says="Server"),
    row("Service.metadata.name", Takes.ANOTHER, {"metadata": {"name": "another"}}),
    row("Service.metadata.labels", Takes.CONTROLLER, {"metadata": {"labels": {"tier": "front"}}}),
    row(
        "Service.metadata.annotations", Takes.CONTROLLER, {"metadata": {"annotations": {"a": "b"}}}
    ),
]
