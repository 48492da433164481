"""A whole study: run what is missing, archive the metrics, write the tables and the figures."""

import json
from collections.abc import Sequence
from pathlib import Path

from fipo.study.archive import Archive, ArchivedRun
from fipo.study.config import Study, load_study
from fipo.study.figures import draw_contrasts, draw_curves
from fipo.study.outcome import Outcome, markdown, outcome_of
from fipo.study.runner import Runner
from fipo.telemetry.durable import replace_file
from fipo.telemetry.run_lock import run_lock


def run_study(path: Path, overrides: dict[str, str]) -> tuple[Study, Outcome]:
    """Bring the study at `path` to its end; what was finished before stays, here or in its archive alone.

    Raises UserError for what cannot be, RunStopped after Ctrl-C.
    """
    study, jobs = load_study(path, overrides)
    with run_lock(study.folder):
        archive = Archive(study.archive)
        runner = Runner(study, jobs, archive)
        try:
            runner.run_all()
        finally:
            outcome = write_outcome(study, list(archive.runs.values()), study.folder)
        return study, outcome


def write_outcome(study: Study, runs: Sequence[ArchivedRun], folder: Path) -> Outcome:
    """`outcome.json`, `outcome.md`, `curves.png` and `contrasts.png` in `folder`, from archived runs alone."""
    outcome = outcome_of(study, runs)
    replace_file(folder / "outcome.json", (json.dumps(outcome.as_json(), indent=1) + "\n").encode())
    replace_file(folder / "outcome.md", markdown(study, outcome).encode())
    draw_curves(study, runs, folder / "curves.png")
    if outcome.contrasts:
        draw_contrasts(study, outcome, folder / "contrasts.png")
    return outcome
