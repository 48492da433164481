"""What the `fipo` command takes."""

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fipo import __version__
from fipo.errors import UserError
from fipo.recipe.packaged import packaged

REHEARSALS = Path("runs/rehearsal")
RECIPE = "a TOML file, or the name of a packaged recipe (fipo recipes lists them)"
KEYS = "`fipo keys --of {}` prints every key of such a recipe: its type, its default, what it means. "
OVERRIDES = "Every key of the recipe can be given on the command line for once, as --section.key value."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def fipo_parser() -> argparse.ArgumentParser:
    """The parser of every command. What it refuses is a UserError."""
    parser = _Parser(
        prog="fipo",
        description="Reinforcement learning with dense, critic-free credit.",
        epilog=_examples("fipo train quickstart", "fipo train --help")
        + "\n\nfipo keys prints every key of a recipe, fipo recipes the recipes that come with fipo.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fipo {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for add in ADD:
        add(commands)
    return parser


def refuse_unknown_command(words: Sequence[str]) -> None:
    """Raise UserError if the first word is no command, with the one that was probably meant."""
    word = words[0]
    if word.startswith("-") or word in NAMES:
        return
    near = difflib.get_close_matches(word, NAMES, n=1)
    if word.endswith(".toml") or any(recipe.name == word for recipe in packaged()):
        meant = f"did you mean fipo train {word}? "
    else:
        meant = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"no command {word!r}, there are {', '.join(NAMES)} ({meant}see fipo --help)")


def _examples(*lines: str) -> str:
    return "\n".join(["examples:", *(f"  {line}" for line in lines)])


def _add(
    commands: Any, name: str, *, help: str, usage: str, description: str, examples: tuple[str, ...], keys: str = ""
) -> argparse.ArgumentParser:
    where = KEYS.format(keys) + OVERRIDES if keys else "It takes no keys of a recipe: fipo keys prints those."
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        usage=usage,
        description=description,
        epilog=f"{_examples(*examples)}\n\nkeys:\n  " + where.replace(". ", ".\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _add_init(commands: Any) -> None:
    parser = _add(
        commands,
        "init",
        help="write a recipe, a reward and data to begin with",
        usage="fipo init [FOLDER]",
        description="Write my_recipe.toml, my_reward.py, train.jsonl and eval.jsonl: a run that works as it stands,\n"
        "with comments that say what to change. What is there already is not touched.",
        examples=("fipo init && fipo train my_recipe.toml", "fipo init trial"),
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("."), metavar="FOLDER", help="default: this one")


def _add_recipes(commands: Any) -> None:
    _add(
        commands,
        "recipes",
        help="list the recipes that come with fipo",
        usage="fipo recipes",
        description="List the recipes of the package, the machine that each needs, and its hours where they are known.",
        examples=("fipo recipes", "fipo recipes | grep gsm8k"),
    )


def _add_train(commands: Any) -> None:
    parser = _add(
        commands,
        "train",
        help="train a model by a recipe",
        usage="fipo train RECIPE [--section.key value ...] [--resume] [--quiet]",
        description="Train a model by a recipe. Ctrl-C saves; the same command with --resume goes on.",
        examples=("fipo train quickstart", "fipo train my_recipe.toml --run.name longer --run.steps 200 --resume"),
        keys="train",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help=RECIPE)
    parser.add_argument("--resume", action="store_true", help="continue the run where it stopped, if it has begun")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_eval(commands: Any) -> None:
    parser = _add(
        commands,
        "eval",
        help="score a model or a server on a dataset, or compare two scores",
        usage="fipo eval RECIPE [--section.key value ...]\n       fipo eval --compare A B [--json FILE]",
        description="Score a model, a checkpoint or a server on a dataset. The same command again goes on where it\n"
        "stopped.",
        examples=(
            "fipo eval quickstart --model.path runs/quickstart --output.name trained",
            "fipo eval --compare runs/eval/quickstart runs/eval/trained",
        ),
        keys="eval",
    )
    parser.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE", help=RECIPE)
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="two folders of results: B - A")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison there as well")


