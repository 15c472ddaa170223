"""The ports of a builder, heard by one thread and knocked at by many."""

import threading

from controller.images.install.ports_listener import Listener
from tests.unit.images.builders import Builders


def test_whoever_knocks_never_waits_however_much_is_said() -> None:
    listener = Listener(Builders(), "local", "rocky9.build-1")
    knockers = [threading.Thread(target=listener.knock, daemon=True) for _ in range(1000)]
    for knocker in knockers:
        knocker.start()
    for knocker in knockers:
        knocker.join(60)
    assert not any(knocker.is_alive() for knocker in knockers)
    heard = listener.take(1.0)
    assert heard is not None and heard.port == ""
