"""How findings are printed: plain lines that read the same in a terminal and in a file."""

from rich.console import Console

from fipo.doctor.findings import Finding

STYLES = {"problem": "bold red", "warning": "yellow", "note": "dim"}


def finding_lines(finding: Finding, rule: str = "") -> list[str]:
    """`warning: weights_idle, steps 3-7: what was found`, and what to try on a line of its own."""
    about = ", ".join(filter(None, (rule, finding.where)))
    found = ": ".join(filter(None, (finding.level, about, finding.text)))
    return [found, f"  try: {finding.advice}"] if finding.advice else [found]


def show_finding(console: Console, finding: Finding, rule: str = "") -> None:
    """The same, with the first line in the colour of its level."""
    found, *advice = finding_lines(finding, rule)
    console.print(found, style=STYLES[finding.level], soft_wrap=True, markup=False)
    for line in advice:
        console.print(line, soft_wrap=True, markup=False)