def _add_doctor(commands: Any) -> None:
    parser = _add(
        commands,
        "doctor",
        help="what is wrong with a recipe before it runs, or with a run during it and afterwards",
        usage="fipo doctor RECIPE [--section.key value ...] [--no-samples] [--memory-gib GIB]\n"
        "       fipo doctor [--watch] RUN",
        description="Look at a recipe before a long run: settings that cannot do what they say, memory, a few sampled\n"
        "responses, time; the exit code is 2 if the run cannot succeed. Or look at a run directory: what is\n"
        "wrong with it, since which step, and what to try; the exit code is 1 if there is a problem, 0 with\n"
        "warnings and notes. Nothing is written.",
        examples=("fipo doctor my_recipe.toml --memory-gib 80", "fipo doctor --watch runs/quickstart"),
        keys="train",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE|RUN", help=f"{RECIPE}; or a run directory")
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
    parser = _add(
        commands,
        "launch",
        help="submit a recipe for verl to a Ray cluster",
        usage="fipo launch RECIPE [--dry-run | --rehearse [--ranks N] [--folder DIR]] [--section.key value ...]",
        description="Submit a recipe for verl to a Ray cluster and follow its log. From the environment: RAY_ADDRESS,\n"
        "WORKING_DIR, RUNTIME_ENV, NNODES, RAY_DATA_HOME, MODEL_PATH, TRAIN_FILE, TEST_FILE, CKPTS_DIR.",
        examples=(
            "fipo launch fipo_qwen2.5_32b --dry-run",
            "fipo launch fipo_qwen2.5_7b_math --verl.trainer.save_freq 10",
        ),
        keys="launch",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help=RECIPE)
    parser.add_argument("--dry-run", action="store_true", help="print the command and what it asks of the GPUs")
    parser.add_argument(
        "--rehearse", action="store_true", help="run it on this CPU with a tiny model, by the real verl"
    )
    parser.add_argument("--ranks", type=int, default=1, help="training processes of the rehearsal (default 1)")
    parser.add_argument("--folder", type=Path, default=REHEARSALS, help=f"of rehearsals (default {REHEARSALS})")


def _add_study(commands: Any) -> None:
    parser = _add(
        commands,
        "study",
        help="compare arms over seeds, everything else equal",
        usage="fipo study STUDY [--study.key value ...]",
        description="Run every arm with every seed and compare them pairwise. The same command again goes on where it\n"
        "stopped. The exit code is 1 if a run failed.",
        examples=("fipo study sums --study.folder studies", "fipo study my_study.toml --study.processes 8"),
        keys="study",
    )
    parser.add_argument("study", type=Path, metavar="STUDY", help=RECIPE)


def _add_report(commands: Any) -> None:
    parser = _add(
        commands,
        "report",
        help="write report.html for a run, or for several overlaid",
        usage="fipo report RUN [RUN ...] [--out FILE]",
        description="Write one page with the figures of a run, or of several overlaid.",
        examples=("fipo report runs/quickstart", "fipo report runs/quickstart runs/mine --out both.html"),
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run directory, such as runs/quickstart")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: report.html in the first run)")


def _add_sample(commands: Any) -> None:
    parser = _add(
        commands,
        "sample",
        help="let a model answer prompts",
        usage="fipo sample MODEL PROMPT [PROMPT ...] [--samples N] [--temperature T] [--max-tokens N] [--seed N]",
        description="Let a model answer prompts.",
        examples=('fipo sample embedded "7-3+9-8+2-6="', 'fipo sample runs/quickstart "1+2=" --temperature 0'),
    )
    parser.add_argument("model", metavar="MODEL", help='a run directory, a model folder, a hub name, or "embedded"')
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="put -- before one that begins with -")
    parser.add_argument("--samples", type=int, default=4, help="responses per prompt (default 4)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 = greedy (default 1)")
    parser.add_argument("--max-tokens", type=int, default=256, help="longest response (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")


def _add_export(commands: Any) -> None:
    parser = _add(
        commands,
        "export",
        help="write the model of a run as a folder of its own",
        usage="fipo export RUN FOLDER [--step N]",
        description="Write the model of a run's checkpoint as a folder that loads by itself: weights with adapters\n"
        "merged into them, tokenizer, model card, recipe and metrics; no optimizer.",
        examples=("fipo export runs/quickstart my-model", "fipo export runs/quickstart my-model --step 25"),
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, such as runs/quickstart")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new or empty one")
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step (default: the newest)")


def _add_push(commands: Any) -> None:
    parser = _add(
        commands,
        "push",
        help="upload the model of a run to the Hugging Face hub",
        usage="fipo push RUN NAME [--step N] [--private] [--dry-run]",
        description="Export the model of a run and upload it, with a model card made from the run.",
        examples=(
            "fipo push runs/quickstart OWNER/my-model --dry-run",
            "fipo push runs/quickstart OWNER/my-model --private",
        ),
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, such as runs/quickstart")
    parser.add_argument("name", metavar="NAME", help="of the model on the hub, OWNER/MODEL")
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step (default: the newest)")
    parser.add_argument("--private", action="store_true", help="if the model is new, only its owner sees it")
    parser.add_argument("--dry-run", action="store_true", help="show the files and the card, and upload nothing")


def _add_keys(commands: Any) -> None:
    parser = _add(
        commands,
        "keys",
        help="print the keys of a recipe: types, defaults, what they mean",
        usage="fipo keys [SECTION] [--of train|eval|study|launch] [--markdown]",
        description="Print the keys of a recipe with their types, defaults and meaning, from what validates them.",
        examples=("fipo keys rollout", "fipo keys update.learning_rate"),
    )
    parser.add_argument(
        "section",
        nargs="?",
        metavar="SECTION",
        help="a table, such as rollout or data.train, or a key, such as rollout.groups (default: all)",
    )
    parser.add_argument(
        "--of",
        choices=("train", "eval", "study", "launch"),
        help="the command whose recipes are meant (default: train, or the first that has SECTION)",
    )
    parser.add_argument("--markdown", action="store_true", help="print the page docs/keys.md")


ADD = (
    _add_train,
    _add_eval,
    _add_doctor,
    _add_report,
    _add_sample,
    _add_init,
    _add_recipes,
    _add_keys,
    _add_export,
    _add_push,
    _add_study,
    _add_launch,
)
NAMES = tuple(add.__name__.removeprefix("_add_") for add in ADD)
