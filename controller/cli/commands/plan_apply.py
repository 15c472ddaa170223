"""Output of ``plan`` and ``apply``, which work without a daemon."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.text import Text

from controller.cli.client.options import Output
from controller.cli.commands.describe import change_lines, step_lines
from controller.cli.errors import DIFFERENT, DONE, INVALID, UNREACHABLE
from controller.cli.terminal.formats import dump
from controller.cli.terminal.output import (
    FAINT,
    coloured,
    count,
    hint,
    one_line,
    say,
    show,
    stderr,
    stdout,
    write,
)
from controller.loop.status import GuestStatus
from controller.planning.conditions import ConditionType, Health, Printable, Status
from controller.web.values import Json
from controller.web.views import guest_view, problem_view

if TYPE_CHECKING:
    from controller.daemon.once import Report

_OF_PROBES = (ConditionType.READY, ConditionType.SERVICES_READY)


def exit_code(report: "Report", different: bool, *, detailed: bool) -> int:
    """An exit code of ``cli.errors``; ``detailed``: Terraform's 0 same, 1 error, 2 differences."""
    if detailed:
        if report.problems or report.unreachable:
            return 1
        return 2 if different else 0
    if report.problems:
        return INVALID
    if report.unreachable:
        return UNREACHABLE
    return DIFFERENT if different else DONE


def show_plan(report: "Report", output: Output, *, detailed: bool) -> int:
    """Print what would be done; returns the exit code."""
    different = [status for status in report.statuses if _differs(status)]
    if output in (Output.JSON, Output.YAML):
        dump(_document(report, bool(different), _planned_view), output)
    elif output is Output.NAME:
        write("".join(f"{status.name}\n" for status in different))
    else:
        _show(report, different)
    _tell_trouble(report)
    return exit_code(report, bool(different), detailed=detailed)


def _differs(status: GuestStatus) -> bool:
    """Is there something to change? A guest whose document is gone differs only if it is to be
    stopped or deleted, so not with ``Retain``.
    """
    orphaned = status.plan.condition(ConditionType.ORPHANED)
    domain = status.observed.domain
    if orphaned is None or domain is None or domain.ownership is None:
        return status.plan.differs
    if orphaned.reason == "DocumentVanished":
        ends = domain.ownership.record.deletion_policy in ("Stop", "Delete")
        return ends and status.plan.printable is not Printable.STOPPED
    return orphaned.status is Status.TRUE


def _document(
    report: "Report", different: bool, view: Callable[[GuestStatus], Json]
) -> dict[str, Any]:
    return {
        "differences": different,
        "items": [view(status) for status in _sorted(report.statuses)],
        "problems": [problem_view(problem) for problem in report.problems],
        "unreachable": list(report.unreachable),
    }


def _planned_view(status: GuestStatus) -> Json:
    """The guest as the API shows it, with Unknown for what only probes can tell: none was run."""
    view = guest_view(status)
    view["sentence"] = view["sentence"] if view["steps"] else waited_for(status)
    if view["ready"] == "False":  # seen without a probe: off, paused, not configured
        return view
    unknown = {"status": "Unknown", "reason": "NotProbed", "message": "plan runs no probes"}
    services = [service | {"ready": None} for service in view["services"]]
    conditions = [
        found | unknown if found["type"] in _OF_PROBES else found for found in view["conditions"]
    ]
    view |= {"ready": "Unknown", "services_ready": None, "health": str(Health.UNKNOWN)}
    view |= {"services": services, "conditions": conditions}
    if status.plan.printable is not Printable.RESTART_REQUIRED:
        view["printable"] = str(Printable.UNKNOWN)
    return view


def waited_for(status: GuestStatus) -> str:
    """Why nothing is done now: the message of Synced if that is not True, else the sentence."""
    plan = status.plan
    synced, ready = plan.condition(ConditionType.SYNCED), plan.condition(ConditionType.READY)
    if plan.is_true(ConditionType.SUSPENDED) or plan.condition(ConditionType.ORPHANED) is not None:
        return plan.sentence
    if synced is None or synced.status is Status.TRUE or not synced.message:
        unready = ready is None or ready.status is Status.FALSE
        return plan.sentence if unready else "as wanted"
    return synced.message


