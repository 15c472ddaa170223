"""A server that is asked for an image does not choose whom the daemon asks, nor what it says."""

import gzip
import shutil
import socketserver
import ssl
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.images.fetch import redirects
from controller.images.fetch.http import Pace
from controller.images.fetch.redirects import Kind, get, kind_of
from controller.images.fetch.texts import fetch_text
from tests.unit.images.origin import Origin, serving

PACE = Pace(stall_timeout=5, tries=2, backoff=0.01, max_backoff=0.02)
NAMES = {
    "mirror.example": ["93.184.216.34"],
    "other.example": ["93.184.216.35"],
    "mirror.corp": ["10.1.2.3"],
    "other.corp": ["10.1.2.4"],
    "sly.example": ["93.184.216.36", "127.0.0.1"],
    "metadata.example": ["169.254.169.254"],
}
Answers = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(redirects, "look_up", lambda host: NAMES[host])


class Web:
    """Servers that redirect: ``hops`` says where to, by host. Keeps who was asked, and where."""

    def __init__(self, **hops: str) -> None:
        self.hops = {host.replace("_", "."): to for host, to in hops.items()}
        self.asked: list[tuple[str, str, str | None]] = []
        self.client = httpx.Client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        host = request.headers["host"]
        sni = request.extensions.get("sni_hostname")
        self.asked.append((host, request.url.host, sni))
        self.headers = request.headers
        if host in self.hops and request.url.path != "/b":
            return httpx.Response(302, headers={"Location": self.hops[host]}, content=Endless())
        return httpx.Response(200, content=b"here")

    def get(self, url: str, *, secure: bool = False) -> bytes:
        with get(self.client, url, secure=secure) as response:
            return response.read()

    def refused(self, url: str, *, secure: bool = False) -> str:
        with pytest.raises(PermanentError) as caught:
            self.get(url, secure=secure)
        assert caught.value.reason == "DownloadRefused"
        return str(caught.value)


class Endless(httpx.SyncByteStream):
    """A body that nobody may read."""

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("a redirect's body was read")


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.216.34", Kind.PUBLIC),
        ("2606:2800:220:1::1", Kind.PUBLIC),
        ("127.0.0.1", Kind.LOOPBACK),
        ("127.8.0.1", Kind.LOOPBACK),
        ("0.0.0.0", Kind.LOOPBACK),
        ("::", Kind.LOOPBACK),
        ("::1", Kind.LOOPBACK),
        ("::ffff:127.0.0.1", Kind.LOOPBACK),
        ("::ffff:10.0.0.1", Kind.PRIVATE),
        ("2002:7f00:1::", Kind.LOOPBACK),
        ("169.254.169.254", Kind.LINK_LOCAL),
        ("fe80::1%eth0", Kind.LINK_LOCAL),
        ("10.0.0.1", Kind.PRIVATE),
        ("172.16.0.1", Kind.PRIVATE),
        ("192.168.122.1", Kind.PRIVATE),
        ("100.64.0.1", Kind.PRIVATE),
        ("fd00::1", Kind.PRIVATE),
        ("224.0.0.1", Kind.PRIVATE),
        ("255.255.255.255", Kind.PRIVATE),
    ],
)
def test_who_is_behind_an_address(address: str, kind: Kind) -> None:
    assert kind_of(address) is kind


def test_a_redirect_from_one_public_mirror_to_another_is_followed_without_reading_its_body() -> (
    None
):
    web = Web(mirror_example="https://other.example/disk")
    assert web.get("https://mirror.example/disk", secure=True) == b"here"
    # What was looked up is what is connected to; name and certificate stay those of the host.
    assert web.asked == [
        ("mirror.example", "mirror.example", None),
        ("other.example", "93.184.216.35", "other.example"),
    ]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:8080/",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://metadata.example/",
        "http://192.168.122.1/",
        "http://other.corp/",
        "http://sly.example/",
        "//10.0.0.1/",
    ],
)
def test_a_public_mirror_leads_nobody_into_the_daemons_own_network(location: str) -> None:
    web = Web(mirror_example=location)
    said = web.refused("http://mirror.example/disk")
    assert "name that address in the document" in said
    assert [host for host, _, _ in web.asked] == ["mirror.example"]


def test_the_second_of_two_redirects_is_held_to_the_documents_address() -> None:
    web = Web(mirror_example="http://other.example/", other_example="http://10.0.0.1/")
    assert "private" in web.refused("http://mirror.example/disk")


