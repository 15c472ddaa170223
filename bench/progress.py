"""What goes on, told on stderr: stdout is for the table."""

import sys
import time

_BEGAN = time.monotonic()


def say(what: str) -> None:
    """One line, with the seconds since the start."""
    print(f"bench: {time.monotonic() - _BEGAN:6.1f} s  {what}", file=sys.stderr, flush=True)
