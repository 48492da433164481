"""Damage each file of a run that was killed, then resume it: the same bits as without, or one line that refuses."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.faults.child import Child, fork, fork_eval, fork_train
from tests.faults.small_run import MODES, digests, eval_digests, make_small_run

from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.terminal import LONGEST_LINE

OLDER = "checkpoints/step_000002"
SETTINGS = ("--checkpoint.every", "2", "--eval.every", "2", "--checkpoint.keep", "2")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncate_to_lines(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))


def zero(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def zero_the_end(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-20] + b"\0" * len(content[-20:]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def double(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def put_a_folder(path: Path) -> None:
    delete(path)
    path.mkdir()


def put_a_fifo(path: Path) -> None:
    delete(path)
    os.mkfifo(path)


def put_a_dangling_link(path: Path) -> None:
    delete(path)
    path.symlink_to("/nonexistent/file")


OF_FILES = (truncate, truncate_to_lines, zero, zero_the_end, empty, double)
OF_ALL = (delete, put_a_folder, put_a_fifo, put_a_dangling_link)
Damage = Callable[[Path], None]


def damage_and_compare(
    folder: Path, *, say: Callable[[str], None], every: int = 1, first: int = 0, mode: str = "plain"
) -> Counter[str]:
    """Each damage to each file of a run (every n-th); how often what came of it. Raises AssertionError otherwise."""
    log, settings = folder / "log.txt", (*SETTINGS, *MODES[mode])
    assert fork(lambda: 0 if make_small_run(folder) else 1, log).wait() == 0, log.read_text()
    recipe = folder / "recipe.toml"

    def train(name: str, steps: int) -> Child:
        return fork_train(recipe, name, log, *settings, "--run.steps", str(steps))

    assert train("left_in_peace", 6).wait() == 0, log.read_text()
    assert train("base", 4).wait() == 0, log.read_text()
    expected = digests(RunDirectory(folder / "runs" / "left_in_peace"))
    base, copy = folder / "runs" / "base", folder / "runs" / "damaged"
    came: Counter[str] = Counter()
    for name, damage in list(_cases(base, (*OF_FILES, flip)))[first::every]:
        if copy.exists():
            shutil.rmtree(copy)
        shutil.copytree(base, copy)
        damage(copy / name)
        code = train("damaged", 6).wait()
        what = _judged(f"{damage.__name__} {name}", code, log)
        if what == "the same bits":
            _compare(f"{damage.__name__} {name}", expected, base, copy)
        came[what] += 1
        say(f"{damage.__name__} {name}: {what}")
    return came


def _compare(case: str, expected: dict[str, str], base: Path, copy: Path) -> None:
    """All is as it would have been, but what nothing can make again.

    That is rollouts that were taken away, and the older of two checkpoints, which has been set aside then.
    """
    found = {file: digest for file, digest in digests(RunDirectory(copy)).items() if "/damaged_" not in file}
    lost = {file for file in expected if not (copy / file).is_file() and (base / file).is_file()}
    whole = (copy / OLDER).exists()
    assert all(file.startswith("rollouts/") or (file.startswith(OLDER) and not whole) for file in lost), (
        f"{case}: {lost}"
    )
    differing = [file for file in {**expected, **found} if file not in lost and expected.get(file) != found.get(file)]
    assert not differing, f"{case}: exit code 0 and other bits in {differing}"


def damage_evals_and_compare(folder: Path, *, say: Callable[[str], None], every: int = 1) -> Counter[str]:
    """The same of the files of `fipo eval`, whose lines have no check sums: other bits in them are not noticed."""
    log = folder / "log.txt"
    assert fork(lambda: 0 if make_small_run(folder) else 1, log).wait() == 0, log.read_text()
    base, copy = folder / "evals" / "base", folder / "evals" / "damaged"
    assert fork_eval(folder / "eval.toml", base.name, log).wait() == 0, log.read_text()
    came: Counter[str] = Counter()
    for name, damage in list(_cases(base, OF_FILES))[::every]:
        if copy.exists():
            shutil.rmtree(copy)
        shutil.copytree(base, copy)
        damage(copy / name)
        what = _judged(f"{damage.__name__} {name}", fork_eval(folder / "eval.toml", copy.name, log).wait(), log)
        if what == "the same bits":
            found, expected = eval_digests(copy), eval_digests(base)
            for one in ("results.jsonl", "summary.json"):
                assert found[one] == expected[one], f"{damage.__name__} {name}: exit code 0 and another {one}"
        came[what] += 1
        say(f"{damage.__name__} {name}: {what}")
    return came


def _cases(base: Path, of_files: Sequence[Damage]) -> Iterator[tuple[str, Damage]]:
    for path in sorted(base.rglob("*")):
        for damage in (*of_files, *OF_ALL) if path.is_file() else OF_ALL:
            yield str(path.relative_to(base)), damage


def _judged(case: str, code: int, log: Path) -> str:
    """Which of the two came of it. Raises AssertionError if it is neither."""
    said = log.read_text(errors="replace")
    assert "Traceback" not in said, f"{case}: {said}"
    if code == 0:
        return "the same bits"
    last = said.rstrip().splitlines()[-1]
    assert code in (1, 2) and last.startswith("fipo: ") and len(last) <= LONGEST_LINE, f"{case}: {code}: {said}"
    return "one line that refuses"