def test_a_document_that_names_a_private_mirror_may_be_led_to_another_but_not_to_loopback() -> None:
    web = Web(mirror_corp="http://other.corp/disk")
    assert web.get("http://mirror.corp/disk") == b"here"
    web = Web(mirror_corp="http://127.0.0.1/")
    assert "loopback" in web.refused("http://mirror.corp/disk")


def test_from_https_to_http_only_where_the_checksum_came_another_way() -> None:
    web = Web(mirror_example="http://other.example/disk")
    assert web.get("https://mirror.example/disk") == b"here"
    said = web.refused("https://mirror.example/disk", secure=True)
    assert "from https to http (http://other.example/disk)" in said
    assert web.get("http://mirror.example/disk", secure=True) == b"here"


def test_back_to_http_by_way_of_https_is_refused_too() -> None:
    web = Web(mirror_example="https://other.example/", other_example="http://mirror.example/")
    web.refused("http://mirror.example/disk", secure=True)


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("http://mirror.example/b", True),
        ("/b", True),
        ("https://mirror.example/b", True),
        ("http://mirror.example:8080/b", False),
        ("http://other.example/b", False),
    ],
)
def test_a_login_goes_to_the_server_that_it_is_for(location: str, sent: bool) -> None:
    web = Web(mirror_example=location)
    assert web.get("http://me:secret@mirror.example/a") == b"here"
    assert len(web.asked) == 2
    assert ("authorization" in web.headers) is sent


def test_behind_a_proxy_names_are_its_business_and_addresses_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    monkeypatch.setattr(redirects, "look_up", lambda host: pytest.fail(f"looked up {host}"))
    web = Web(mirror_example="http://other.example/disk")
    assert web.get("http://mirror.example/disk") == b"here"
    web = Web(mirror_example="http://127.0.0.1/")
    web.refused("http://mirror.example/disk")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_pinned_address_is_still_asked_for_the_certificate_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, cert = str(tmp_path / "key"), str(tmp_path / "cert")
    words = "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 9 -subj /CN=x"
    names = ["-addext", "subjectAltName=DNS:right.example"]
    command = ["openssl", *words.split(), *names, "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    monkeypatch.setenv("SSL_CERT_FILE", cert)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(redirects, "look_up", lambda _: ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with serving(Origin(content=b"text"), context) as there:
        for name, good in (("right.example", True), ("wrong.example", False)):
            with serving(Origin(location=there.url.replace("127.0.0.1", name))) as origin:
                if good:
                    assert text_of(origin) == "text"
                else:
                    assert "certificate" in str(failing(origin))


# --- Small texts ----------------------------------------------------------------------------------


def text_of(origin: Origin) -> str:
    return fetch_text(origin.url, pace=PACE, stop=threading.Event())


def failing(origin: Origin) -> GuestkeeperError:
    with pytest.raises(GuestkeeperError) as caught:
        text_of(origin)
    return caught.value


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_text_that_unpacks_to_gigabytes_takes_no_memory(layers: int) -> None:
    bomb = gzip.compress(bytes(256 << 20), 1)
    for _ in range(layers - 1):
        bomb = gzip.compress(bomb)
    encoding = ", ".join(["gzip"] * layers)
    if layers == 1:
        bomb = bomb[: 1 << 20]
    with serving(Origin(content=bomb, encoding=encoding)) as origin:
        tracemalloc.start()
        try:
            error = failing(origin)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert error.reason == "DownloadRefused"
    assert peak < 16 << 20


def test_a_mirror_that_packs_all_it_has_is_understood() -> None:
    with serving(Origin(content=gzip.compress(b"[general]"), encoding="gzip")) as origin:
        assert text_of(origin) == "[general]"


def test_a_redirects_body_is_no_way_to_send_much() -> None:
    with serving(Origin(content=b"text")) as there:
        hop = Origin(location=there.url, encoding="gzip", content=b"x")
        with serving(hop) as origin:
            assert text_of(origin) == "text"


def test_a_text_of_more_than_a_mebibyte_is_refused() -> None:
    with serving(Origin(content=bytes((1 << 20) + 1))) as origin:
        assert "more than 1 MiB" in str(failing(origin))


def test_no_error_repeats_what_a_server_that_is_no_web_server_says() -> None:
    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b"secret-banner of something else\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        error = failing(Origin(url=url))
        server.shutdown()
    assert isinstance(error, TransientError)
    assert "secret" not in str(error)
