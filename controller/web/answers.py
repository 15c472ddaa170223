"""Shared by all routes: JSON answers with ``format_version``, query parameters, error handlers."""

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from controller.errors import GuestkeeperError, HostUnreachableError
from controller.operator.answers import RefusedError
from controller.web import FORMAT_VERSION
from controller.web.values import Json


class ApiError(Exception):
    """An error that a route answers; ``message`` says what to do next."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


def answer(content: Json, status: int = 200) -> Response:
    body = json.dumps({"format_version": FORMAT_VERSION, **content}, ensure_ascii=False)
    return Response(encoded(body), status_code=status, media_type="application/json")


def encoded(text: str) -> bytes:
    """UTF-8 with ``?`` for lone surrogates: one bad string must not fail the list of all guests."""
    return text.encode(errors="replace")


def yes(request: Request, name: str) -> bool:
    return request.query_params.get(name) in ("1", "true")


def number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e15:
        message = f"{name} must be a number that is not negative, not `{text}`"
        raise ApiError(400, "BadRequest", message)
    return value


def _failed(status: int, reason: str, message: str) -> Response:
    return answer({"error": {"reason": reason, "message": message}}, status)


def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class
    return _failed(error.status, error.reason, str(error))


def _own_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, GuestkeeperError)  # noqa: S101 - registered for this class
    status = 503 if isinstance(error, HostUnreachableError) else 409
    status = 400 if isinstance(error, RefusedError) else status
    return _failed(status, error.reason, str(error))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    message = f"{request.method} {request.url.path}: {error.detail}"
    return _failed(
        error.status_code, "NotFound" if error.status_code == 404 else "Refused", message
    )


HANDLERS: Any = {
    ApiError: _api_error,
    GuestkeeperError: _own_error,
    HTTPException: _http_error,
}