def _sorted(statuses: Sequence[GuestStatus]) -> list[GuestStatus]:
    return sorted(statuses, key=lambda status: status.name)


def _show(report: "Report", different: Sequence[GuestStatus]) -> None:
    console = stdout()
    for status in _sorted(different):
        show(console, [*plan_lines(status), Text()])
    unreachable = set(report.unreachable)
    others = [status for status in report.statuses if status not in different]
    orphans = [one for one in others if one.plan.condition(ConditionType.ORPHANED) is not None]
    same = sum(
        1
        for status in others
        if status not in orphans and status.observed.host.name not in unreachable
    )
    left = f", {len(orphans)} left without a document" if orphans else ""
    if different:
        console.print(f"{count(len(different), 'guest')} to change, {same} unchanged{left}")
        hint("to have it done: guestkeeper apply, or leave it to the daemon")
    elif not report.unreachable and not report.problems:
        console.print(f"no changes: {count(same, 'guest')} as wanted{left}")


def plan_lines(status: GuestStatus) -> list[Text]:
    """The plan of one guest: changed fields with their class, and the steps in order."""
    view = guest_view(status)
    head = Text(status.name, "bold")
    if status.guest is not None:
        head.append(f"  ({status.guest.origin})", FAINT)
    lines = [head, *change_lines(view, indent=2)]
    orphaned = status.plan.condition(ConditionType.ORPHANED)
    if orphaned is not None:
        lines.append(Text(f"  {one_line(orphaned.message)}"))
    if view["steps"]:
        lines += [Text("  steps:"), *step_lines(view["steps"], indent=4)]
    elif orphaned is None:
        lines.append(Text(f"  no steps now: {one_line(waited_for(status))}"))
    return lines


def _tell_trouble(report: "Report") -> None:
    for problem in report.problems:
        say(str(problem))
    if report.problems:
        many = count(len(report.problems), "problem")
        say(f"{many} in the documents; what they are about is left out until they are corrected")
    for host in report.unreachable:
        why = next(
            (s.observed.host.why for s in report.statuses if s.observed.host.name == host), ""
        )
        say(f"host {host} is not reachable{f' ({why})' if why else ''}; see: guestkeeper doctor")


def show_applied(report: "Report", output: Output) -> int:
    """Print the results of ``apply``; returns the exit code."""
    left = [status for status in _sorted(report.statuses) if not status.plan.settled]
    if output in (Output.JSON, Output.YAML):
        dump(_document(report, bool(left), guest_view), output)
    else:
        console = stdout()
        for status in _sorted(report.statuses):
            line = Text(f"{status.name}: ").append_text(coloured(str(status.plan.printable)))
            if status in left:
                line.append(f" ({one_line(status.plan.sentence)})")
            show(console, [line])
        done = len(report.statuses) - len(left)
        console.print(f"{count(done, 'guest')} as wanted, {len(left)} not")
    _tell_trouble(report)
    return exit_code(report, bool(left), detailed=False)


class Progress:
    """Shows the progress of each guest: in place on a terminal, else a line for each change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, str] = {}
        self._console = stderr()
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, get_renderable=self._render)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, status: GuestStatus) -> None:
        line = f"{status.plan.printable}: {one_line(status.plan.sentence)}"
        with self._lock:
            if self._lines.get(status.name) == line:
                return
            self._lines[status.name] = line
            if self._live is None:
                self._console.print(f"{status.name}  {line}")

    def _render(self) -> Any:
        from rich.console import Group

        with self._lock:
            lines = sorted(self._lines.items())
        width = max((len(name) for name, _ in lines), default=0)
        rows = []
        for name, line in lines:
            word, _, rest = line.partition(": ")
            row = Text(name.ljust(width + 2), no_wrap=True, overflow="ellipsis")
            rows.append(row.append_text(coloured(word)).append(f"  {rest}"))
        return Group(*rows)
