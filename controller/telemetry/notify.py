"""sd_notify(3): tells systemd that the daemon is ready, reloading, stopping or alive (watchdog).

A few datagrams need no library. Without ``$NOTIFY_SOCKET`` (a terminal, a container) everything
here is a no-op, and errors of the socket are never raised.
"""

import os
import socket
import time
from collections.abc import Mapping

_TIMEOUT = 1.0  # seconds; the daemon must not hang while systemd's queue is full


class Notifier:
    """Sends to the service manager's socket. The methods return whether the message was sent."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]
        # Other forms (vsock:) are for virtual machines that notify their host.
        self._address = address if address[:1] in ("/", "\0") else ""
        self._environment = environment

    def ready(self, status: str = "") -> bool:
        """The daemon is up, or a reload is done."""
        return self._send("READY=1", *_status(status))

    def reloading(self) -> bool:
        """A reload begins; ``ready`` ends it. For ``Type=notify-reload``."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> bool:
        """The daemon begins to stop."""
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """The loop makes progress. Call it every ``watchdog_interval`` seconds."""
        return self._send("WATCHDOG=1")

    def watchdog_interval(self) -> float | None:
        """Seconds between ``watchdog`` calls: half of what systemd allows; None if it is off.

        Off, too, where ``$WATCHDOG_PID`` is another process (sd_watchdog_enabled(3)).
        """
        if self._environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        try:
            limit = int(self._environment.get("WATCHDOG_USEC", "0"))
        except ValueError:
            return None
        return limit / 2 / 1_000_000 if limit > 0 else None

    def _send(self, *lines: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_TIMEOUT)
                sender.connect(self._address)
                sender.sendall("\n".join(lines).encode("utf-8", "replace"))
        except OSError:  # systemd is not there or does not read; the daemon can do nothing
            return False
        return True


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []
