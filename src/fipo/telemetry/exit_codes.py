"""What a command that failed says and returns."""

import os
from collections.abc import Callable

from fipo.errors import RunStopped, UserError, why
from fipo.telemetry.durable import DiskError
from fipo.telemetry.terminal import say_failure


def to_go_on(usual: str) -> str:
    """How a run goes on: `usual`, or the command that began it if that was make, which says so in FIPO_AGAIN."""
    again = os.environ.get("FIPO_AGAIN")
    return f"`{again}` goes on from there" if again else usual


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command: its exit code, or one line on stderr and 2 for a mistake of the user, 1 for what befell it."""
    try:
        return command()
    except (UserError, RunStopped) as error:
        say_failure(str(error))
        return error.exit_code
    except DiskError as error:
        say_failure(str(error))
        return 1
    except BrokenPipeError:  # the reader of the output went away, as after `| head`
        return 1
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        say_failure(f"{where}{why(error)}")
        return 2 if error.filename else 1
    except (MemoryError, RuntimeError) as error:
        reason = _out_of_memory(error)
        if reason is None:
            raise
        say_failure(reason)
        return 1
    except KeyboardInterrupt:
        say_failure("; ".join(filter(None, ("interrupted", to_go_on("")))))
        return 130


def _out_of_memory(error: Exception) -> str | None:
    from fipo.models.memory import out_of_memory  # torch takes seconds to load, and is there where this is needed

    return out_of_memory(error)
