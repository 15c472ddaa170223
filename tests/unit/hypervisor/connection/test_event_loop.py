"""libvirt's event loop in a process that ends."""

import subprocess
import sys

PROGRAM = """
import atexit
from controller.hypervisor.connection import event_loop

atexit.register(lambda: print("alive" if event_loop._thread.is_alive() else "ended"))
event_loop.ensure_running()
assert event_loop._thread.is_alive()
"""


def test_its_thread_ends_before_python_does() -> None:
    """Callbacks must not come while the interpreter is taken down."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout == "ended\n", done.stderr
