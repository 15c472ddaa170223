"""ASGI middleware that checks the ``Host`` header on TCP, against DNS rebinding.

A web page can have its own host name resolve to 127.0.0.1 after it was loaded, and then read the
metrics as if they were from its own server. Its requests carry that name as ``Host``, so requests
with a ``Host`` that is not ours are refused (421).
"""

import ipaddress
from collections.abc import Iterable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"
_LOOPBACK = "localhost"


class HostNames:
    """Passes to ``app`` the requests whose Host is a loopback name, the one of ``listen``, one of
    ``names`` (``*``: any), or the address that the client connected to.
    """

    def __init__(self, app: ASGIApp, *, listen: str, names: Iterable[str]) -> None:
        self._app = app
        self._known = {_name(listen), *(_bare(name) for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to ``app``, or answer 421 (ASGI)."""
        if scope["type"] != "http" or self._is_ours(scope):
            await self._app(scope, receive, send)
            return
        response = PlainTextResponse(
            "this address is not served under the name that was asked for (Host); ask by the"
            " address itself, or add the name to the setting listen_names\n",
            status_code=421,
        )
        await response(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        hosts = [value for key, value in scope["headers"] if key == b"host"]
        if not hosts:
            return True  # HTTP/1.0, so not a browser
        if ANY in self._known:
            return True
        name = _name(hosts[0].decode("latin-1"))
        if len(hosts) > 1 or not name:
            return False
        server = scope.get("server")
        own = _bare(str(server[0])) if server else ""
        return name in self._known or name == own or _is_loopback(name)


def _name(host: str) -> str:
    """The normalized name of ``NAME:PORT`` or ``[ADDRESS]:PORT``."""
    if host.startswith("["):
        return _bare(host[1:].partition("]")[0])
    return _bare(host.partition(":")[0])


def _bare(name: str) -> str:
    lower = name.strip().lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(lower.removeprefix("[").removesuffix("]"))
    except ValueError:
        return lower
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _is_loopback(name: str) -> bool:
    if name == _LOOPBACK or name.endswith(f".{_LOOPBACK}"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
