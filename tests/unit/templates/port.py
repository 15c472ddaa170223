"""A pseudo-terminal in place of the virtio-serial port, with the daemon's end of it."""

import os
import pty
import select
import time
import tty
from types import TracebackType
from typing import Self

PATIENCE = 20.0
"""Seconds after which a line is not waited for any more."""


class Port:
    """Lines that a script says on ``path``, and answers to it."""

    def __init__(self) -> None:
        self._daemon, self._guest = pty.openpty()
        tty.setraw(self._guest)
        self.path = os.ttyname(self._guest)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._daemon)
        os.close(self._guest)

    def answer(self, line: str) -> None:
        """Says ``line`` to the script."""
        os.write(self._daemon, line.encode() + b"\n")

    def line(self) -> str:
        """The next line, when it is there; fails after ``PATIENCE``."""
        end = time.monotonic() + PATIENCE
        while b"\n" not in self._rest:
            left = max(0.0, end - time.monotonic())
            if not select.select([self._daemon], [], [], left)[0]:
                raise AssertionError(f"no line within {PATIENCE:g} s, but {self._rest!r}")
            self._rest += os.read(self._daemon, 65536)
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()

    def lines(self) -> list[str]:
        """What has been said and not been read yet."""
        while select.select([self._daemon], [], [], 0)[0]:
            self._rest += os.read(self._daemon, 65536)
        *lines, self._rest = self._rest.split(b"\n")
        return [line.decode() for line in lines]
