"""What a guest's users see, second by second, while something is done to it."""

import itertools
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPException
from types import TracebackType
from typing import Self

from tests.e2e.daemon_site import Site

PERIOD = 0.05


@dataclass
class Watch:
    """Asks the guest's page again and again, in a ``with``; ``seen`` is when it answered what."""

    site: Site
    name: str
    seen: list[tuple[float, str]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._ask, name=f"watch {self.name}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(PERIOD):
            try:
                page = self.site.page(self.name)
            except (OSError, HTTPException):  # cut off in the middle
                continue
            self.seen.append((time.monotonic(), page.strip()))

    @property
    def pages(self) -> list[str]:
        """Each page once, in the order in which they were served."""
        return list(dict.fromkeys(page for _, page in self.seen))

    @property
    def downtime(self) -> float:
        """Seconds of the longest stretch without an answer."""
        times = [at for at, _ in self.seen]
        return max((later - at for at, later in itertools.pairwise(times)), default=0.0)
