"""Look into a guest and apply its services: what the rest of the daemon calls.

Each is one exec through the guest agent. The script may contain secrets (rendered files), so
nothing here logs or quotes it.
"""

import secrets as random
from collections.abc import Callable, Sequence
from typing import Final

from controller.desired.effective import EffectiveGuest, EffectiveService
from controller.desired.schema.model import SecretRef
from controller.errors import PermanentError, TransientError
from controller.guest_access.agent import ExecResult, GuestAgent
from controller.guest_access.rendering import SHELL, apply_script, asked, keys_of, look_script
from controller.guest_access.secrets import SecretReader
from controller.observed.domain import DomainView
from controller.observed.guest_text import MAX_MESSAGE, ending, last_lines, printable
from controller.observed.inside import InsideView
from controller.observed.inside_facts import FactsError, Failure, parse_apply, parse_look

LOOK_TIMEOUT: Final = 30.0
APPLY_TIMEOUT: Final = 900.0
_MAX_TAIL: Final = 1000


class ApplyFailedError(PermanentError):
    """Commands of an apply failed; the other services were applied all the same.

    ``view`` holds what the look at the end of the apply found.
    """

    reason = "ApplyFailed"

    def __init__(self, failures: Sequence[Failure], view: InsideView, more: int = 0) -> None:
        """``more``: the number of further failures, which are only counted."""
        left_out = f"\nand {more} more failures" if more else ""
        share = (MAX_MESSAGE - len(left_out)) // max(len(failures), 1) - 1
        super().__init__("\n".join(_told(failure, share) for failure in failures) + left_out)
        self.failures = tuple(failures)
        self.view = view


class InsideAccess:
    """Satisfies ``execution.ports.Inside``. ``clock`` is epoch seconds. Safe for many threads."""

    def __init__(
        self, agent: GuestAgent, secrets: SecretReader, clock: Callable[[], float]
    ) -> None:
        self._agent = agent
        self._secrets = secrets
        self._clock = clock

    def look(self, guest: EffectiveGuest, domain: DomainView) -> InsideView:
        """Read the facts of everything that the guest's services and identity name: one exec."""
        what = asked(guest)
        script = look_script(guest.os_family.value, what, self.authorized_keys(guest))
        text = self._run(guest, domain, script, LOOK_TIMEOUT, "Look")
        try:
            return parse_look(text, what, self._clock())
        except FactsError as error:
            raise _unreadable(guest, error) from error

    def apply(
        self, guest: EffectiveGuest, domain: DomainView, services: Sequence[EffectiveService]
    ) -> InsideView:
        """Apply identity and ``services``, then look at the whole guest: one exec.

        Raises ``ApplyFailedError``, or ``TransientError``, to be retried: ``ApplyInProgress``
        while an apply of an earlier daemon still runs in the guest, ``ApplyTimedOut`` after 15
        minutes.
        """
        what = asked(guest)
        script = apply_script(
            guest.os_family.value, what, self.authorized_keys(guest), services, random.token_hex(8)
        )
        text = self._run(guest, domain, script, APPLY_TIMEOUT, "Apply")
        try:
            applied = parse_apply(text, what, self._clock())
        except FactsError as error:
            raise _unreadable(guest, error) from error
        if applied.view is None:
            raise TransientError(
                f"an earlier apply still runs in {guest.name}",
                reason="ApplyInProgress",
                retry_after=10.0,
            )
        if applied.failures:
            raise ApplyFailedError(applied.failures, applied.view, applied.more)
        return applied.view

    def authorized_keys(self, guest: EffectiveGuest) -> list[str]:
        """The public keys for the guest's root; raises as ``Secrets.read`` and ``keys_of``."""
        keys: dict[str, None] = {}
        for ref in guest.spec.ssh_authorized_keys_from:
            keys.update(dict.fromkeys(keys_of(self._secrets.read(ref), _label(ref))))
        return list(keys)

    def _run(
        self, guest: EffectiveGuest, domain: DomainView, script: bytes, timeout: float, what: str
    ) -> str:
        result = self._agent.exec(
            guest.spec.host, domain.name, SHELL, stdin=script, timeout=timeout
        )
        if result.timed_out:
            raise TransientError(
                f"{guest.name}: the {what.lower()} script had not ended after {timeout:.0f} s",
                reason=f"{what}TimedOut",
            )
        if result.exit_code != 0:
            raise _broken(guest, result, what)
        return result.stdout.decode(errors="surrogateescape")


def _label(ref: SecretRef) -> str:
    return ref.file if ref.file is not None else f"credential {ref.credential}"


def _told(failure: Failure, size: int) -> str:
    """The failure in at most ``size`` bytes; the end of the output is kept, as it says most."""
    service = printable(failure.service or "guest", 64)
    text = f"{service}: {printable(failure.action, 64)} exited {failure.exit_code}"
    if not failure.output:
        return ending(text, size)
    return f"{text}: {ending(failure.output, size - len(text.encode()) - 2)}"


def _unreadable(guest: EffectiveGuest, error: FactsError) -> TransientError:
    return TransientError(f"{guest.name}: {error}", reason="FactsUnreadable")


def _broken(
    guest: EffectiveGuest, result: ExecResult, what: str
) -> PermanentError | TransientError:
    """The error of a script that did not end: killed (guest shuts down), or no usable shell."""
    tail = ending(last_lines(result.stderr.decode(errors="replace").split("\n")), _MAX_TAIL)
    message = f"{guest.name}: the {what.lower()} script exited {result.exit_code}: {tail}"
    if result.exit_code >= 128:
        return TransientError(message, reason=f"{what}Killed")
    return PermanentError(message, reason=f"{what}Failed")
