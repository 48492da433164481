from pathlib import Path

import pytest

from fipo.errors import why
from fipo.telemetry.durable import DiskError, disk_errors
from fipo.telemetry.exit_codes import exit_code_of


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
        (OSError("no usable folder"), "no usable folder"),  # as a library raises it
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_why_something_failed_is_said_in_words(error: Exception, text: str) -> None:
    assert why(error) == text


@pytest.mark.parametrize(
    "error", [OSError("no usable folder"), OSError(), PermissionError(13, "Permission denied", "x")]
)
def test_no_message_names_none(error: OSError, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise error

    assert exit_code_of(fails) == (2 if error.filename else 1)
    said = capsys.readouterr().err
    assert said == f"fipo: {'x: ' if error.filename else ''}{why(error)}\n" and "None" not in said
    with pytest.raises(DiskError) as failed, disk_errors(Path("x")):
        raise error
    assert "None" not in str(failed.value)
