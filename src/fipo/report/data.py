"""What the report draws: the runs' metrics as columns, and which runs are seeds of one arm."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fipo.telemetry.run_directory import RunDirectory

EXTREMES = ("fipo/influence_weight/min", "fipo/influence_weight/max")
OF_WEIGHTS = (  # what a run whose every weight is 1 has not
    "fipo/influence_weight/clipped_low",
    "fipo/influence_weight/clipped_high",
    "fipo/safety_capped",
    "fipo/influence_weight/std",
)

Columns = dict[str, list[float | None]]


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """Runs of one configuration, which differ in their seed: one colour, one switch."""

    name: str
    runs: tuple[str, ...]
    seeds: tuple[Any, ...]  # of several runs; () of one


def named(runs: Sequence[RunDirectory]) -> dict[str, RunDirectory]:
    """The runs by name, or by path where two have one name. The same directory twice counts once."""
    distinct = list({run.path.resolve(): run for run in runs}.values())
    names = [run.path.resolve().name for run in distinct]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in distinct]
    return dict(zip(names, distinct, strict=True))


def columns(metrics: Sequence[Mapping[str, float]], keys: Iterable[str]) -> Columns:
    """{key: [one value per line of metrics, None where it has none]}, without the keys that no line has."""
    found = {key: [line.get(key) for line in metrics] for key in ("step", *keys)}
    return {key: values for key, values in found.items() if any(value is not None for value in values)}


def drawn_columns(metrics: Sequence[Mapping[str, float]], keys: Iterable[str]) -> Columns:
    """`columns` of what a figure may show: where every weight is 1, as in DAPO, none is at a bound or differs."""
    weights = [line[key] for line in metrics for key in EXTREMES if key in line]
    constant = bool(weights) and set(weights) == {1.0}
    return columns(metrics, [key for key in keys if not (constant and key in OF_WEIGHTS)])


def arms(configs: Mapping[str, Mapping[str, Any]]) -> list[RunGroup]:
    """Runs whose config.toml differs in run.seed, run.name and run.folder alone, with different seeds, are one arm.

    The hashes of the problems do not count: the seed draws those of a generated source.
    """
    groups: list[dict[Any, str]] = []  # {seed: run}
    settings: list[str] = []
    for name, config in configs.items():
        seed = config.get("run", {}).get("seed")
        own = _without_seed(config)
        same = (group for group, theirs in zip(groups, settings, strict=True) if theirs == own)
        joined = next((group for group in same if seed is not None and None not in group and seed not in group), None)
        if joined is None:
            groups.append({seed: name})
            settings.append(own)
        else:
            joined[seed] = name
    names = [_common_name(list(group.values())) for group in groups]
    if len(set(names)) < len(names):
        names = [", ".join(group.values()) for group in groups]
    return [
        RunGroup(name=name, runs=tuple(group.values()), seeds=tuple(group) if len(group) > 1 else ())
        for name, group in zip(names, groups, strict=True)
    ]


def _without_seed(config: Mapping[str, Any]) -> str:
    run = {key: value for key, value in config.get("run", {}).items() if key not in ("seed", "name", "folder")}
    resolved = {key: value for key, value in config.get("resolved", {}).items() if key != "data"}
    return json.dumps({**config, "run": run, "resolved": resolved}, sort_keys=True, default=str)


def _common_name(names: list[str]) -> str:
    """`sums_seed0` and `sums_seed1` are `sums`."""
    if len(names) == 1:
        return names[0]
    prefix = os.path.commonprefix(names)  # noqa: RUF071 - by characters
    return re.sub(r"([ _.-]+(s|seed)?|seed)[ _.-]*\d*$", "", prefix) or ", ".join(names)
