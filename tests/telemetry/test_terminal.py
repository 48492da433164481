import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from rich.table import Table

from fipo.telemetry.progress import PatientConsole
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.terminal import LONGEST_LINE, called_as, in_one_line, say_failure, visible

OBEYED = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\u2028\x00\x7f\rdone\ud800"
SHOWN = r"\x1b[2J\x1b]0;title\x07\x9b31m\u202e\u2028\x00\x7f\rdone\ud800"


def test_what_a_terminal_would_obey_is_shown_and_all_else_stays():
    assert visible(OBEYED) == SHOWN
    plain = "lines\nand\ttabs, 東京, e\u0301, \U0001f469\u200d\U0001f52c, [red]"
    assert visible(plain) == plain


def test_one_line_is_one_line_and_keeps_both_ends():
    assert in_one_line("a\nb\tc\r\n") == r"a\nb\tc\r\n"
    line = in_one_line("begin" + "x" * 10_000 + "end", 100)
    assert len(line) == 100 and line.startswith("beginx") and line.endswith("xend") and " ... " in line


def test_a_failure_is_one_line_of_bounded_length(capsys):
    say_failure("two\nlines " + OBEYED * 100)
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("\n") and err.count("\n") == 1 and len(err) <= LONGEST_LINE + 1
    assert err.startswith(r"fipo: two\nlines \x1b[2J") and err.strip().isprintable()


CITY = {"utf-8": "東京", "ascii": r"\u6771\u4eac", "latin-1": r"\u6771\u4eac"}


@pytest.mark.parametrize("encoding", CITY)
def test_a_console_shows_markup_escapes_and_every_language_in_any_encoding(encoding):
    raw = io.BytesIO()
    console = PatientConsole(file=io.TextIOWrapper(raw, encoding=encoding), width=200)
    console.print(f"[red]x[/red] [/] :warning: 東京 {OBEYED}")
    table = Table(title=f"東京 {OBEYED}")
    table.add_column("[bold]")
    table.add_row(f"{OBEYED} [/nope]")
    console.print(table)
    text = raw.getvalue().decode(encoding)
    assert f"[red]x[/red] [/] :warning: {CITY[encoding]} {SHOWN}\n" in text
    assert "[bold]" in text and f"{SHOWN} [/nope]" in text
    assert all(character.isprintable() or character == "\n" for character in text)


def test_a_line_of_the_console_is_one_line_whatever_is_in_it():
    out = io.StringIO()
    PatientConsole(file=out, width=20).say("forged\nfipo: all is well, " + "x" * 50)
    assert out.getvalue() == r"forged\nfipo: all is well, " + "x" * 50 + "\n"


PROGRAM = """
import sys
from contextlib import suppress
from pathlib import Path
from fipo.telemetry.progress import PatientConsole
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.terminal import prepare_output
prepare_output()
print("printed \\x1b[2J 東京")
PatientConsole().print("rich \\x1b[2J 東京")
print("library \\x1b[2J 50%\\r60%", file=sys.stderr)
open("/dev/null"), open(sys.argv[1], "w").write("kept")
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_any_part_of_a_program_prints_is_visible(encoding, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "file"],
        capture_output=True,
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(sys.path)},
        timeout=60,
    )
    city = CITY[encoding]
    assert done.stdout.decode() == f"printed \\x1b[2J {city}\nrich \\x1b[2J {city}\n"
    assert done.stderr.decode() == "library \\x1b[2J 50%\r60%\n"


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-"])
def test_a_program_whose_output_is_closed_goes_on(closed, tmp_path):
    path = tmp_path / "file"
    command = f"exec {sys.executable} -c '{PROGRAM}' {path} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, path.read_text()) == (0, "kept"), done.stderr
    assert not re.search("Traceback|Exception", done.stderr + done.stdout)


@pytest.mark.parametrize("output", ["<&- >&- 2>&-", ">&-", "2>&-", ">/dev/full 2>/dev/full", "2>/dev/full"])
@pytest.mark.parametrize(("arguments", "code"), [(["report", "{run}"], 0), (["report", "/no/run"], 2), ([], 2)])
def test_output_that_cannot_be_written_changes_no_exit_code(arguments, code, output, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create({})
    words = shlex.join([sys.executable, "-m", "fipo.cli", *(word.format(run=run.path) for word in arguments)])
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", f"exec {words} {output}"], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert run.report.exists() == (code == 0)


BAR = """
import time
from fipo.telemetry.terminal import prepare_output

prepare_output()
from fipo.telemetry.progress import TrainingProgress

with TrainingProgress(steps=3) as progress:
    progress.phase("generate")
    progress.say("of a model: \\x1b[2J")
    print("of a library")
    time.sleep(0.3)
"""


def test_a_bar_moves_in_a_terminal_and_shows_no_escape_sequence_of_its_own():
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    process = subprocess.Popen([sys.executable, "-c", BAR], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # that of a terminal whose other end is closed
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert process.wait() == 0
    assert shown.count(b"\x1b[2K") > 1 and shown.count(b"\\x1b") == 1
    assert rb"of a model: \x1b[2J" in shown and b"of a library" in shown


def test_the_program_is_called_as_the_user_called_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "fipo"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert called_as("bin/fipo") == "bin/fipo"
    assert called_as(str(script)) == "bin/fipo"
    assert called_as("bin/fipo", Path("mine")) == "../bin/fipo"
    monkeypatch.setenv("PATH", str(script.parent))
    assert called_as(str(script)) == "fipo"
    assert called_as("/usr/lib/fipo/cli.py") == "fipo"
