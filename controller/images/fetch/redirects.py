"""HTTP GET with restricted redirects: a server must not choose which addresses we ask (SSRF).

The daemon runs beside services that trust their neighbours: metadata services, routers, services
on loopback. So a redirect to a loopback, link-local or private address is followed only where the
document's own address is of that kind, and one from https to http only where the checksum came
another way. A redirect's body is not read. Errors name its target, but quote no server's text.
"""

import ipaddress
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus

import httpx

from controller import __version__
from controller.errors import PermanentError

_CONNECT_SECONDS = 15.0
_MOST = 5
"""Redirects in a row."""


class Kind(StrEnum):
    """From where an address can be reached."""

    PUBLIC = "public"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    LOOPBACK = "loopback"


def new_client(stall_timeout: float) -> httpx.Client:
    """An HTTP client without redirects, for ``get``. ``stall_timeout``: seconds without a byte."""
    return httpx.Client(
        follow_redirects=False,
        timeout=httpx.Timeout(stall_timeout, connect=_CONNECT_SECONDS),
        headers={"User-Agent": f"guestkeeper/{__version__}", "Accept-Encoding": "identity"},
    )


@contextmanager
def get(
    client: httpx.Client, url: str, *, headers: Mapping[str, str] | None = None, secure: bool
) -> Iterator[httpx.Response]:
    """The answer, of which only the head was read. ``secure``: no redirect from https to http.

    Raises ``PermanentError(reason="DownloadRefused")`` for a redirect that is not followed, or an
    ``httpx.HTTPError``.
    """
    target = httpx.URL(url)
    allowed: frozenset[Kind] | None = None
    for _ in range(_MOST + 1):
        response = _send(client, url, target, headers, allowed)
        try:
            if not response.has_redirect_location:
                yield response
                return
        finally:
            response.close()
        if allowed is None:
            allowed = frozenset({Kind.PUBLIC, *map(kind_of, _addresses(target))})
        target = _next(url, target, response.headers["location"], secure=secure)
    raise refused(url, f"it is redirected more than {_MOST} times")


def _next(url: str, before: httpx.URL, location: str, *, secure: bool) -> httpx.URL:
    try:
        target = before.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise refused(url, "it is redirected to what is no address") from error
    if target.scheme not in ("http", "https") or not target.host:
        raise refused(url, "it is redirected to what is no http:// or https:// address")
    if secure and before.scheme == "https" and target.scheme == "http":
        raise refused(
            url,
            f"it is redirected from https to http ({shown(str(target))}), where anybody on the way"
            " could change both the file and its checksum; give an address that stays with https",
        )
    if target.host == before.host and not target.userinfo and _same_or_better(before, target):
        target = target.copy_with(username=before.username, password=before.password)
    return target


def _same_or_better(before: httpx.URL, after: httpx.URL) -> bool:
    """Whether ``after`` may get the login of ``before``, by the rule of browsers and of httpx."""
    if (before.scheme, before.port) == (after.scheme, after.port):
        return True
    return (before.scheme, after.scheme) == ("http", "https") and {before.port, after.port} == {
        None
    }


def _send(
    client: httpx.Client,
    url: str,
    target: httpx.URL,
    headers: Mapping[str, str] | None,
    allowed: frozenset[Kind] | None,
) -> httpx.Response:
    request = client.build_request("GET", target, headers=headers)
    if allowed is None:
        return client.send(request, stream=True)
    addresses = _addresses(target)
    for address in addresses:
        kind = kind_of(address)
        if kind not in allowed:
            raise refused(
                url,
                f"it is redirected to {shown(str(target))}, a {kind} address; if that is meant,"
                " name that address in the document",
            )
    if not addresses or _proxied(target):
        return client.send(request, stream=True)
    failed: httpx.HTTPError | None = None
    for address in addresses:
        # Connect to the address that was checked: a second look-up may return another one.
        pinned = client.build_request(
            "GET",
            target.copy_with(host=address),
            headers={**(headers or {}), "Host": request.headers["host"]},
            extensions={"sni_hostname": target.host},
        )
        try:
            return client.send(pinned, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failed = error
    assert failed is not None  # noqa: S101 - there was an address
    raise failed


def kind_of(address: str) -> Kind:
    """The kind of an IP address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    if ip.is_loopback or ip.is_unspecified:
        return Kind.LOOPBACK
    if ip.is_link_local:
        return Kind.LINK_LOCAL
    return Kind.PUBLIC if ip.is_global and not ip.is_multicast else Kind.PRIVATE


def _addresses(url: httpx.URL) -> list[str]:
    """The addresses of the URL's host; empty where a proxy looks it up, and we cannot."""
    try:
        return [str(ipaddress.ip_address(url.host.partition("%")[0]))]
    except ValueError:
        if _proxied(url):
            return ["127.0.0.1"] if url.host == "localhost" else []
    return look_up(url.host)


def look_up(host: str) -> list[str]:
    """The addresses of a name (getaddrinfo(3)). Raises ``httpx.ConnectError`` if it is unknown."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"the name {host} cannot be looked up") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _proxied(url: httpx.URL) -> bool:
    proxies = urllib.request.getproxies()
    if not proxies.get(url.scheme, proxies.get("all")):
        return False
    return not urllib.request.proxy_bypass(url.host)


def refused(url: str, what: str) -> PermanentError:
    return PermanentError(f"{shown(url)} cannot be downloaded: {what}", reason="DownloadRefused")


def status_words(status: int) -> str:
    """``HTTP 404 Not Found``, in the standard's words and not the server's."""
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def failure_words(error: httpx.HTTPError) -> str:
    """What failed, without any text of the server, which may be no web server at all."""
    if isinstance(error, httpx.RemoteProtocolError):
        return "the answer broke off, or is not HTTP"
    if isinstance(error, httpx.DecodingError):
        return "the answer cannot be decoded"
    return str(error) or type(error).__name__


def shown(url: str) -> str:
    """The URL without what may be a secret: user, password and query."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "(invalid address)"
    port = f":{parsed.port}" if parsed.port is not None else ""
    return f"{parsed.scheme}://{parsed.host}{port}{parsed.path}"
