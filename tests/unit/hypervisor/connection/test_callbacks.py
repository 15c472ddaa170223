"""A callback's exception goes into the log and no further."""

from structlog.testing import capture_logs

from controller.hypervisor.connection.callbacks import never_raises


def test_arguments_go_through() -> None:
    seen: list[tuple[str, int]] = []
    never_raises(lambda name, number: seen.append((name, number)))("web1", 2)
    assert seen == [("web1", 2)]


def test_an_exception_is_logged_with_its_traceback_and_goes_no_further() -> None:
    def breaks() -> None:
        raise ZeroDivisionError

    with capture_logs() as logs:
        never_raises(breaks)()
    assert [(log["event"], log["log_level"], log["exc_info"]) for log in logs] == [
        ("callback panicked", "error", True)
    ]
    assert "breaks" in logs[0]["callback"]
