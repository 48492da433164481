"""`python -m tests.hostile --count 20000`, from the root of the repository."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile.fuzz import cases, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="recipes in all (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, amiss = fuzz(Path(folder), cases(options.count, options.seed), _say)
    for outcome, count in sorted(outcomes.items()):
        _say(f"{count:6}  {outcome}")
    _say(f"{outcomes.total()} recipes in {time.monotonic() - began:.0f} s, {len(amiss)} amiss")
    return 1 if amiss else 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
