"""A web server on 127.0.0.1 that can behave as badly as real ones do."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Origin:
    """What it serves at any path, and how. ``requests`` are the Range headers it got ("" none)."""

    content: bytes = b""
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    """For each coming request: break the connection after so many bytes of its body."""
    statuses: list[int] = field(default_factory=list)
    """For each coming request: answer with this status (0: serve)."""
    retry_after: str | None = None
    location: str | None = None
    encoding: str | None = None
    """Says so of the content, whatever that is."""
    stall: bool = False
    """Send ``drip`` bytes one by one, then nothing until ``resume``."""
    drip: int = 1
    chunked: bool = False
    lie_range: bool = False
    gate: threading.Event | None = None
    requests: list[str] = field(default_factory=list)
    resume: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@contextmanager
def serving(origin: Origin, context: ssl.SSLContext | None = None) -> Iterator[Origin]:
    """Runs the server for ``origin``, whose ``url`` is set, until the block ends; with ``context``
    it is one of https.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            origin.requests.append(wanted)
            self.close_connection = True
            if origin.gate is not None:
                origin.gate.wait(60)
            status = origin.statuses.pop(0) if origin.statuses else 0
            if status:
                self._only(status)
                return
            if origin.location is not None:
                self.send_response(302)
                self.send_header("Location", origin.location)
                self._end(b"")
                return
            start = self._start(wanted)
            if start > len(origin.content) or (start and start == len(origin.content)):
                self._only(416)
                return
            self.send_response(206 if start else 200)
            if start:
                said = start - 1 if origin.lie_range else start
                total = len(origin.content)
                self.send_header("Content-Range", f"bytes {said}-{total - 1}/{total}")
            if origin.encoding is not None:
                self.send_header("Content-Encoding", origin.encoding)
            if origin.etag is not None:
                self.send_header("ETag", origin.etag)
            if origin.modified is not None:
                self.send_header("Last-Modified", origin.modified)
            self._end(origin.content[start:])

        def _start(self, wanted: str) -> int:
            if not wanted or not origin.ranges:
                return 0
            condition = self.headers.get("If-Range")
            if condition is not None and condition not in (origin.etag, origin.modified):
                return 0
            return int(wanted.removeprefix("bytes=").rstrip("-"))

        def _only(self, status: int) -> None:
            self.send_response(status)
            if origin.retry_after is not None:
                self.send_header("Retry-After", origin.retry_after)
            self._end(b"")

        def _end(self, body: bytes) -> None:
            if origin.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if origin.stall and body:
                for byte in body[: origin.drip]:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    origin.resume.wait(0.02)
                origin.resume.wait(60)
                return
            if body and origin.cut_after:
                body = body[: origin.cut_after.pop(0)]
            if origin.chunked:
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            else:
                self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    scheme = "http" if context is None else "https"
    origin.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/disk.qcow2"
    try:
        yield origin
    finally:
        origin.resume.set()
        if origin.gate is not None:
            origin.gate.set()
        server.shutdown()
        server.server_close()
        thread.join(60)
