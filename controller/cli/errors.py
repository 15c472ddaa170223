"""How a command ends: the exit codes of CONVENTIONS, and an error that carries one."""

DONE = 0
DIFFERENT = 1  # plan found differences, a condition was not met, a name is not there
INVALID = 2  # usage, settings or documents
UNREACHABLE = 3  # the daemon or a host
INTERRUPTED = 130  # as a shell counts Ctrl-C


class CliError(Exception):
    """Ends the command with ``code``; the message says what to do next."""

    def __init__(self, message: str, code: int = DIFFERENT) -> None:
        super().__init__(message)
        self.code = code
