"""What 2,000 HTTP probes cost the daemon, in processor time. The server is another process.

``python -m bench.probes`` is that server: it prints its port and answers until it is ended.
"""

import asyncio
import subprocess
import sys
import time

from bench.private_libvirtd import ROOT, wait_until
from bench.progress import say
from bench.result import Result
from controller.health.prober import Prober
from controller.observed.health import ProbeStatus, ProbeTarget

PROBES = 2_000
PERIOD = 10.0
WATCHED = 20.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


def measure() -> list[Result]:
    """``probes``: percent of one processor, told for information."""
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.probes"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        return _measure(int(server.stdout.readline()))
    finally:
        server.terminate()
        server.wait(10)


def _measure(port: int) -> list[Result]:
    names = [f"guest{number}" for number in range(PROBES)]
    prober = Prober(
        inside=lambda _: (None, ""),
        on_transition=lambda *_: None,
        on_error=lambda *_: None,
    )
    prober.start()
    try:
        for name in names:
            prober.set_targets(name, [target(name, port)])
        say(f"  {PROBES} probes every {PERIOD:g} s, watched for {WATCHED:g} s")
        wait_until(lambda: all(_succeeds(prober, n) for n in names), 30, "all probes succeed")
        used, began = time.process_time(), time.monotonic()
        time.sleep(WATCHED)
        share = (time.process_time() - used) / (time.monotonic() - began)
        failing = sum(not _succeeds(prober, name) for name in names)
        shed = prober.shed
    finally:
        prober.stop()
    return [
        Result(f"probes: processor, {PROBES} each {PERIOD:g} s", 100 * share, None, "%", None),
        Result("probes: failed or not asked in time", float(failing + shed), 0.0, "", 0.0),
    ]


def _succeeds(prober: Prober, name: str) -> bool:
    return all(view.status is ProbeStatus.SUCCESS for view in prober.views(name).values())


def target(
    guest: str,
    port: int,
    *,
    host: str = "local",
    kind: str = "httpGet",
    inside: bool = False,
    period: float = PERIOD,
) -> ProbeTarget:
    return ProbeTarget(
        guest=guest,
        host=host,
        service="web",
        probe="http",
        kind=kind,
        inside=inside,
        address="127.0.0.1",
        port=port,
        path="/",
        scheme="http",
        headers=(),
        command=(),
        period=period,
        timeout=2.0,
        failure_threshold=3,
        success_threshold=1,
        initial_delay=0.0,
        startup=0.0,
        epoch="1",
    )


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
