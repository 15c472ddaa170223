"""Directories and settings of a daemon that a benchmark runs."""

import os
import socket
from pathlib import Path

from controller.settings import Settings

PREFIX = f"gkbench-{os.getpid()}-"
"""What the names of everything that is made begin with."""
POOL = "gkbench"


def settings_for(scratch: Path, *, uri: str, pool: Path, **more: object) -> Settings:
    """A daemon's settings with everything below ``scratch``."""
    for name in ("desired", "images", "state", "cache"):
        (scratch / name).mkdir(parents=True, exist_ok=True, mode=0o755)
    return Settings.model_validate(
        {
            "desired_dir": scratch / "desired",
            "state_dir": scratch / "state",
            "cache_dir": scratch / "cache",
            "images_dir": scratch / "images",
            "socket": scratch / "state" / "guestkeeper.sock",
            "listen": "",
            "identity": "gkbench",
            "log_level": "info",
            "hosts": {"local": {"uri": uri, "pool": POOL, "pools": {POOL: pool}}},
            **more,
        }
    )


def put(directory: Path, file: str, text: str) -> None:
    """Renames a finished file into ``directory``."""
    part = directory.parent / f".{file}.part"
    part.write_text(text)
    part.replace(directory / file)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
