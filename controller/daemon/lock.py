"""The lock (``flock``) that lets one process at a time use a state directory: daemon or ``apply``.

Two of them would upload one image over each other and start guests twice. The kernel releases the
lock however the process ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.errors import PermanentError


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the lock of ``state_dir``; raises ``PermanentError`` where another process holds it,
    or the directory is not writable.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PermanentError(
            f"{state_dir}: {error.strerror}; set state_dir to a directory the daemon may write",
            reason="StateDirUnusable",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise PermanentError(
            f"another guestkeeper holds {state_dir}/lock; stop it first", reason="AlreadyRunning"
        ) from error
    finally:
        os.close(descriptor)
