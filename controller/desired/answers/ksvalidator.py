"""Check a kickstart's syntax with pykickstart's ``ksvalidator``.

pykickstart is GPL-2.0-only, which this program must not import, so its console script is run as a
separate program. It checks each text only once, because a start of Python for each image at each
scan would be noticeable.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.errors import TransientError

TIMEOUT: Final = 30.0
"""Seconds that a run may take; it takes a quarter of a second."""
_KEPT = 256
_SAYS = re.compile(
    r"The following problem occurred on line (\d+) of the kickstart file:\s*\n"
    r"(.+?)(?=\n\s*\n|\Z)",
    re.DOTALL,
)
_NO_NEWS = re.compile(r"^(Checking kickstart file .*|.*will be deprecated.*)$", re.MULTILINE)
_NO_VERSION = "is not supported by pykickstart"
_APPEND = "%ksappend"
_LONGEST = 300


class ValidatorError(TransientError):
    """ksvalidator could not be run; the message says what to do about it."""

    reason = "KsvalidatorUnusable"


@dataclass(frozen=True, slots=True)
class Complaint:
    """A complaint about ``line`` of the kickstart (1-based; 0: all of it), with the remedy."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """ksvalidator's result. If it does not know the version, there are no complaints."""

    complaints: tuple[Complaint, ...]
    unknown_version: bool = False


def find_program() -> Path | None:
    """The path of ksvalidator beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("ksvalidator")
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("ksvalidator")
    return Path(found) if found is not None else None


class Ksvalidator:
    """Runs ksvalidator and caches its verdicts; thread-safe."""

    def __init__(
        self, find: Callable[[], Path | None] = find_program, timeout: float = TIMEOUT
    ) -> None:
        self._find = find
        self._timeout = timeout
        self._lock = threading.Lock()
        self._verdicts: dict[tuple[bytes, str], Verdict] = {}

    def check(self, text: str, version: str) -> Verdict:
        """What is wrong with the kickstart ``text``; raises ``ValidatorError``."""
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip().startswith(_APPEND):  # in a script, too, it is fetched or read
                message = (
                    f"{_APPEND} takes in text that nobody checked; write {{% include %}} instead"
                )
                return Verdict((Complaint(number, message),))
        key = (hashlib.sha256(text.encode()).digest(), version)
        with self._lock:
            known = self._verdicts.get(key)
        if known is None:
            known = self._ask(text, version)
            with self._lock:
                if len(self._verdicts) >= _KEPT:
                    del self._verdicts[next(iter(self._verdicts))]
                self._verdicts[key] = known
        return known

    def versions(self) -> tuple[str, ...]:
        """The versions that ksvalidator knows; raises ``ValidatorError``."""
        return tuple(self._run(["-l"], None).stdout.split())

    def _ask(self, text: str, version: str) -> Verdict:
        with tempfile.TemporaryDirectory(prefix="guestkeeper-") as directory:
            (Path(directory) / "answer.ks").write_text(text, encoding="utf-8")
            done = self._run(["-v", version, "answer.ks"], directory)
        said = f"{done.stderr}\n{done.stdout}"
        if _NO_VERSION in done.stdout:
            return Verdict((), unknown_version=True)
        complaints = {
            _complaint(int(line), message, version) for line, message in _SAYS.findall(said)
        }
        # The exit status is the number of errors, some of which are printed without a line.
        if done.returncode > len(complaints):
            rest = " ".join(_NO_NEWS.sub("", _SAYS.sub("", said)).split())
            if rest or not complaints:
                complaints.add(_complaint(0, rest or "it is refused without a reason", version))
        return Verdict(tuple(sorted(complaints, key=lambda item: (item.line, item.message))))

    def _run(self, arguments: list[str], directory: str | None) -> subprocess.CompletedProcess[str]:
        program = self._find()
        if program is None:
            raise ValidatorError(
                "cannot be checked: ksvalidator is missing; install pykickstart beside guestkeeper"
                " (pip install pykickstart)"
            )
        # Each run leaves a temporary file behind: put it into the directory that is deleted.
        scratch = {} if directory is None else {"TMPDIR": directory}
        try:
            return subprocess.run(
                [str(program), *arguments],
                cwd=directory,
                env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "C", **scratch},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self._timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ValidatorError(
                f"cannot be checked: ksvalidator gave no answer within {self._timeout:g} s; it is"
                " asked again at the next scan, look at what keeps this machine busy"
            ) from error
        except OSError as error:
            raise ValidatorError(
                f"cannot be checked: {program} does not run ({error.strerror or error});"
                " reinstall pykickstart (pip install --force-reinstall pykickstart)"
            ) from error


def _complaint(line: int, text: str, version: str) -> Complaint:
    message = " ".join(text.split())[:_LONGEST].rstrip(".")
    return Complaint(line, f"{message} (ksvalidator, {version}); correct it")
