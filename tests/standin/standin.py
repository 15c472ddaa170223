"""The stand-in installer for tests: building it, serving its tree, making what is delivered to it.

Anaconda and debian-installer cannot be had where the tests run; ``image/init`` says what this one
does instead. What makes media and answer files here is the tests' own, not the daemon's: it shows
that the stand-in reads what it should before the daemon is blamed.
"""

import gzip
import io
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jinja2
import pycdlib

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE.parents[1] / "kickstart-templates"
BUILD_SECONDS = 900
MARKER_CHANNEL = "org.guestkeeper.build.0"
LOG_CHANNEL = "org.fedoraproject.anaconda.log.0"


def build() -> Path:
    """The directory with ``vmlinuz``, ``initrd`` and ``tree/``, built if need be. Read-only."""
    done = subprocess.run(
        [str(HERE / "build.sh")],
        stdout=subprocess.PIPE,
        timeout=BUILD_SECONDS,
        check=True,
        text=True,
    )
    return Path(done.stdout.splitlines()[-1])


@dataclass(frozen=True, slots=True)
class Tree:
    """An installation tree that is being served; ``requests`` are the paths asked for so far."""

    port: int
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """For the host, and for the stand-in, which takes it to be the host's 127.0.0.1."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def guest_url(self) -> str:
        """The same in QEMU's user network."""
        return f"http://10.0.2.2:{self.port}/"


@contextmanager
def serve(directory: Path, port: int = 0) -> Iterator[Tree]:
    """Serves ``directory`` on 127.0.0.1, at an ephemeral port unless one is given."""
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            requests.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Tree(server.server_address[1], requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def render(
    template: str,
    *,
    repo: str = "",
    kind: str = "kickstart",
    root_password_hash: str = "",
    authorized_keys_base64: str = "",
    **values: Any,
) -> str:
    """A template of this directory or a shipped one, with what the daemon would give to it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE, TEMPLATES]),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - scripts and answer files, no HTML
    )
    version = "RHEL9" if kind == "kickstart" else ""
    return environment.get_template(template).render(
        values=values,
        image={"name": "standin", "osFamily": "debian", "cloudInit": False},
        install={"kind": kind, "version": version, "repo": repo, "firmware": "bios"},
        root_password_hash=root_password_hash,
        authorized_keys_base64=authorized_keys_base64,
    )


def initrd_with(initrd: Path, files: dict[str, str], scratch: Path) -> bytes:
    """``initrd`` followed by a gzipped cpio with ``files`` at its root."""
    scratch.mkdir()
    for name, text in files.items():
        (scratch / name).write_text(text)
    packed = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
        cwd=scratch,
        input="".join(f"{name}\n" for name in files).encode(),
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    return initrd.read_bytes() + gzip.compress(packed.stdout)


def iso(label: str, files: dict[str, str]) -> bytes:
    """An ISO 9660 volume with Rock Ridge and Joliet names."""
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, vol_ident=label, joliet=3, rock_ridge="1.09")
    for number, (name, text) in enumerate(files.items()):
        data = text.encode()
        disc.add_fp(
            io.BytesIO(data), len(data), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}"
        )
    out = io.BytesIO()
    disc.write_fp(out)
    disc.close()
    return out.getvalue()
