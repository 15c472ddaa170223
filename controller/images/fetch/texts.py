"""Fetch small texts of mirrors, such as a tree's ``.treeinfo``, of at most 1 MiB.

A server may send gzip that grows a thousandfold when decompressed; packed twice, a millionfold. So
it is decompressed here, only once, and never to more than 1 MiB.
"""

import threading
import time
import zlib

import httpx
import tenacity

from controller.errors import TransientError
from controller.images.fetch.http import AGAIN, AgainError, Pace
from controller.images.fetch.redirects import failure_words, get, new_client, refused, status_words
from controller.images.progress import Told

_MOST_BYTES = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS
_PATIENCE = 4
"""A whole text may take this many times ``stall_timeout``."""


def fetch_text(
    url: str, *, pace: Pace, stop: threading.Event, report: Told = lambda *_: None
) -> str:
    """The text at ``url``; at most 1 MiB. ``report`` is called after each try that failed.

    Raises ``PermanentError(reason="DownloadRefused")`` or ``TransientError`` (``DownloadFailed``
    after ``pace.tries``, ``Stopping``).
    """

    def attempt(client: httpx.Client) -> str:
        if stop.is_set():
            raise TransientError("the daemon is stopping", reason="Stopping")
        deadline = time.monotonic() + _PATIENCE * pace.stall_timeout
        content = b""
        try:
            with get(client, url, secure=True) as response:
                if response.status_code in AGAIN:
                    words = status_words(response.status_code)
                    raise AgainError(url, words)
                if response.status_code != 200:
                    raise refused(url, status_words(response.status_code))
                for data in response.iter_raw():
                    content += data
                    _check_size(url, content)
                    if time.monotonic() > deadline:
                        raise AgainError(url, "data only trickles (stalled)")
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise refused(url, "it is no http:// or https:// address") from error
        except httpx.HTTPError as error:
            raise AgainError(url, failure_words(error)) from error
        encoding = response.headers.get("content-encoding", "")
        return _unpacked(url, encoding, content).decode("utf-8", "replace")

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, AgainError):
            report(0, None, error.told(state.attempt_number, pace.tries))

    def pause(seconds: float) -> None:
        stop.wait(seconds)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(AgainError),
        wait=tenacity.wait_random_exponential(pace.backoff, pace.max_backoff),
        stop=tenacity.stop_after_attempt(pace.tries),
        after=tell,
        sleep=pause,
        reraise=True,
    )
    with new_client(pace.stall_timeout) as client:
        return retrying(attempt, client)


def _unpacked(url: str, encoding: str, content: bytes) -> bytes:
    """Decompress once: we ask for no compression, but some mirrors compress all they have."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return content
    if encoding not in ("gzip", "x-gzip"):
        raise refused(url, "it comes packed in a way that was not asked for")
    unpacking = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacking.decompress(content, _MOST_BYTES + 1)
    except zlib.error as error:
        raise refused(url, "it says that it is packed with gzip, and is not") from error
    _check_size(url, unpacked)
    return unpacked


def _check_size(url: str, content: bytes) -> None:
    if len(content) > _MOST_BYTES:
        raise refused(url, "it has more than 1 MiB")
