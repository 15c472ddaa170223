"""libvirt's domain events as words: which domain to read again, and why.

An event says which domain to read, never what to do. So only its kind is kept, and the few facts
that no later reading can tell (that a kernel panicked, when a domain was started, that a guest
refused to release a device).
"""

from collections.abc import Callable

import libvirt
import structlog

from controller.hypervisor.connection.callbacks import never_raises

log = structlog.get_logger(__name__)

_LIFECYCLE = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: "defined",
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "undefined",
    libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "suspended",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "pmsuspended",
    libvirt.VIR_DOMAIN_EVENT_CRASHED: "panicked",
}

AGENT_CONNECTED, AGENT_DISCONNECTED = "agent-connected", "agent-disconnected"
JOB_COMPLETED = "job-completed"
REMOVAL_FAILED = "device-removal-failed"

_PLAIN = {
    "METADATA_CHANGE": "metadata",
    "BALLOON_CHANGE": "balloon",
    "TRAY_CHANGE": "tray",
    "DISK_CHANGE": "disk",
    "REBOOT": "reboot",
    "IO_ERROR": "io-error",
    "JOB_COMPLETED": JOB_COMPLETED,
    "BLOCK_JOB_2": "block-job",
    "WATCHDOG": "watchdog",
    "TUNABLE": "tunable",
}
_DEVICE = {
    "DEVICE_ADDED": "device-added",
    "DEVICE_REMOVED": "device-removed",
    "DEVICE_REMOVAL_FAILED": REMOVAL_FAILED,
}

Sink = Callable[[str, str, str], None]
"""(domain, kind, device), called from libvirt's event thread. ``device`` is the alias in the
running domain if the event is about a device, else ''."""


def register(connection: libvirt.virConnect, sink: Sink) -> list[int]:
    """Registers all events that are used (``virConnectDomainEventRegisterAny``).

    Returns the callbacks' ids. Events that the host does not know are left out: the resync covers
    them. Raises ``libvirtError`` if there are no lifecycle events.
    """

    def lifecycle(
        _connection: object, domain: libvirt.virDomain, event: int, detail: int, _opaque: object
    ) -> None:
        kind = _LIFECYCLE.get(event, "changed")
        if kind == "stopped" and detail in (
            libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED,
        ):
            kind = "crashed"
        sink(domain.name(), kind, "")

    def agent(
        _connection: object, domain: libvirt.virDomain, state: int, _reason: int, _opaque: object
    ) -> None:
        connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
        sink(domain.name(), AGENT_CONNECTED if connected else AGENT_DISCONNECTED, "")

    def plain(kind: str) -> Callable[..., None]:
        def happened(_connection: object, domain: libvirt.virDomain, *_details: object) -> None:
            sink(domain.name(), kind, "")

        return happened

    def device(kind: str) -> Callable[..., None]:
        def happened(
            _connection: object, domain: libvirt.virDomain, alias: str, _opaque: object
        ) -> None:
            sink(domain.name(), kind, alias)

        return happened

    wanted: list[tuple[int, Callable[..., None]]] = [
        (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
        (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent),
    ]
    for kinds, callback_for in ((_PLAIN, plain), (_DEVICE, device)):
        for name, kind in kinds.items():
            identity = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}", None)
            if identity is not None:
                wanted.append((identity, callback_for(kind)))
    registered = []
    for identity, callback in wanted:
        try:
            registered.append(
                connection.domainEventRegisterAny(None, identity, never_raises(callback), None)
            )
        except libvirt.libvirtError as error:
            if identity == libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE:
                raise
            log.debug("event not offered by the host", event=identity, error=str(error))
    return registered
