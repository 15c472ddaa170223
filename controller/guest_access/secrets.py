"""Read secrets that are kept outside the documents: the operator's files, systemd credentials.

They are read when they are used, never kept, and no message here contains one.
"""

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from controller.desired.schema.model import SecretRef
from controller.errors import PermanentError

MAX_BYTES: Final = 64 * 1024


class SecretReader(Protocol):
    """The part of ``execution.ports.Secrets`` used here, where that may not be imported."""

    def read(self, ref: SecretRef) -> str: ...


class FileSecrets:
    """Reads ``file:`` from the file system and ``credential:`` from systemd's directory.

    ``CREDENTIALS_DIRECTORY`` (systemd.exec(5), ``LoadCredential=``) is read from ``environment``
    each time. Satisfies ``execution.ports.Secrets``.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment

    def read(self, ref: SecretRef) -> str:
        """The secret's value, without a newline at its end.

        Raises ``PermanentError(reason="SecretUnavailable")`` if it is missing, not a regular file,
        larger than 64 KiB, not UTF-8, or a file that others than its owner (who must be root or
        the daemon's user) may write.
        """
        if ref.file is not None:
            return _read(Path(ref.file), ref.file, credential=False)
        directory = self._environment.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise _unavailable(
                f"credential {ref.credential}",
                "the daemon was given no credentials; add LoadCredential="
                f"{ref.credential}:/path/to/it to guestkeeper.service",
            )
        name = str(ref.credential)
        return _read(Path(directory) / name, f"credential {name}", credential=True)


def _read(path: Path, label: str, *, credential: bool) -> str:
    try:
        # O_NONBLOCK: a FIFO at the path must not hold up the daemon.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            facts = os.fstat(descriptor)
            _check(facts, path, label, credential=credential)
            content = b""
            while len(content) <= MAX_BYTES and (part := os.read(descriptor, MAX_BYTES + 1)):
                content += part
        finally:
            os.close(descriptor)
    except OSError as error:
        hint = "; add it to LoadCredential= of guestkeeper.service" if credential else ""
        raise _unavailable(label, f"{error.strerror or error}{hint}") from error
    if len(content) > MAX_BYTES:
        raise _unavailable(label, f"is larger than {MAX_BYTES} bytes")
    try:
        return content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        # from None: the decoder's error carries the content, which no traceback may show.
        raise _unavailable(label, "is not UTF-8 text") from None


def _check(facts: os.stat_result, path: Path, label: str, *, credential: bool) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise _unavailable(label, "is not a regular file")
    if credential:
        return  # systemd sets the permissions in its directory
    if facts.st_mode & 0o022:
        remedy = f"chmod go-w {shlex.quote(str(path))}"
        raise _unavailable(label, f"its group or others may write it; {remedy}")
    if facts.st_uid not in (0, os.geteuid()):
        raise _unavailable(
            label, f"belongs to user {facts.st_uid}; it must be root or the daemon's own"
        )


def _unavailable(label: str, why: str) -> PermanentError:
    return PermanentError(f"cannot read the secret {label}: {why}", reason="SecretUnavailable")
