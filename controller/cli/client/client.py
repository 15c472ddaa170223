"""HTTP client of the daemon's API on its unix socket, with errors that a person can act on."""

import contextlib
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from controller.cli.errors import DIFFERENT, INVALID, UNREACHABLE, CliError

Json = dict[str, Any]
_CODES = {400: INVALID, 503: UNREACHABLE}
_ANSWER_TIMEOUT = 15.0
_BASE = "http://guestkeeper/api/v1/"


class NoDaemonError(CliError):
    """No daemon answers on the socket."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)


class NotFoundError(CliError):
    """The daemon answered 404: it knows nothing of that name."""


class Client:
    """A context manager around one HTTP client. Every method raises ``CliError``."""

    def __init__(self, path: Path, settings_file: Path | None = None) -> None:
        """``settings_file`` is the one to start a daemon with, for messages; None: the default."""
        self._socket = path
        self._settings_file = settings_file
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)),
            base_url=_BASE,
            timeout=_ANSWER_TIMEOUT,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, *, patience: float = 0.0, **parameters: Any) -> Json:
        """GET; the answer may take ``patience`` seconds more than usual, for a long poll."""
        given = {key: value for key, value in parameters.items() if value is not None}
        with self._told():
            return _json(self._http.get(path, params=given, timeout=_ANSWER_TIMEOUT + patience))

    def post(self, path: str, **parameters: Any) -> Json:
        given = {key: value for key, value in parameters.items() if value is not None}
        with self._told():
            return _json(self._http.post(path, params=given))

    def stream(self, path: str, **parameters: Any) -> Iterator[bytes]:
        """GET and yield the body as it comes, without a timeout between its parts."""
        timeout = httpx.Timeout(_ANSWER_TIMEOUT, read=None)
        with (
            self._told(),
            self._http.stream("GET", path, params=parameters, timeout=timeout) as response,
        ):
            if response.is_error:
                response.read()
                _json(response)
            yield from response.iter_raw()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        _knock(self._socket, self._settings_file)
        try:
            yield
        except httpx.TimeoutException as error:
            raise CliError(_hung(self._socket), UNREACHABLE) from error
        except httpx.TransportError as error:
            raise NoDaemonError(
                f"the daemon on {self._socket} went away in the middle of an answer ({error});"
                " try again"
            ) from error


def _knock(path: Path, settings_file: Path | None) -> None:
    """Connect once, for better errors than httpx has (which also leaks the socket)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_TIMEOUT)
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise NoDaemonError(
                f"you may not use the daemon's socket {path}; use sudo, or have yourself added to"
                " the group that owns it"
            ) from error
        except TimeoutError as error:
            raise CliError(_hung(path), UNREACHABLE) from error
        except OSError as error:
            raise NoDaemonError(
                f"no daemon answers on {path}; start it with: {_starting(settings_file)}"
            ) from error


def _starting(settings_file: Path | None) -> str:
    if settings_file is None:
        return "systemctl start guestkeeper (or in the foreground: guestkeeper run)"
    run = f"guestkeeper run --config {shlex.quote(str(settings_file))}"
    return f"{run} (or, where the service reads that file: systemctl start guestkeeper)"


def _hung(path: Path) -> str:
    return (
        f"the daemon on {path} does not answer; it may be overloaded or hung, see its log:"
        " journalctl -u guestkeeper"
    )


def _json(response: httpx.Response) -> Json:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CliError(
            f"the daemon answered something that is no JSON (HTTP {response.status_code}); see its"
            " log: journalctl -u guestkeeper"
        )
    if response.is_error:
        message = str(answer.get("error", {}).get("message", response.reason_phrase))
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFoundError(message)
        raise CliError(message, _CODES.get(response.status_code, DIFFERENT))
    return answer
