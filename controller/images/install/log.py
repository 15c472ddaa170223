"""A build's log: the installer's output in a file, readable, of limited size, without secrets.

Three ports write at once (the serial console, Anaconda's log, our marker), so they are merged by
whole lines. Any of them may echo an answer file's password hash; therefore whatever looks like a
crypt(5) hash is removed, which also works after the daemon that knew the hash was killed.
"""

import contextlib
import re
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from controller.observed.guest_text import MAX_MESSAGE, ending, last_lines

_log = structlog.get_logger(__name__)
_MAX_BYTES: Final = 16 << 20
_MAX_LINE: Final = 4096
_TAIL_LINES: Final = 12
_CARRIED: Final = 256
"""Bytes kept back where an endless line is cut, because a hash may stand there."""
_DOLLAR: Final = r"(?:\\?\$|%24)"
_HASH: Final = re.compile(rf"{_DOLLAR}[0-9a-z]{{1,8}}{_DOLLAR}[^\s'\":]{{8,}}")


def redact(text: str) -> str:
    """``text`` without password hashes."""
    return _HASH.sub("[hash removed]", text)


class BuildLog:
    """One build's log, for one thread; others only read the file."""

    def __init__(self, path: Path) -> None:
        """Append to the file if there is one.

        If it cannot be written, that is logged, and the last lines are still kept in memory: an
        install does not fail because of its log.
        """
        self.path = path
        self._open_lines: dict[str, bytes] = {}
        self._last: deque[str] = deque(maxlen=_TAIL_LINES)
        self._file: BinaryIO | None = None
        self._size = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o700)
            self._file = path.open("ab")
            self._size = self._file.tell()
            self._last.extend(_tail_of(path))
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def heading(self, text: str, now: float) -> None:
        """Write a line of our own between the installer's; ``now`` in epoch seconds."""
        self.end_lines()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        self._write(f"=== {stamp} {text}")

    def add(self, port: str, data: bytes) -> list[str]:
        """Take data of ``port``; return the lines that are complete now, redacted."""
        *whole, rest = (self._open_lines.get(port, b"") + data).split(b"\n")
        if len(rest) > _MAX_LINE:
            whole.append(rest[:-_CARRIED])
            rest = rest[-_CARRIED:]
        self._open_lines[port] = rest
        lines = []
        for raw in whole:
            text = last_lines([raw[:_MAX_LINE].decode("utf-8", "replace")])
            if text:
                lines.append(redact(text))
                self._write(lines[-1])
        return lines

    def end_lines(self) -> None:
        """End all unfinished lines, because the builder has ended."""
        for port in list(self._open_lines):
            self.add(port, b"\n")

    def tail(self) -> str:
        """The last lines, for a message."""
        return ending("\n".join(self._last), MAX_MESSAGE // 2)

    def _write(self, line: str) -> None:
        if not line.startswith("==="):
            self._last.append(line)
        if self._file is None:
            return
        data = line.encode() + b"\n"
        try:
            if self._size + len(data) > _MAX_BYTES:
                self._begin_anew(self._file)
            self._file.write(data)
            self._file.flush()
            self._size += len(data)
        except OSError as error:
            self._give_up(error)

    def _begin_anew(self, file: BinaryIO) -> None:
        """Rotate to ``.log.1``, replacing it: endless output must not fill the disk."""
        file.close()
        self.path.replace(self.path.with_suffix(".log.1"))
        self._file = self.path.open("ab")
        self._size = 0

    def _give_up(self, error: OSError) -> None:
        _log.warning("build log cannot be written", path=str(self.path), why=str(error))
        self._file = None


def _tail_of(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 65536))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [line for line in lines if not line.startswith("===")][-_TAIL_LINES:]


def prune(directory: Path, pattern: str, keep: int) -> None:
    """Delete all but the newest ``keep`` files of ``pattern``: logs of old contents."""
    dated = []
    for path in directory.glob(pattern):
        with contextlib.suppress(OSError):  # another build deleted it just now
            dated.append((path.stat().st_mtime, path))
    for _, path in sorted(dated, reverse=True)[keep:]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("old build log cannot be deleted", path=str(path), why=str(error))


def tail_of(path: Path) -> str:
    """The last lines of a log that is no longer written; '' where there is none."""
    try:
        return ending("\n".join(_tail_of(path)), MAX_MESSAGE // 2)
    except OSError:
        return ""
