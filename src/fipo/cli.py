"""The `fipo` command. A mistake of the user is one line and exit code 2."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fipo.arguments import REHEARSALS, fipo_parser, refuse_unknown_command
from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.recipe.packaged import FOLDER, find_recipe, listing
from fipo.recipe.toml import split_overrides
from fipo.telemetry.exit_codes import exit_code_of
from fipo.telemetry.terminal import prepare_output

BEFORE_TORCH = {  # read when torch or CUDA starts
    "TRANSFORMERS_VERBOSITY": "error",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin starve one another
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # matrix products that are the same from run to run
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",  # what one phase frees, another can use, whatever its sizes
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for name, value in BEFORE_TORCH.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:  # what will change in a library is for us to know: python -W shows it
        warnings.simplefilter("ignore", FutureWarning)
    if arguments is None:
        prepare_output()
        arguments = sys.argv[1:]
    words = arguments
    code = exit_code_of(lambda: _run(words))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the reader went away or the log's disk is full, which says nothing about the command
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _run(arguments: Sequence[str]) -> int:
    if any("\0" in word for word in arguments):
        raise UserError("no argument can hold the character NUL")
    if not arguments:
        fipo_parser().print_help(sys.stderr)
        return 2
    refuse_unknown_command(arguments)
    plain, overrides = split_overrides(arguments)
    options, rest = fipo_parser().parse_known_args(plain)
    takes_overrides = options.command in ("train", "eval", "doctor", "launch", "study")
    if takes_overrides and rest:
        raise UserError(f"an override must look like --section.key value, got {rest[0]}")
    unknown = rest or [f"--{key}" for key in overrides]
    if not takes_overrides and unknown:
        raise UserError(f"unknown argument {unknown[0]} (see fipo {options.command} --help)")
    return _command(options, overrides)


def _command(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    def recipes() -> None:
        print(f"{listing()}\n\nThe files are in {FOLDER}: copy one to change it, or give keys on the command line.")

    commands: dict[str, Callable[[], int | None]] = {
        "train": lambda: _train(options, overrides),
        "eval": lambda: _eval(options, overrides),
        "doctor": lambda: _doctor(options, overrides),
        "report": lambda: _report(options.runs, options.out),
        "sample": lambda: _sample(options),
        "init": lambda: _init(options.folder),
        "recipes": recipes,
        "keys": lambda: _keys(options),
        "export": lambda: _export(options),
        "push": lambda: _push(options),
        "study": lambda: _study(options.study, overrides),
        "launch": lambda: _launch(options, overrides),
    }
    return commands[options.command]() or 0


@contextmanager
def _loading(*, quiet: bool = False) -> Iterator[None]:
    """Say that something happens: the first import of torch and transformers takes seconds."""
    from fipo.telemetry.progress import PatientConsole

    console = PatientConsole()
    if quiet or "torch" in sys.modules:
        yield
    elif console.is_terminal:
        with console.status("loading torch and transformers"):
            yield
    else:
        console.print("loading torch and transformers")
        yield


def _init(folder: Path) -> None:
    from fipo.starter.write import next_steps, write_starter

    for path in write_starter(folder):
        print(f"wrote {path}")
    print(f"\n{next_steps(folder)}")


def _keys(options: argparse.Namespace) -> None:
    from fipo.keys import keys_text, markdown

    if options.markdown and (options.section or options.of):
        raise UserError("keys --markdown prints the whole page and takes nothing beside it (see fipo keys --help)")
    print(markdown() if options.markdown else keys_text(options.section, options.of))


def _train(options: argparse.Namespace, overrides: dict[str, str]) -> None:
    path, quiet = find_recipe(options.recipe, ["train"]), options.quiet
    with _loading(quiet=quiet):
        from fipo.report import next_commands, summary_table, write_report
        from fipo.telemetry.progress import PatientConsole
        from fipo.training import load_recipe, train

        recipe = load_recipe(path, overrides)
    run = train(recipe, resume=options.resume, quiet=quiet)
    write_report([run], run.report)
    if quiet:
        return
    console = PatientConsole()
    console.print()
    console.print(summary_table(run))
    console.print(f"report: {run.report}\n", soft_wrap=True)
    for command, purpose in next_commands(run, path, overrides):
        console.print(f"{purpose}:\n    {command}", soft_wrap=True)


def _eval(options: argparse.Namespace, overrides: dict[str, str]) -> None:
    if options.compare is None:
        if options.recipe is None or options.json is not None:
            given = "neither" if options.recipe is None else "--json without --compare"
            raise UserError(f"eval needs RECIPE.toml or --compare A B, got {given} (see fipo eval --help)")
        _score(options.recipe, overrides)
    else:
        unknown = [str(options.recipe)] if options.recipe else [f"--{key}" for key in overrides]
        if unknown:
            raise UserError(f"eval --compare takes two folders alone, got {unknown[0]} (see fipo eval --help)")
        a, b = options.compare
        _compare(a, b, options.json)


def _score(given: Path, overrides: dict[str, str]) -> None:
    path = find_recipe(given, ["eval"])
    with _loading():
        from fipo.evaluation.config import load_eval_recipe
        from fipo.evaluation.score import score
        from fipo.evaluation.summary import figures_table
        from fipo.telemetry.progress import PatientConsole

        recipe = load_eval_recipe(path, overrides)
    folder = score(recipe)
    console = PatientConsole()
    console.print()
    console.print(figures_table(folder.read_summary(), str(folder.path)))
    console.print(f"results: {folder.results}\nsummary: {folder.summary}", soft_wrap=True)


def _compare(a: Path, b: Path, target: Path | None) -> None:
    from fipo.evaluation.compare import compare, comparison_notes, comparison_table
    from fipo.telemetry.durable import refuse_unwritable, write_output
    from fipo.telemetry.progress import PatientConsole

    if target is not None:
        refuse_unwritable(target)
    comparison = compare(a, b)
    if target is not None:
        write_output(target, (json.dumps(comparison, indent=2) + "\n").encode())
    console = PatientConsole()
    console.print(comparison_table(comparison))
    for note in comparison_notes(comparison):
        console.print(note, soft_wrap=True)
    if target is not None:
        console.print(f"comparison: {target}", soft_wrap=True)


def _doctor(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    if options.recipe.is_dir() or (options.watch and not options.recipe.exists()):
        return _check_up(options, overrides)
    is_name = options.recipe.suffix == ".toml" or len(options.recipe.parts) == 1
    if not options.recipe.exists() and not is_name:
        raise UserError(f"{options.recipe}: no such run directory")
    if options.watch:
        raise UserError(f"doctor --watch takes a run directory, got {options.recipe}")
    from fipo.doctor.recipe import Options, diagnose
    from fipo.doctor.recipe.cluster import diagnose_job, is_job

    path, memory = find_recipe(options.recipe, ["train", "launch"]), options.memory_gib
    if is_job(path):
        if memory is not None:
            raise UserError(f"doctor takes --job.gpu_memory_gib for a cluster, got --memory-gib {memory:g}")
        return diagnose_job(path, overrides, os.environ)
    if memory is not None:
        if not memory > 0:
            raise UserError(f"--memory-gib must be > 0, got {memory:g}")
        _within("--memory-gib", memory, 0, 10**6)
    return diagnose(path, overrides, Options(samples=not options.no_samples, memory_gib=memory))


def _check_up(options: argparse.Namespace, overrides: dict[str, str]) -> int:
    from fipo.doctor.run import check_up, watch
    from fipo.telemetry.run_directory import RunDirectory

    of_recipes = [f"--{key}" for key in overrides]
    of_recipes += ["--no-samples"] * options.no_samples + ["--memory-gib"] * (options.memory_gib is not None)
    if of_recipes:
        raise UserError(f"doctor RUN takes --watch alone, got {of_recipes[0]}, which is for recipes")
    return watch(RunDirectory(options.recipe)) if options.watch else check_up(RunDirectory.existing(options.recipe))


def _launch(options: argparse.Namespace, overrides: dict[str, str]) -> None:
    from fipo.integrations.verl.launch import launch

    if options.dry_run and options.rehearse:
        raise UserError("launch takes one of --dry-run and --rehearse, got both")
    if not options.rehearse and (options.ranks, options.folder) != (1, REHEARSALS):
        raise UserError("--ranks and --folder are of --rehearse (see fipo launch --help)")
    _within("--ranks", options.ranks, 1, 64)
    rehearsal = options.folder if options.rehearse else None
    recipe = find_recipe(options.recipe, ["launch"])
    launch(recipe, overrides, os.environ, dry_run=options.dry_run, rehearsal=rehearsal, ranks=options.ranks)


def _export(options: argparse.Namespace) -> None:
    from fipo.publish.card import what_was_trained
    from fipo.publish.export import export
    from fipo.telemetry.run_directory import RunDirectory

    run = RunDirectory.existing(options.run)
    export(run, options.folder, step=options.step)
    print(f"model: {options.folder} ({what_was_trained(run.read_config())})")


def _push(options: argparse.Namespace) -> None:
    from fipo.publish.push import push
    from fipo.telemetry.run_directory import RunDirectory

    run = RunDirectory.existing(options.run)
    push(run, options.name, step=options.step, private=options.private, dry_run=options.dry_run, say=print)


def _study(given: Path, overrides: dict[str, str]) -> int:
    path = find_recipe(given, ["study"])
    try:
        from fipo.study.study import run_study
    except ModuleNotFoundError as error:
        if error.name not in ("scipy", "matplotlib"):
            raise
        raise UserError(f"fipo study needs the extra: {install_hint('study')}") from None

    study, outcome = run_study(path, overrides)
    print((study.folder / "outcome.md").read_text(encoding="utf-8"))
    print(f"tables, figures and metrics: {study.folder}")
    return 1 if any(outcome.failed.values()) else 0


def _report(paths: Sequence[Path], out: Path | None) -> None:
    from fipo.report import write_report
    from fipo.telemetry.run_directory import RunDirectory

    runs = [RunDirectory.existing(path) for path in paths]
    target = out or runs[0].report
    write_report(runs, target)
    print(f"report: {target}")


def _within(option: str, value: float, least: float, most: float) -> None:
    if not value >= least:
        raise UserError(f"{option} must be >= {least}, got {value}")
    if value > most:
        raise UserError(f"{option} must be <= {most}, got {value}")


def _sample(options: argparse.Namespace) -> None:
    from fipo.rollout.sample import sample_texts

    bounds = {"samples": (1, 10**6), "max_tokens": (1, 10**6), "temperature": (0, 1000), "seed": (0, 2**63 - 1)}
    settings = {name: getattr(options, name) for name in bounds}
    for name, (least, most) in bounds.items():
        _within(f"--{name.replace('_', '-')}", settings[name], least, most)
    if 0 < options.temperature < 1e-3:
        raise UserError(f"--temperature must be 0 or at least 0.001, got {options.temperature}")
    sampled = sample_texts(options.model, options.prompts, **settings)
    for prompt, texts in zip(options.prompts, sampled, strict=True):
        print(prompt)
        for text in texts:
            print(f"    {text}")


if __name__ == "__main__":
    sys.exit(main())
