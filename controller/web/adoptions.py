"""API routes of adoption: preview what taking over a foreign domain would change, and adopt it."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from controller.planning.adoption.adopt import AdoptionPlan, told_places
from controller.planning.compare.changes import FieldChange, disk_path, nic_path
from controller.planning.compare.impact import disruption
from controller.planning.inside.schedule import wants_inside
from controller.planning.steps import step_name
from controller.web import listing
from controller.web.answers import ApiError, answer
from controller.web.application import Application
from controller.web.values import Json


def routes(application: Application) -> list[Route]:
    """GET previews, POST adopts. Both scan the documents first, so that recent edits count."""

    def known(request: Request) -> str:
        application.read_documents()
        return listing.known(application, str(request.path_params["name"]))

    def preview(request: Request) -> Response:
        return answer({"item": view(application.adoptions.preview(known(request)))})

    def adopt(request: Request) -> Response:
        name, digest = known(request), request.query_params.get("digest")
        if not digest:
            message = "digest is missing: that of the answer to GET, which shows what is adopted"
            raise ApiError(400, "BadRequest", message)
        made = application.adoptions.adopt(name, digest)
        return answer({"item": view(made, adopted=True)})

    path = "/api/v1/guests/{name}/adoption"
    return [Route(path, preview, methods=["GET"]), Route(path, adopt, methods=["POST"])]


def view(plan: AdoptionPlan, *, adopted: bool = False) -> Json:
    """The plan as JSON: matched devices, changes and their cost, ``then`` the steps that follow."""
    after = plan.after
    return {
        "name": plan.desired.name,
        "host": plan.desired.spec.host,
        "uuid": plan.domain.uuid,
        "state": str(plan.domain.state),
        "digest": plan.digest or None,
        "adopted": adopted,
        "problems": list(plan.problems),
        "devices": [
            {"place": place, "is": what, "field": _field(alias)}
            for place, what, alias in told_places(plan)
        ],
        "changes": [_change(change, plan) for change in plan.changes],
        "inside": "seen" if plan.inside_seen or not wants_inside(plan.desired) else "unknown",
        "then": [
            {"name": step_name(step), "text": str(step)}
            for step in (after.steps if after is not None else ())
        ],
    }


def _change(change: FieldChange, plan: AdoptionPlan) -> Json:
    cost = disruption(change, plan.desired.spec.update_policy, running=plan.domain.state.active)
    return {
        "path": change.path,
        "old": change.old,
        "new": change.new,
        "class": str(change.change),
        "disruption": cost.text,
        "needs": f"guestkeeper {cost.needs} {plan.desired.name}" if cost.needs else None,
    }


def _field(alias: str) -> str:
    """The path of the device in the document."""
    return nic_path(alias) if alias.startswith("nic-") else disk_path(alias)
