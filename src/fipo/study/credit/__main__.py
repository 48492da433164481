"""`python -m fipo.study.credit DESIGN.toml [CELL ...] [--credit.key value]`: measure what is missing, write tables."""

import sys
import time
from pathlib import Path

from fipo.errors import UserError
from fipo.grading.table import GradingTable
from fipo.recipe.toml import split_overrides
from fipo.study.credit.archive import add_record, read_records
from fipo.study.credit.design import load_design
from fipo.study.credit.measure import measure
from fipo.study.credit.outcome import write_outcome
from fipo.telemetry.exit_codes import exit_code_of
from fipo.telemetry.run_lock import run_lock


def main() -> int:
    """The same command again goes on after the last checkpoint that was measured."""
    (path, *chosen), overrides = split_overrides(sys.argv[1:])
    design = load_design(Path(path), overrides)
    if unknown := set(chosen) - set(design.cells):
        raise UserError(f"{path}: no cell {min(unknown)!r} (there are {', '.join(design.cells)})")
    with run_lock(design.folder), GradingTable(workers=1).pool("relay") as graders:
        graders.start()
        for name in chosen or design.cells:
            archive, fingerprint = design.archive(name), design.fingerprint(name)
            there = {record["number"] for record in read_records(archive, fingerprint)}
            for number in sorted(set(range(design.credit.checkpoints)) - there):
                began = time.monotonic()
                record = measure(design, name, number, graders)
                add_record(archive, fingerprint, record)
                print(f"{name} {number}: {time.monotonic() - began:.0f} s, spread {record['spread']:.3f}", flush=True)
            write_outcome(design)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
