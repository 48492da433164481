"""How findings are printed: plain lines that read the same in a terminal and in a file."""

from rich.console import Console

from fipo.doctor.findings import Finding

STYLES = {"problem": "bold red", "warning": "yellow", "note": "dim"}


def show_finding(console: Console, finding: Finding, rule: str = "") -> None:
    """`warning: weights_idle, steps 3-7: what was found`, and what to try on a line of its own."""
    about = ", ".join(filter(None, (rule, finding.where)))
    line = ": ".join(filter(None, (finding.level, about, finding.text)))
    console.print(line, style=STYLES[finding.level], soft_wrap=True)
    if finding.advice:
        console.print(f"  try: {finding.advice}", soft_wrap=True)
