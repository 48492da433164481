"""What the `fipo` command takes."""

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from fipo.errors import UserError

REHEARSALS = Path("runs/rehearsal")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def fipo_parser() -> argparse.ArgumentParser:
    """The parser of every command. What it refuses is a UserError."""
    parser = _Parser(prog="fipo", description="Reinforcement learning with dense, critic-free credit.")
    parser.add_argument("--version", action="version", version=f"fipo {version('fipo')}")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_add_train, _add_eval, _add_doctor, _add_launch, _add_study, _add_report, _add_sample):
        add(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model by a recipe",
        usage="fipo train RECIPE.toml [--section.key value ...] [--resume] [--quiet]",
        description="Train a model by a recipe. Every key can be overridden: --run.steps 20.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--resume", action="store_true", help="continue the run where it stopped, if it has begun")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_eval(commands: Any) -> None:
    parser = commands.add_parser(
        "eval",
        help="score a model or a server on a dataset, or compare two scores",
        usage="fipo eval RECIPE.toml [--section.key value ...]\n       fipo eval --compare A B [--json FILE]",
        description="Score a model, a checkpoint or a server on a dataset. Every key can be overridden: "
        "--sampling.samples 8. The same command again goes on where it stopped.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path, nargs="?")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="two folders of results: B - A")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison there as well")


def _add_doctor(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what is wrong with a recipe before it runs, or with a run during it and afterwards",
        usage="fipo doctor RECIPE.toml [--section.key value ...] [--no-samples] [--memory-gib GIB]\n"
        "       fipo doctor [--watch] RUN",
        description="Look at a recipe before a long run: settings that cannot do what they say, memory, a few sampled "
        "responses, time; the exit code is 2 if the run cannot succeed. Every key can be overridden: --run.steps 20. "
        "Or look at a run directory: what is wrong with it, since which step, and what to try; the exit code is 1 if "
        "there is a problem, 0 with warnings and notes. Nothing is written.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml|RUN")
    parser.add_argument("--no-samples", action="store_true", help="settings and memory alone: no weights are loaded")
    parser.add_argument(
        "--memory-gib",
        type=float,
        metavar="GIB",
        help="estimate for a GPU elsewhere that has this much memory; implies --no-samples",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="follow a run until it ends, and wait for one that is not there yet; the exit code is 0 if it has "
        "finished, 1 if it stopped before",
    )


def _add_launch(commands: Any) -> None:
    parser = commands.add_parser(
        "launch",
        help="submit a recipe for verl to a Ray cluster",
        usage="fipo launch RECIPE.toml [--dry-run | --rehearse [--ranks N] [--folder DIR]] [--section.key value ...]",
        description="Submit a recipe for verl to a Ray cluster and follow its log. Every key can be overridden: "
        "--verl.trainer.save_freq 10. From the environment: RAY_ADDRESS, WORKING_DIR, RUNTIME_ENV, NNODES, "
        "RAY_DATA_HOME, MODEL_PATH, TRAIN_FILE, TEST_FILE, CKPTS_DIR.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="print the command and what it asks of the GPUs")
    parser.add_argument(
        "--rehearse", action="store_true", help="run it on this CPU with a tiny model, by the real verl"
    )
    parser.add_argument("--ranks", type=int, default=1, help="training processes of the rehearsal (default 1)")
    parser.add_argument("--folder", type=Path, default=REHEARSALS, help=f"of rehearsals (default {REHEARSALS})")


def _add_study(commands: Any) -> None:
    parser = commands.add_parser(
        "study",
        help="compare arms over seeds, everything else equal",
        usage="fipo study STUDY.toml [--study.key value ...]",
        description="Run every arm with every seed and compare them pairwise. The same command again goes on where it "
        "stopped. Keys of [study] can be overridden: --study.processes 8. The exit code is 1 if a run failed.",
        allow_abbrev=False,
    )
    parser.add_argument("study", type=Path)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="write report.html for a run, or for several overlaid")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, help="the file to write (default: report.html in the first run)")


def _add_sample(commands: Any) -> None:
    parser = commands.add_parser("sample", help="let a model answer prompts")
    parser.add_argument("model", help='a run directory, a model folder, a hub name, or "embedded"')
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="put -- before one that begins with -")
    parser.add_argument("--samples", type=int, default=4, help="responses per prompt (default 4)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 = greedy (default 1)")
    parser.add_argument("--max-tokens", type=int, default=256, help="longest response (default 256)")
    parser.add_argument("--seed", type=int, default=0)
