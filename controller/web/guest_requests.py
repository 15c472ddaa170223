"""API routes for operators' requests about guests: suspend, restart, approve, rollback and more."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from controller.web import listing
from controller.web.answers import answer, yes
from controller.web.application import Application
from controller.web.values import when


def routes(application: Application) -> list[Route]:
    """The routes. A request is a POST; the answer (202) says what will happen, before it does."""
    guests = application.guests

    def known(request: Request) -> str:
        return listing.known(application, str(request.path_params["name"]))

    def post(path: str, endpoint: Callable[[Request], Response]) -> Route:
        return Route(f"/api/v1/{path}", endpoint, methods=["POST"])

    def one(word: str, wish: Callable[[str], str]) -> Route:
        def endpoint(request: Request) -> Response:
            name = known(request)
            return answer({"name": name, "message": wish(name)}, status=202)

        return post(f"guests/{{name}}/{word}", endpoint)

    def every(word: str, wish: Callable[[], str]) -> Route:
        def endpoint(_: Request) -> Response:
            return answer({"message": wish()}, status=202)

        return post(word, endpoint)

    def approve(request: Request) -> Response:
        name, now = known(request), yes(request, "now")
        message = guests.approve(name, request.query_params.get("base", ""), now=now)
        return answer({"name": name, "message": message}, status=202)

    def deletions(_: Request) -> Response:
        items = [
            {
                "name": one.guest,
                "policy": one.policy,
                "since": when(one.since),
                "system_disk": one.system_disk or None,
            }
            for one in guests.deletions()
        ]
        return answer({"items": items})

    def approve_deletions(request: Request) -> Response:
        told = guests.approve_deletions(request.query_params.getlist("name"))
        items = [{"name": name, "message": message} for name, message in told.items()]
        return answer({"items": items}, status=202)

    return [
        one("suspend", guests.suspend),
        one("resume", guests.resume),
        one("restart", guests.restart),
        one("rollback", guests.rollback),
        one("retry", guests.retry),
        post("guests/{name}/approve", approve),
        every("suspend", guests.suspend_all),
        every("resume", guests.resume_all),
        Route("/api/v1/deletions", deletions, methods=["GET"]),
        post("deletions/approve", approve_deletions),
    ]
