"""The exceptions that the command line prints as one line."""


class UserError(Exception):
    """Bad input. The message is one line: what, the rule, the value, where."""

    exit_code = 2


class MissingExtra(UserError):
    """What was asked for needs a library that is not installed. The message ends with the command that installs it."""

    def __init__(self, what: str, command: str) -> None:
        super().__init__(f"{what} needs the extra: {command}")
        self.command = command


class RunStopped(Exception):
    """A run that ended early with its state on disk. The message says why, and how to go on."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def why(error: Exception) -> str:
    """What happened, in words: an OSError that a library raised itself has no text of the system's."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
