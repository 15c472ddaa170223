"""A real daemon as a process of its own, and what it says of itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.private_libvirtd import ROOT, wait_until
from bench.progress import say
from controller.settings import Settings


class DaemonProcess:
    """``guestkeeper run`` with these settings; its log is ``daemon.log`` beside the state."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        directory = settings.state_dir
        config = directory / "guestkeeper.toml"
        config.write_text(toml_of(settings))
        self.log = directory / "daemon.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GUESTKEEPER_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "controller", "run", "--config", str(config)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("wb"),
        )
        transport = httpx.HTTPTransport(uds=str(settings.socket))
        self.client = httpx.Client(transport=transport, base_url="http://guestkeeper", timeout=30)

    @property
    def pid(self) -> int:
        return self._process.pid

    def get(self, path: str) -> Any:
        """The API's answer; None while it does not answer or knows no such thing."""
        if self._process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the daemon ended with {self._process.returncode}: {tail}")
        try:
            answer = self.client.get(f"/api/v1/{path}")
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == httpx.codes.OK else None

    def wait_ready(self, timeout: float) -> None:
        """Until it looked at every guest once."""
        wait_until(lambda: (self.get("status") or {}).get("ready"), timeout, "the daemon is ready")

    def stop(self) -> None:
        self.client.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


@contextmanager
def daemon_process(settings: Settings) -> Iterator[DaemonProcess]:
    """A running daemon; stopped when the block ends."""
    daemon = DaemonProcess(settings)
    try:
        yield daemon
    except Exception:
        tail = daemon.log.read_text(errors="replace").splitlines()[-20:]
        say("the daemon's last words:\n" + "\n".join(tail))
        raise
    finally:
        daemon.stop()


def toml_of(settings: Settings) -> str:
    """The settings as a file that ``load_settings`` reads back."""
    found = settings.model_dump(mode="json")
    hosts = found.pop("hosts")
    lines = [_line(key, value) for key, value in found.items()]
    for name, host in hosts.items():
        pools = host.pop("pools")
        lines += [f"[hosts.{name}]", *(_line(key, value) for key, value in host.items())]
        lines += [f"[hosts.{name}.pools]", *(_line(key, value) for key, value in pools.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: object) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{key} = "{escaped}"'
    return f"{key} = {str(value).lower()}"


def resident_bytes(pid: int) -> int:
    """``VmRSS`` of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")
