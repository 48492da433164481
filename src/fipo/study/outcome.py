"""From the archive of a study to its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from fipo.study.archive import ArchivedRun
from fipo.study.config import Study
from fipo.study.endpoints import DESCRIBED, ENDPOINTS, TESTED, Endpoint, speed_scale
from fipo.study.statistics import EXACT_UP_TO, POWER, SeedEstimate, detectable, estimate, holm, sign_flip_p

ALPHA = 0.05
REFERENCE = "dapo"  # the arm whose learning curve says what a difference in reward is worth
INTERVALS = "Means with 95% intervals over seeds (Student's t).\n"
SPEED = (
    "A difference in mean training reward, over what learning one percent faster adds to it, read off the curve of "
    "DAPO to first order: (its reward in the last tenth of the steps - its mean reward) / 100.\n"
)
TESTS = (
    f"Differences are paired by seed; p by flipping signs: exact up to {EXACT_UP_TO} seeds, else {2**EXACT_UP_TO:,} "
    "random patterns. The first difference is the primary one: tested by itself, in the order of the tables, each only "
    "if the one before was found. The others are corrected for their number (Holm). Detectable: the true difference "
    f"that a paired t-test at the same level finds with {POWER:.0%} power; empty where so few seeds cannot reach that "
    "level at all.\n"
)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A - B of one endpoint, over the seeds that both have."""

    a: str
    b: str
    endpoint: str
    difference: SeedEstimate
    p: float
    corrected_p: float  # of all but the first, for their number (Holm)
    # The smallest true difference seen with 80% power, at ALPHA; for all but the first at ALPHA / their number.
    detectable: float | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    arms: dict[str, dict[str, SeedEstimate]]  # by arm and endpoint, over finished runs
    ended: int  # runs, failed ones among them
    failed: dict[str, int]  # runs by arm
    contrasts: list[Contrast]
    speed_scale: float | None  # mean training reward that learning faster by 1 would add to the arm `dapo`

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def outcome_of(study: Study, runs: Sequence[ArchivedRun]) -> Outcome:
    """Failed runs are counted, and left out of every mean and pair. Runs that are not of the study are ignored."""
    runs = [run for run in runs if run.arm in study.arms and run.seed in study.seeds_of(run.arm)]
    values = {
        name: {
            (run.arm, run.seed): value for run in runs if not run.failure and (value := of.value(run.lines)) is not None
        }
        for name, of in ENDPOINTS.items()
    }
    arms = {arm: {name: e for name in ENDPOINTS if (e := _of_arm(values[name], arm))} for arm in study.arms}
    failed = {arm: sum(run.arm == arm and run.failure is not None for run in runs) for arm in study.arms}
    pairs = study.study.contrasts
    contrasts = [contrast for name in TESTED for contrast in _contrasts(name, values[name], pairs)]
    return Outcome(arms=arms, ended=len(runs), failed=failed, contrasts=contrasts, speed_scale=_scale(runs))


def _scale(runs: Sequence[ArchivedRun]) -> float | None:
    """The speed scale of DAPO's mean learning curve; None without that arm."""
    found = [speed_scale(run.lines) for run in runs if run.arm == REFERENCE and not run.failure]
    scales = [scale for scale in found if scale is not None]
    return fmean(scales) if scales else None


def _of_arm(values: Mapping[tuple[str, int], float], arm: str) -> SeedEstimate | None:
    own = [value for (name, _), value in values.items() if name == arm]
    return estimate(own) if own else None


def _contrasts(
    endpoint: str, values: Mapping[tuple[str, int], float], pairs: Sequence[tuple[str, str]]
) -> list[Contrast]:
    differences = {
        (a, b): [value - values[b, seed] for (arm, seed), value in values.items() if arm == a and (b, seed) in values]
        for a, b in pairs
    }
    found = {pair: own for pair, own in differences.items() if own}
    p_values = {pair: sign_flip_p(own) for pair, own in found.items()}
    others = [pair for pair in found if pair != pairs[0]]
    corrected = dict(zip(others, holm([p_values[pair] for pair in others]), strict=True))
    return [
        Contrast(
            a=a,
            b=b,
            endpoint=endpoint,
            difference=(difference := estimate(own)),
            p=p_values[a, b],
            corrected_p=corrected.get((a, b), p_values[a, b]),
            detectable=detectable(
                difference.deviation or 0.0, difference.seeds, alpha=ALPHA / (len(others) if (a, b) in others else 1)
            ),
        )
        for (a, b), own in found.items()
    ]


