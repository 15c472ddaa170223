"""The exit codes of commands, and an exception that carries one."""

DONE = 0
DIFFERENT = 1  # plan found differences, a condition was not met, a name does not exist
INVALID = 2  # usage, settings or documents
UNREACHABLE = 3  # the daemon or a host
INTERRUPTED = 130  # Ctrl-C, as shells report it


class CliError(Exception):
    """Ends the command with the exit code ``code``; the message says what to do next."""

    def __init__(self, message: str, code: int = DIFFERENT) -> None:
        super().__init__(message)
        self.code = code
