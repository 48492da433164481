"""What a command that failed says and returns."""

import sys
from collections.abc import Callable

from fipo.errors import RunStopped, UserError
from fipo.telemetry.durable import DiskError


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command: its exit code, or one line on stderr and 2 for a mistake of the user, 1 for what befell it."""
    try:
        return command()
    except (UserError, RunStopped) as error:
        print(f"fipo: {error}", file=sys.stderr)
        return error.exit_code
    except DiskError as error:
        print(f"fipo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the output went away, as after `| head`
        return 1
    except OSError as error:
        print(f"fipo: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2 if error.filename else 1
    except KeyboardInterrupt:
        print("fipo: interrupted", file=sys.stderr)
        return 130
