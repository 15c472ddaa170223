"""``python -m controller.daemon [--config FILE]``: the daemon without the command line around it.

``guestkeeper run`` checks its options and then becomes this, so that what the commands need of
libraries does not stay in the memory of a process that runs for months.
"""

import argparse
import sys
from pathlib import Path

# structlog and httpx load these where they find them, for a terminal: 4 MB that no daemon needs.
for _library in ("rich", "pygments"):
    sys.modules[_library] = None  # type: ignore[assignment]

from controller.daemon.run import run  # noqa: E402
from controller.errors import GuestkeeperError  # noqa: E402
from controller.settings import load_settings  # noqa: E402


def main() -> int:
    """The exit status: 2 where the daemon could not begin."""
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
