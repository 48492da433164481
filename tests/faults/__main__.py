"""`python -m tests.faults --kills 200` and `python -m tests.faults --disk`, from the root of the repository."""

import argparse
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs in all, at random moments")
    parser.add_argument("--disk", action="store_true", help="let the disk fail at every write in turn")
    parser.add_argument("--every", type=int, default=1, help="with --disk: only every n-th write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.kills:
            from tests.faults.kills import kill_and_compare

            died = kill_and_compare(Path(folder), kills=options.kills, seed=options.seed, say=_say)
            for where, count in died.most_common():
                _say(f"{count:5}  {where}")
            _say(f"{died.total()} kills, and every resumed run equals the uninterrupted one bit for bit")
        if options.disk:
            from tests.faults.disk import fail_every_write

            fail_every_write(Path(folder), every=options.every, say=_say)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
