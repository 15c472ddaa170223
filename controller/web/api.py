"""The routes of two applications: metrics and health over TCP, which anybody on the machine may
read, and the whole API on the unix socket, where the file's mode says who may use it.

Handlers that are plain functions run in Starlette's thread pool, so a slow one never blocks the
event loop; long polls share one thread per kind (``waiting``), scrapes another (``scrapes``).
Health checks run on the loop itself, so slow handlers do not delay them.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from controller.journal.database import Event
from controller.web import adoptions, guest_requests, image_views, listing, volume_views
from controller.web.answers import HANDLERS, ApiError, answer, encoded, number, yes
from controller.web.application import Application
from controller.web.scrapes import Scrapes
from controller.web.selector import SelectorError
from controller.web.values import Json
from controller.web.views import Detail
from controller.web.waiting import Waiter

MAX_WAIT = 60.0
"""Seconds that a long poll may last; clients then ask again."""
MAX_EVENTS = 10_000
MAX_CONSOLES = 16
"""Consoles and build logs that may be read at once: each occupies a thread."""


def public_app(application: Application, scrapes: Scrapes) -> Starlette:
    """The application for TCP: /metrics, /healthz, /readyz; shares ``scrapes`` with ``Api``."""
    return Starlette(routes=_public(application, scrapes), exception_handlers=HANDLERS)


class Api:
    """The application for the unix socket: all routes."""

    def __init__(self, application: Application) -> None:
        self._app = application
        self.scrapes = Scrapes(application.metrics)
        self._version = 0
        self._last_event = 0
        self._changes = Waiter(self._wait_for_change)
        self._events = Waiter(self._wait_for_event)
        self._consoles: anyio.CapacityLimiter | None = None
        self.starlette = Starlette(
            routes=[*_public(application, self.scrapes), *self._routes()],
            exception_handlers=HANDLERS,
        )

    def close(self) -> None:
        """End every long poll. Call it in the event loop's thread."""
        self._changes.close()
        self._events.close()

    def _routes(self) -> list[BaseRoute]:
        def get(path: str, endpoint: Callable[..., Any]) -> Route:
            return Route(f"/api/v1/{path}", endpoint, methods=["GET"])

        def post(path: str, endpoint: Callable[..., Any]) -> Route:
            return Route(f"/api/v1/{path}", endpoint, methods=["POST"])

        return [
            get("status", self._status),
            get("wait", self._wait),
            get("guests", self._guests),
            get("guests/{name}", self._guest),
            get("guests/{name}/console", self._console),
            post("guests/{name}/reconcile", self._reconcile),
            *guest_requests.routes(self._app),
            *adoptions.routes(self._app),
            get("images", self._list(image_views.images)),
            get("images/{name}", self._image),
            get("images/{name}/log", self._image_log),
            post("images/{name}/build", self._build),
            post("images/{name}/retry", self._retry),
            get("services", self._list(listing.services)),
            get("hosts", self._list(listing.hosts)),
            get("volumes", self._volumes),
            get("problems", self._list(listing.problems)),
            get("events", self._get_events),
        ]

    def _list(self, items: Callable[[Application], list[Json]]) -> Callable[[Request], Response]:
        def endpoint(_: Request) -> Response:
            return answer({"items": items(self._app)})

        return endpoint

    def _status(self, _: Request) -> Response:
        healthy, why = self._app.healthy()
        ready, why_not = self._app.ready()
        snapshot = self._app.catalog()
        words = Counter(str(status.plan.printable) for status in self._app.statuses.all())
        return answer(
            {
                "daemon_version": self._app.version,
                "version": self._app.statuses.version,
                "healthy": healthy,
                "healthy_reason": why,
                "ready": ready,
                "ready_reason": why_not,
                "guests": len(listing.names(self._app)),
                "printable": dict(sorted(words.items())),
                "documents": dict(snapshot.documents),
                "invalid_documents": snapshot.invalid,
                "problems": len(snapshot.problems),
                "revision": snapshot.revision,
                **listing.scanned(snapshot),
            }
        )

    def _guests(self, request: Request) -> Response:
        # Read before the statuses: a change that comes meanwhile then ends the client's next wait.
        version = self._app.statuses.version
        query = request.query_params
        try:
            items = listing.guests(
                self._app,
                names=query.getlist("name"),
                labels=query.get("labels", ""),
                detail=_detail(query.get("view", Detail.FULL.value)),
            )
        except SelectorError as error:
            raise ApiError(400, error.reason, str(error)) from error
        return answer({"version": version, **listing.scanned(self._app.catalog()), "items": items})

    def _guest(self, request: Request) -> Response:
        return answer({"item": self._existing(request)})

    def _existing(self, request: Request) -> Json:
        name = str(request.path_params["name"])
        found = listing.guest(self._app, name)
        if found is None:
            raise ApiError(404, "NotFound", listing.unknown_guest(self._app, name))
        return found

    def _reconcile(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        if not self._app.reconcile(name):
            raise ApiError(404, "NotFound", listing.unknown_guest(self._app, name))
        return answer({"name": name, "queued": True}, status=202)

    # --- Long polls -------------------------------------------------------------------------------

    def _wait_for_change(self, seconds: float) -> None:
        self._version = self._app.statuses.wait(self._version, seconds)

    def _wait_for_event(self, seconds: float) -> None:
        self._app.journal.wait_after(self._last_event, seconds, limit=1)
        self._last_event = self._app.journal.last_id()

    async def _wait(self, request: Request) -> Response:
        seen = number(request, "version", -1.0)
        timeout = min(number(request, "timeout", 30.0), MAX_WAIT)
        statuses = self._app.statuses
        await self._changes.until(lambda: statuses.version != seen, timeout)
        return answer({"version": statuses.version})

    async def _get_events(self, request: Request) -> Response:
        guest = request.query_params.get("guest") or None
        after = int(number(request, "after", 0))
        limit = max(1, min(int(number(request, "limit", 200)), MAX_EVENTS))
        wait = min(number(request, "wait", 0), MAX_WAIT)
        journal = self._app.journal
        if wait == 0:
            found = await run_in_threadpool(journal.events, guest, after, limit)
            return _events(found, after)
        deadline = anyio.current_time() + wait
        while True:
            # Read before the events: one that comes meanwhile then ends the wait below at once.
            seen = await run_in_threadpool(journal.last_id)
            found = await run_in_threadpool(journal.wait_after, after, 0, guest, limit)
            left = deadline - anyio.current_time()
            if found or left <= 0 or self._events.closed or await request.is_disconnected():
                return _events(found, after)
            await self._events.until(partial(self._newer_than, seen), left)

    def _newer_than(self, seen: int) -> bool:
        return self._last_event > seen

    def _volumes(self, _: Request) -> Response:
        return answer(volume_views.volumes(self._app.volumes()))

    # --- Images -----------------------------------------------------------------------------------

    def _image(self, request: Request) -> Response:
        return answer({"item": self._existing_image(request)})

    def _existing_image(self, request: Request) -> Json:
        name = str(request.path_params["name"])
        found = image_views.image(self._app, name)
        if found is None:
            raise ApiError(404, "NotFound", image_views.unknown_image(self._app, name))
        return found

    def _wanted_image(self, request: Request) -> str:
        """The name of an existing image, after a new scan of the documents."""
        self._app.read_documents()
        name = str(request.path_params["name"])
        if name not in self._app.catalog().images:
            raise ApiError(404, "NotFound", image_views.unknown_image(self._app, name))
        return name

    def _build(self, request: Request) -> Response:
        name, query = self._wanted_image(request), request.query_params
        host, pool = query.get("host") or None, query.get("pool") or None
        refresh = yes(request, "refresh")
        views = self._app.images.build(name, host, pool, refresh=refresh)
        return answer({"name": name, "pools": image_views.pool_views(self._app, views)}, 202)

    def _retry(self, request: Request) -> Response:
        name = self._wanted_image(request)
        views = self._app.images.retry(name)
        pools = image_views.pool_views(self._app, views or ())
        return answer({"name": name, "had_failed": views is not None, "pools": pools}, 202)

    # --- Consoles and logs ------------------------------------------------------------------------

    async def _console(self, request: Request) -> Response:
        guest = await run_in_threadpool(self._existing, request)
        follow = yes(request, "follow")
        return await self._stream(self._app.console(guest["host"], guest["name"], follow=follow))

    async def _image_log(self, request: Request) -> Response:
        image = await run_in_threadpool(self._existing_image, request)
        return await self._stream(
            self._app.images.log(image["name"], follow=yes(request, "follow"))
        )

    async def _stream(self, chunks: Iterator[bytes]) -> Response:
        if self._consoles is None:
            self._consoles = anyio.CapacityLimiter(MAX_CONSOLES)
        limiter = self._consoles
        if limiter.available_tokens < 1:
            message = f"{MAX_CONSOLES} consoles are being read already; end one of them"
            raise ApiError(503, "TooManyConsoles", message)

        # The first chunk is read here, so that an error can still be answered with its status.
        first = await anyio.to_thread.run_sync(next, chunks, None, limiter=limiter)

        async def stream() -> AsyncIterator[bytes]:
            chunk = first
            try:
                while chunk is not None and not self._changes.closed:
                    if chunk:
                        yield chunk
                    chunk = await anyio.to_thread.run_sync(next, chunks, None, limiter=limiter)
            finally:
                with anyio.CancelScope(shield=True):
                    close = getattr(chunks, "close", _nothing)
                    await anyio.to_thread.run_sync(close, limiter=limiter)

        return StreamingResponse(stream(), media_type="text/plain; charset=utf-8")


def _public(application: Application, scrapes: Scrapes) -> list[BaseRoute]:
    def health(check: Callable[[], tuple[bool, str]]) -> Callable[..., Awaitable[Response]]:
        async def endpoint(_: Request) -> Response:
            good, reason = check()
            return PlainTextResponse(encoded(f"{reason}\n"), status_code=200 if good else 503)

        return endpoint

    return [
        Route("/metrics", scrapes.answer, methods=["GET"]),
        Route("/healthz", health(application.healthy), methods=["GET"]),
        Route("/readyz", health(application.ready), methods=["GET"]),
    ]


def _nothing() -> None:
    """Do nothing, as ``close`` of an iterator that is no generator."""


def _events(found: Sequence[Event], after: int) -> Response:
    items = [listing.event_view(event) for event in found]
    return answer({"items": items, "last": items[-1]["id"] if items else after})


def _detail(text: str) -> Detail:
    try:
        return Detail(text)
    except ValueError as error:
        message = f"view must be one of {', '.join(Detail)}, not `{text}`"
        raise ApiError(400, "BadRequest", message) from error