def markdown(study: Study, outcome: Outcome) -> str:
    """The tables of a study: its arms, and its contrasts."""
    parts = [f"# {study.study.name}\n"]
    if outcome.ended < study.runs:
        parts.append(f"So far: {outcome.ended} of {study.runs} runs. What is missing can change everything below.\n")
    for heading, endpoints in DESCRIBED.items():
        parts.append(f"## {heading}\n\n{_arms_table(study, outcome, endpoints)}")
    parts.append(INTERVALS)
    if outcome.contrasts:
        parts += [_contrasts_table(study, outcome, name, endpoint) for name, endpoint in TESTED.items()]
        parts.append(TESTS)
        if outcome.speed_scale:
            parts.append(_speed_table(study, outcome, outcome.speed_scale))
    return "\n".join(parts)


def _arms_table(study: Study, outcome: Outcome, endpoints: Mapping[str, Endpoint]) -> str:
    shown = {name: endpoint for name, endpoint in endpoints.items() if any(name in e for e in outcome.arms.values())}
    head = ["arm", "seeds", "failed", *(endpoint.title for endpoint in shown.values())]
    rows = []
    for arm, estimates in outcome.arms.items():
        seeds = max((e.seeds for e in estimates.values()), default=0)
        cells = [_with_half(estimates.get(name), endpoint) for name, endpoint in shown.items()]
        rows.append([title(study, arm), str(seeds), str(outcome.failed[arm]), *cells])
    return table(head, rows)


def _contrasts_table(study: Study, outcome: Outcome, name: str, endpoint: Endpoint) -> str:
    rows = []
    for contrast in (c for c in outcome.contrasts if c.endpoint == name):
        d, digits = contrast.difference, endpoint.digits
        interval = f" [{d.low:+.{digits}f}, {d.high:+.{digits}f}]" if d.low is not None else ""
        rows.append(
            [
                f"{title(study, contrast.a)} - {title(study, contrast.b)}",
                str(d.seeds),
                f"{d.mean:+.{digits}f}{interval}",
                f"{contrast.p:.3g}",
                f"{contrast.corrected_p:.3g}",
                "" if contrast.detectable is None else f"{contrast.detectable:.{digits}f}",
            ]
        )
    head = ["A - B", "seeds", "difference [95%]", "p", "p corrected", "detectable"]
    return f"## Differences: {endpoint.title}\n\n{table(head, rows)}"


def _speed_table(study: Study, outcome: Outcome, scale: float) -> str:
    rows = []
    for contrast in (c for c in outcome.contrasts if c.endpoint == "reward"):
        d = contrast.difference
        low, high = ("" if bound is None else f"{100 * bound / scale:+.1f}" for bound in (d.low, d.high))
        detectable = "" if contrast.detectable is None else f"{100 * contrast.detectable / scale:.1f}"
        name = f"{title(study, contrast.a)} - {title(study, contrast.b)}"
        rows.append([name, str(d.seeds), f"{100 * d.mean / scale:+.1f} [{low}, {high}]", detectable])
    head = ["A - B", "seeds", "learning speed, % of DAPO's [95%]", "detectable"]
    return f"## Differences: learning speed\n\n{table(head, rows)}\n{SPEED}"


def title(study: Study, arm: str) -> str:
    return study.arms[arm].title or arm


def _with_half(e: SeedEstimate | None, endpoint: Endpoint) -> str:
    if e is None:
        return ""
    if endpoint.counts:
        return f"{round(e.mean * e.seeds)} of {e.seeds}"
    half = "" if e.high is None else f" ± {e.high - e.mean:.{endpoint.digits}f}"
    return f"{e.mean:.{endpoint.digits}f}{half}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
