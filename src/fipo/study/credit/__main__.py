"""`python -m fipo.study.credit DESIGN.toml [CELL ...] [--credit.key value]`: measure what is missing, write tables."""

import sys
import time
from pathlib import Path

from fipo.errors import UserError
from fipo.grading.table import GradingTable
from fipo.recipe.toml import split_overrides
from fipo.study.credit.archive import add_record, read_records
from fipo.study.credit.design import Design, load_design
from fipo.study.credit.measure import measure
from fipo.study.credit.outcome import write_outcome
from fipo.study.credit.policy import recipe_of
from fipo.telemetry.exit_codes import exit_code_of
from fipo.telemetry.run_lock import run_lock


def main() -> int:
    """The same command again goes on after the last checkpoint that was measured."""
    (path, *chosen), overrides = split_overrides(sys.argv[1:])
    design = load_design(Path(path), overrides)
    if unknown := set(chosen) - set(design.cells):
        raise UserError(f"{path}: no cell {min(unknown)!r} (there are {', '.join(design.cells)})")
    with run_lock(design.folder):
        for name in chosen or design.cells:
            _measure_cell(design, name)
            write_outcome(design)
    return 0


def _measure_cell(design: Design, name: str) -> None:
    """What is missing of it."""
    archive, fingerprint = design.archive(name), design.fingerprint(name)
    there = {record["number"] for record in read_records(archive, fingerprint)}
    grader = recipe_of(design, design.cells[name], seed=0).data.grader
    with GradingTable(workers=1).pool(grader) as graders:
        graders.start()
        for number in sorted(set(range(design.credit.checkpoints)) - there):
            began = time.monotonic()
            record = measure(design, name, number, graders)
            add_record(archive, fingerprint, record)
            print(f"{name} {number}: {time.monotonic() - began:.0f} s, spread {record['spread']:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
