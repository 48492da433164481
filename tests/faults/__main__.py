"""`python -m tests.faults --kills 200`, `--disk` or `--damage`, from the root of the repository."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs in all, at random moments")
    parser.add_argument("--disk", action="store_true", help="let the disk fail at every write in turn")
    parser.add_argument("--damage", action="store_true", help="damage each file in turn before --resume")
    parser.add_argument(
        "--mode", choices=("plain", "lora", "8bit", "eval"), default="plain", help="of kills and damage"
    )
    parser.add_argument("--every", type=int, default=1, help="with --disk or --damage: only every n-th")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for wanted, check in ((options.kills, _kill), (options.disk, _disk), (options.damage, _damage)):
        if wanted:
            _in_a_folder(check, options)


def _in_a_folder(check: Callable[[Path, argparse.Namespace], None], options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), options)


def _kill(folder: Path, options: argparse.Namespace) -> None:
    from tests.faults.kills import kill_and_compare, kill_evals_and_compare

    if options.mode == "eval":
        kill_evals_and_compare(folder, kills=options.kills, seed=options.seed, say=_say)
        return
    died = kill_and_compare(folder, kills=options.kills, seed=options.seed, say=_say, mode=options.mode)
    for where, count in died.most_common():
        _say(f"{count:5}  {where}")
    _say(f"{died.total()} kills, and every resumed run equals the uninterrupted one bit for bit")


def _disk(folder: Path, options: argparse.Namespace) -> None:
    from tests.faults.disk import fail_every_write

    fail_every_write(folder, every=options.every, say=_say)


def _damage(folder: Path, options: argparse.Namespace) -> None:
    from tests.faults.damage import damage_and_compare, damage_evals_and_compare

    if options.mode == "eval":
        came = damage_evals_and_compare(folder, say=_say)
    else:
        came = damage_and_compare(folder, every=options.every, say=_say, mode=options.mode)
    _say(f"{came.total()} damages: " + ", ".join(f"{count} {what}" for what, count in came.most_common()))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
