"""Determines the probes that should run for a guest now, and the target of each."""

from urllib.parse import urlsplit

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.service import Probe
from controller.observed.domain import DomainView
from controller.observed.health import ProbeTarget
from controller.observed.host import HostView
from controller.observed.inside import InsideView


def probe_targets(
    guest: EffectiveGuest, host: HostView, domain: DomainView, inside: InsideView | None
) -> tuple[ProbeTarget, ...]:
    """The targets of all probes of all services; thresholds begin anew with each boot."""
    epoch = f"{domain.uuid}/{domain.started_at}"
    return tuple(
        _target(guest, host, inside, service.name, probe, epoch)
        for service in guest.services
        for probe in service.probes
    )


def _target(
    guest: EffectiveGuest,
    host: HostView,
    inside: InsideView | None,
    service: str,
    probe: Probe,
    epoch: str,
) -> ProbeTarget:
    network = probe.http_get or probe.tcp_socket
    within = network is None or network.from_ == "guest"
    address: str | None = None
    port: int | None = None
    if network is not None:
        port = network.port
        if within:
            address = "127.0.0.1"
        else:
            address, port = _from_host(guest, host, inside, network.port)
    http = probe.http_get
    return ProbeTarget(
        guest=guest.name,
        host=guest.spec.host,
        service=service,
        probe=probe.name,
        kind=_kind(probe),
        inside=within,
        address=address,
        port=port,
        path=http.path if http else "",
        scheme=http.scheme if http else "",
        headers=tuple(sorted(http.headers.items())) if http else (),
        command=_command(probe),
        period=probe.period_seconds,
        timeout=probe.timeout_seconds,
        failure_threshold=probe.failure_threshold,
        success_threshold=probe.success_threshold,
        initial_delay=probe.initial_delay_seconds,
        startup=probe.startup_seconds,
        epoch=epoch,
    )


def _kind(probe: Probe) -> str:
    if probe.http_get is not None:
        return "httpGet"
    if probe.tcp_socket is not None:
        return "tcpSocket"
    if probe.exec is not None:
        return "exec"
    return "systemdUnit" if probe.systemd_unit is not None else "guestAgentPing"


def _command(probe: Probe) -> tuple[str, ...]:
    if probe.exec is not None:
        return tuple(probe.exec.command)
    return (probe.systemd_unit.unit,) if probe.systemd_unit is not None else ()


def _from_host(
    guest: EffectiveGuest, host: HostView, inside: InsideView | None, port: int
) -> tuple[str | None, int]:
    """Address and port to probe ``port`` from the host: a forward of user networking, else the
    guest's own first address; no address if there is neither.

    A forward is on the host that runs the guest; if it binds to loopback there, a daemon on another
    machine cannot reach it.
    """
    remote = urlsplit(host.uri).hostname
    for nic in guest.spec.interfaces:
        for forward in nic.user.forwards if nic.user is not None else ():
            if forward.guest_port != port or forward.protocol != "tcp":
                continue
            if forward.address == "0.0.0.0":  # noqa: S104 - compared, not bound
                return remote or "127.0.0.1", forward.host_port
            if remote is None or not forward.address.startswith("127."):
                return forward.address, forward.host_port
    routed = any(nic.user is None for nic in guest.spec.interfaces)
    if routed and inside is not None and inside.addresses:
        return inside.addresses[0], port
    return None, port
