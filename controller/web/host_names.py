"""By which names the TCP address may be asked: no page in a browser reads the metrics as its own.

A page whose name is made to mean 127.0.0.1 after it was loaded (DNS rebinding) asks us as if we
were its own server. Its requests carry that name as their ``Host``, so one that is not ours is
refused, whatever is asked.
"""

import ipaddress
from collections.abc import Iterable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"
_LOOPBACK = "localhost"


class HostNames:
    """``app``, for requests whose Host is loopback's, ``listen``'s, one of ``names``, or the
    address that the client connected to.
    """

    def __init__(self, app: ASGIApp, *, listen: str, names: Iterable[str]) -> None:
        self._app = app
        self._known = {_name(listen), *(_bare(name) for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
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
            return True  # HTTP/1.0: no browser
        if ANY in self._known:
            return True
        name = _name(hosts[0].decode("latin-1"))
        if len(hosts) > 1 or not name:
            return False
        server = scope.get("server")
        own = _bare(str(server[0])) if server else ""
        return name in self._known or name == own or _is_loopback(name)


def _name(host: str) -> str:
    """The name of ``NAME:PORT`` or ``[ADDRESS]:PORT``, in one form."""
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
