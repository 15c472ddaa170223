"""Download one file over HTTP: resume over as many requests as needed, check, rename.

The server's ETag, date and size of the file are kept beside the part, so an interrupted download
resumes if the server confirms that its file is still the same (RFC 9110, If-Range). The sha256 is
computed during the download; only a file that has it gets its final name.
"""

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

import httpx
import structlog
import tenacity

from controller.errors import PermanentError, TransientError
from controller.images.fetch.redirects import (
    failure_words,
    get,
    new_client,
    refused,
    shown,
    status_words,
)
from controller.images.progress import Told, human

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_log = structlog.get_logger(__name__)
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_RETRY_AFTER_SECONDS = 60.0
_GAIN_BYTES = 32 << 10
"""Fewer bytes are no progress, both between two failures and in a ``stall_timeout``."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a download is, in seconds. ``tries`` are failures in a row without progress."""

    stall_timeout: float = 30.0
    tries: int = 6
    backoff: float = 1.0
    max_backoff: float = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is in the cache, named by the sha256 it must have."""

    directory: Path
    sha256: str

    @property
    def final(self) -> Path:
        return self.directory / self.sha256

    @property
    def part(self) -> Path:
        return self.directory / f"{self.sha256}.part"

    @property
    def origin(self) -> Path:
        return self.directory / f"{self.sha256}.part.json"


class AgainError(TransientError):
    """A failure that the download itself retries, unlike a full disk."""

    reason = "DownloadFailed"

    def __init__(self, url: str, what: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"downloading {shown(url)}: {what}", retry_after=retry_after)
        self.what = what

    def told(self, failures: int, tries: int) -> str:
        """The text for the progress display."""
        return f"try {failures} of {tries} failed: {self.what}"


@dataclass(frozen=True, slots=True)
class _Origin:
    """The file that a ``.part`` is part of, kept beside it. The URL may be secret: it is hashed."""

    url_sha256: str
    etag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """For If-Range: a strong ETag, else the date (RFC 9110, section 13.1.5)."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.modified


