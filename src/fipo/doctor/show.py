"""How findings are printed: plain lines, broken between words in a terminal alone, so that a file can be searched."""

import textwrap

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
    show_line(console, found, STYLES[finding.level])
    for line in advice:
        show_line(console, line)


def show_line(console: Console, text: str, style: str | None = None) -> None:
    shown = broken(text, console.width) if console.is_terminal else text
    console.print(shown, style=style, soft_wrap=True, markup=False)


def broken(text: str, width: int) -> str:
    """Into lines of at most `width`, between words; those after the first are indented further."""
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
