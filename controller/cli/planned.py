"""``plan`` and ``apply``: what one pass without a daemon would do, and doing it."""

import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from rich.text import Text

from controller.cli.describe import change_lines, step_lines
from controller.cli.errors import DIFFERENT, DONE, INVALID, UNREACHABLE
from controller.cli.formats import dump
from controller.cli.options import Output
from controller.cli.terminal import FAINT, coloured, count, hint, say, show, stderr, stdout
from controller.desired.problems import Problem
from controller.loop.status import GuestStatus
from controller.planning.conditions import ConditionType, Printable, Status, Sync
from controller.planning.steps import step_name
from controller.web.views import guest_view, problem_view

_LOOKS = ("LookInside",)
"""Steps that change nothing."""


class Report(Protocol):
    """``daemon.Report``."""

    @property
    def statuses(self) -> tuple[GuestStatus, ...]: ...
    @property
    def problems(self) -> tuple[Problem, ...]: ...
    @property
    def unreachable(self) -> tuple[str, ...]: ...


def differs(status: GuestStatus) -> bool:
    """Is there anything to do, or something that is not as wanted and cannot be done?"""
    plan = status.plan
    acts = any(step_name(step) not in _LOOKS for step in plan.steps)
    return (
        acts
        or bool(plan.changes)
        or plan.sync is Sync.OUT_OF_SYNC
        or plan.printable is Printable.CRASH_LOOP
    )


def exit_code(report: Report, different: bool, *, detailed: bool) -> int:
    """CONVENTIONS' codes; ``detailed`` gives Terraform's: 0 nothing, 1 an error, 2 differences."""
    if detailed:
        if report.problems or report.unreachable:
            return 1
        return 2 if different else 0
    if report.problems:
        return INVALID
    if report.unreachable:
        return UNREACHABLE
    return DIFFERENT if different else DONE


def show_plan(report: Report, output: Output, *, detailed: bool) -> int:
    """Prints what would be done; the exit code."""
    different = [status for status in report.statuses if differs(status)]
    if output in (Output.JSON, Output.YAML):
        dump(_document(report, bool(different)), output)
    elif output is Output.NAME:
        sys.stdout.writelines(f"{status.name}\n" for status in different)
    else:
        _show(report, different)
    _tell_trouble(report)
    return exit_code(report, bool(different), detailed=detailed)


def _document(report: Report, different: bool) -> dict[str, Any]:
    return {
        "differences": different,
        "items": [guest_view(status) for status in _sorted(report.statuses)],
        "problems": [problem_view(problem) for problem in report.problems],
        "unreachable": list(report.unreachable),
    }


def _sorted(statuses: Sequence[GuestStatus]) -> list[GuestStatus]:
    return sorted(statuses, key=lambda status: status.name)


def _show(report: Report, different: Sequence[GuestStatus]) -> None:
    console = stdout()
    for status in _sorted(different):
        show(console, [*plan_lines(status), Text()])
    unreachable = set(report.unreachable)
    same = sum(
        1
        for status in report.statuses
        if not differs(status) and status.observed.host.name not in unreachable
    )
    if different:
        console.print(f"{count(len(different), 'guest')} to change, {same} unchanged")
        hint("to have it done: guestkeeper apply, or leave it to the daemon")
    elif not report.unreachable and not report.problems:
        console.print(f"no changes: {count(same, 'guest')} as wanted")


def plan_lines(status: GuestStatus) -> list[Text]:
    """One guest: what differs, field by field with its class, and the steps in order."""
    view = guest_view(status)
    head = Text(status.name, "bold")
    if status.guest is not None:
        head.append(f"  ({status.guest.origin})", FAINT)
    lines = [head, *change_lines(view["changes"], indent=2)]
    if view["steps"]:
        lines += [Text("  steps:"), *step_lines(view["steps"], indent=4)]
    else:
        lines.append(Text(f"  no steps now: {status.plan.sentence}"))
    return lines


def _tell_trouble(report: Report) -> None:
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


def settled(status: GuestStatus) -> bool:
    """As wanted, and doing its work or meant to be off."""
    ready = status.condition(ConditionType.READY)
    good = ready is not None and ready[0].status is Status.TRUE
    return not differs(status) and (good or status.plan.printable is Printable.STOPPED)


def show_applied(report: Report, output: Output) -> int:
    """What one pass came to; the exit code."""
    left = [status for status in _sorted(report.statuses) if not settled(status)]
    if output in (Output.JSON, Output.YAML):
        dump(_document(report, bool(left)), output)
    else:
        console = stdout()
        for status in _sorted(report.statuses):
            line = Text(f"{status.name}: ").append_text(coloured(str(status.plan.printable)))
            if status in left:
                line.append(f" ({status.plan.sentence})")
            show(console, [line])
        done = len(report.statuses) - len(left)
        console.print(f"{count(done, 'guest')} as wanted, {len(left)} not")
    _tell_trouble(report)
    return exit_code(report, bool(left), detailed=False)


class Progress:
    """Shows how far each guest is: in place on a terminal, else a line for each change."""

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
        line = f"{status.plan.printable}: {status.plan.sentence}"
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
