"""``python -m controller.daemon [--config FILE]``: the daemon without the command-line package.

``guestkeeper run`` checks its options and then execs this, so that libraries that only commands
need do not stay in the memory of a process that runs for months.
"""

import argparse
import sys
from pathlib import Path

# structlog and httpx import these if installed, for terminals: 4 MB that the daemon does not need.
for _library in ("rich", "pygments"):
    sys.modules[_library] = None  # type: ignore[assignment]

from controller.daemon.run import run  # noqa: E402
from controller.errors import GuestkeeperError  # noqa: E402
from controller.settings import load_settings  # noqa: E402


def main() -> int:
    """Run the daemon; returns the exit status, 2 where it could not start."""
    parser = argparse.ArgumentParser(prog="guestkeeper run")
    parser.add_argument("--config", type=Path)
    config: Path | None = parser.parse_args().config
    try:
        return run(load_settings(config), config)
    except GuestkeeperError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