class Transfer:
    """One download into ``part``, an unbuffered file at ``place.part`` that nobody else writes.

    ``secure``: the checksum came the same way, so no redirect from https to http is followed.
    """

    def __init__(
        self,
        url: str,
        place: Place,
        part: FileIO,
        *,
        pace: Pace,
        stop: threading.Event,
        report: Told,
        secure: bool = False,
    ) -> None:
        self._url = url
        self._url_sha256 = hashlib.sha256(url.encode()).hexdigest()
        self._place = place
        self._part = part
        self._pace = pace
        self._stop = stop
        self._report = report
        self._secure = secure
        self._failures = 0
        self._done = 0
        self._total: int | None = None
        self._digest = hashlib.sha256()

    def run(self) -> None:
        """Return with the complete, checked file at ``place.final``, or raise."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(AgainError),
            wait=self._wait,
            stop=lambda _: self._failures >= self._pace.tries or self._stop.is_set(),
            sleep=self._sleep,
            reraise=True,
        )
        with new_client(self._pace.stall_timeout) as client:
            for attempt in retrying:
                with attempt:
                    self._try(client)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, AgainError) and error.retry_after is not None:
            return min(error.retry_after, _MAX_RETRY_AFTER_SECONDS)
        # By failures in a row, not by attempts: a bad line that makes progress is not slowed down.
        pause = min(self._pace.max_backoff, self._pace.backoff * 2.0 ** (self._failures - 1))
        jitter: float = tenacity.wait_random(0, self._pace.backoff)(state)
        return pause + jitter

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise TransientError("the daemon is stopping", reason="Stopping")

    def _try(self, client: httpx.Client) -> None:
        self._check_stop()
        before = self._done
        try:
            self._attempt(client)
        except AgainError as error:
            gained = self._done - before >= _GAIN_BYTES
            self._failures = 1 if gained else self._failures + 1
            _log.warning("download interrupted", url=shown(self._url), error=str(error))
            self._report(self._done, self._total, error.told(self._failures, self._pace.tries))
            raise

    def _attempt(self, client: httpx.Client) -> None:
        origin = self._resume()
        resumed = self._done > 0
        if not (resumed and origin is not None and origin.total == self._done):
            self._request(client, origin)
        self._finish(resumed)

    def _resume(self) -> _Origin | None:
        """Load the part that is there; None (and an empty part) if it may be of another file."""
        origin = self._origin()
        self._done = 0
        self._digest = hashlib.sha256()
        self._part.seek(0)
        if (
            origin is None
            or origin.url_sha256 != self._url_sha256
            or origin.validator is None
            or (origin.total is not None and os.fstat(self._part.fileno()).st_size > origin.total)
        ):
            self._part.truncate(0)
            return None
        while data := self._part.read(1 << 20):
            self._digest.update(data)
            self._done += len(data)
        return origin

    def _request(self, client: httpx.Client, origin: _Origin | None) -> None:
        headers = {}
        if self._done and origin is not None and origin.validator is not None:
            headers = {"Range": f"bytes={self._done}-", "If-Range": origin.validator}
        try:
            with get(client, self._url, headers=headers, secure=self._secure) as response:
                self._receive(response)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise self._refused("it is no http:// or https:// address") from error
        except httpx.ReadTimeout as error:
            raise self._again("no data came any more (stalled)") from error
        except httpx.TransportError as error:
            raise self._again(failure_words(error)) from error

    def _receive(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 206 and self._done:
            total = self._check_range(response)
        elif status == 200:
            self._restart()
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdigit() else None
        elif status == 416:
            self._restart()
            raise self._again("the server's file has become shorter; beginning again")
        elif status in AGAIN:
            after = response.headers.get("retry-after", "")
            raise self._again(
                status_words(status),
                float(after) if after.isdigit() else None,
            )
        else:
            raise self._refused(status_words(status))
        self._keep_origin(response, total)
        self._check_room(total)
        self._total = total
        self._report(self._done, total)
        try:
            began, mark = time.monotonic(), self._done + _GAIN_BYTES
            for data in response.iter_raw():
                self._check_stop()
                if self._done >= mark:
                    began, mark = time.monotonic(), self._done + _GAIN_BYTES
                elif time.monotonic() - began > self._pace.stall_timeout:
                    raise self._again("data only trickles (stalled)")
                self._write(data)
                self._digest.update(data)
                self._done += len(data)
                self._report(self._done, total)
        except OSError as error:
            if error.errno in FULL:
                self._full(total)
            raise
        if total is not None and self._done != total:
            raise self._again(f"{self._done} of {total} bytes came")

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._part.write(rest) :]

    def _check_range(self, response: httpx.Response) -> int | None:
        """The whole file's size; raises if the range does not begin where our part ends."""
        unit, _, rest = response.headers.get("content-range", "").partition(" ")
        span, _, size = rest.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(self._done):
            self._restart()
            raise self._again("the server sent another part than asked for; beginning again")
        return int(size) if size.isdigit() else None

    def _finish(self, resumed: bool) -> None:
        got = self._digest.hexdigest()
        if got != self._place.sha256:
            self._restart()
            if resumed:
                raise self._again("the resumed file is not as expected; fetching it whole")
            self._place.part.unlink(missing_ok=True)
            raise PermanentError(
                f"what {shown(self._url)} sends is not what the Image expects: sha256 expected"
                f" {self._place.sha256}, got {got}; correct the sha256 or the address",
                reason="ChecksumMismatch",
            )
        os.fsync(self._part.fileno())
        self._place.part.replace(self._place.final)
        self._place.origin.unlink(missing_ok=True)
        directory = os.open(self._place.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _restart(self) -> None:
        self._part.seek(0)
        self._part.truncate(0)
        self._place.origin.unlink(missing_ok=True)
        self._done = 0
        self._digest = hashlib.sha256()

    def _check_room(self, total: int | None) -> None:
        free = shutil.disk_usage(self._place.directory).free
        if total is not None and free < total - self._done:
            self._full(total)

    def _full(self, total: int | None) -> None:
        """Delete the part, as running guests may be on the same disk; raise ``DiskFull``."""
        folder = self._place.directory
        self._restart()
        free = shutil.disk_usage(folder).free
        raise TransientError(
            f"no room to download {shown(self._url)}: it has"
            f" {human(total) if total is not None else 'an unknown size'}, and {folder} has"
            f" {human(free)} free",
            reason="DiskFull",
        )

    def _origin(self) -> _Origin | None:
        try:
            raw = json.loads(self._place.origin.read_text(encoding="utf-8"))
            return _Origin(**raw)
        except (OSError, ValueError, TypeError):
            return None

    def _keep_origin(self, response: httpx.Response, total: int | None) -> None:
        origin = _Origin(
            url_sha256=self._url_sha256,
            etag=response.headers.get("etag"),
            modified=response.headers.get("last-modified"),
            total=total,
        )
        path = self._place.origin
        path.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def _again(self, what: str, retry_after: float | None = None) -> AgainError:
        return AgainError(self._url, what, retry_after=retry_after)

    def _refused(self, what: str) -> PermanentError:
        return refused(self._url, what)
