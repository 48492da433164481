import io

from fipo.doctor.findings import Finding
from fipo.doctor.show import show_finding
from fipo.telemetry.progress import PatientConsole


def shown(finding, rule=""):
    file = io.StringIO()
    show_finding(PatientConsole(file=file, width=40), finding, rule)
    return file.getvalue()


def test_a_finding_is_a_line_and_what_to_try_another_however_long():
    finding = Finding(level="warning", keys=("a.b",), text="found " * 20 + "it", advice="a.b = 4")
    assert shown(finding) == f"warning: a.b: {'found ' * 20}it\n  try: a.b = 4\n"


def test_a_finding_of_a_run_names_its_rule_and_its_steps():
    finding = Finding(level="note", steps=(3, 7), text="found it")
    assert shown(finding, "weights_idle") == "note: weights_idle, steps 3-7: found it\n"


def test_a_finding_about_the_whole_is_shown_without_a_place():
    assert shown(Finding(level="problem", text="found it")) == "problem: found it\n"


def test_markup_and_control_characters_are_shown_and_not_obeyed():
    finding = Finding(level="note", text="[red]\x1b[31m and \ud800", advice="\x07")
    assert shown(finding) == "note: [red]\\x1b[31m and \\ud800\n  try: \\x07\n"
