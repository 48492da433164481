"""The tables of what came out, from the archived records alone."""

from collections.abc import Sequence
from math import acos, degrees
from statistics import fmean
from typing import Any

from fipo.study.credit.archive import read_records
from fipo.study.credit.design import USUAL_SPREAD, Cell, Design
from fipo.study.credit.estimands import (
    Bootstrapped,
    Share,
    correlation,
    cosine,
    mean,
    of_groups,
    of_sums,
    prediction,
    response_signal,
    share,
    within,
)
from fipo.study.credit.signals import BOUNDS
from fipo.study.outcome import ALPHA, table
from fipo.study.statistics import holm
from fipo.telemetry.durable import replace_file

PRIMARY = "fipo 1.0-1.2"
SUMMARY = [PRIMARY, "fipo 0.8-1.2", "fipo 0-10", "own token", "truth 1.0-1.2", "critic"]  # the last has no S
Records = dict[str, list[dict[str, Any]]]  # by cell, those that are in


def write_outcome(design: Design) -> None:
    """`outcome.md` in the design's folder."""
    records = {name: read_records(design.archive(name), design.fingerprint(name)) for name in design.cells}
    replace_file(design.folder / "outcome.md", markdown(design, records).encode())


def markdown(design: Design, records: Records) -> str:
    """The tables of whole cells alone: one that has begun would change every corrected p, and then once more."""
    there = {name: found for name, found in records.items() if len(found) >= design.credit.checkpoints}
    shares = {name: _shares(found) for name, found in there.items()}
    corrected = _corrected(next(iter(design.cells)), shares)
    parts = [
        f"# {design.credit.name}\n",
        f"In so far: {len(there)} of {len(design.cells)} cells{_begun(design, records)}.\n",
        f"## What the log-ratios say\n\n{_signals(design, there)}",
        f"## Does f point at the right tokens?\n\n{_pointing(design, there)}",
        f"## S, cell by cell\n\n{_summary(design, there, shares, corrected)}",
        f"## Exact advantages against branches\n\n{_branches(design, there)}",
    ]
    for name, found in there.items():
        parts.append(f"## The step, {_title(design.cells[name])}\n\n{_steps(name, found, shares[name], corrected)}")
    parts.append(
        "95% intervals resample checkpoints. S: the gain in cosine to the target over the shuffled twin, as a share of "
        'what the true advantages gain over DAPO\'s; gain: the same against DAPO; "-" where true advantages are not '
        "found to gain. p flips the signs of the checkpoints' gains over the twin; that of the primary S stands alone, "
        "all others share Holm's correction.\n"
    )
    return "\n".join(parts)


def _begun(design: Design, records: Records) -> str:
    """The cells that are in no table yet."""
    whole = design.credit.checkpoints
    begun = [f"{name} with {len(found)} of {whole}" for name, found in records.items() if 0 < len(found) < whole]
    return f"; begun, and in no table: {', '.join(begun)} checkpoints" if begun else ""


def _title(cell: Cell) -> str:
    other = {"once": "", "two epochs": ", two epochs", "siblings": ", siblings trained on"}[cell.kind]
    spread = "" if cell.spread == USUAL_SPREAD else f", sd(F) {cell.spread:g}"
    task = "sums" if cell.filler is None else f"L = {cell.filler}"
    seeds = f", seeds from {cell.first_seed}" if cell.first_seed else ""
    return f"{cell.responses} responses an update, {task}{spread}{other}{seeds}"


def _signals(design: Design, there: Records) -> str:
    head = ["cell", "checkpoints", "sd(F)", "mean ratio", "spread / sign-flipped", "corr(x, A)", "corr(F, A)"]
    head += ["predicted", "corr(future, A)", "corr(F, R - V)", "corr(against base, A)", "response signal"]
    rows = []
    for name, found in there.items():
        of = [
            mean([r["spread"] for r in found]),
            of_sums(found, "ratio", lambda s: float(s[1] / s[0])),
            of_sums(found, "spread", lambda s: float((s[0] / s[1]) ** 0.5)),
            of_sums(found, "x, A", correlation),
            of_sums(found, "F, A", correlation),
            prediction(found),
            of_sums(found, "future, A", correlation),
            of_sums(found, "F, R - V", correlation),
            of_sums(found, "base, A", correlation),
            response_signal(found),
        ]
        digits = [3, 4, *(3 for _ in of[2:])]
        cells = [_shown(one, digit) for one, digit in zip(of, digits, strict=True)]
        rows.append([_title(design.cells[name]), str(len(found)), *cells])
    return table(head, rows)


def _pointing(design: Design, there: Records) -> str:
    head = ["cell", *(f"P {bounds}, {what}" for bounds in BOUNDS for what in ("right", "wrong"))]
    head += ["F before / on / after the first mistake", "x on it / elsewhere"]
    rows = []
    for name, found in there.items():
        cells = [
            _shown(of_sums(found, f"P {bounds} {what}", within), 3) for bounds in BOUNDS for what in ("right", "wrong")
        ]
        sums = of_groups(found, "mistake").reshape(5, 2)
        around = (sums[:, 1] / sums[:, 0]).tolist()
        cells += [" / ".join(f"{v:+.4f}" for v in around[:3]), " / ".join(f"{v:+.4f}" for v in around[3:])]
        rows.append([_title(design.cells[name]), *cells])
    return table(head, rows)


def _branches(design: Design, there: Records) -> str:
    """Where the exact ones are right, z^2 is 1 on average; z is in standard errors of the branches."""
    head = ["cell", "tokens", "checked", "exact - branches, mean", "mean z^2"]
    rows = []
    for name, found in there.items():
        for kind, title in ((1, "digits"), (0, "letters")):
            checks = [check for record in found for check in record["branches"] if check[0] == kind]
            if not checks:
                continue
            squares = [(exact - branched) ** 2 / variance for _, exact, branched, variance in checks if variance]
            difference = fmean(exact - branched for _, exact, branched, _ in checks)
            row = [_title(design.cells[name]), title, str(len(checks)), f"{difference:+.4f}", f"{fmean(squares):.2f}"]
            rows.append(row)
    return table(head, rows)


def _shares(records: Sequence[dict[str, Any]]) -> dict[str, tuple[Share | None, Share]]:
    """By name: S against the shuffled twin, where there is one, and the gain over DAPO."""
    names = [name for name in records[0]["cosines"] if "/shuffled_" not in name and name != "dapo"]
    twins = {name for name in names if f"{name}/shuffled_0" in records[0]["cosines"]}
    return {
        name: (share(records, name, f"{name}/shuffled") if name in twins else None, share(records, name, "dapo"))
        for name in names
    }


def _corrected(first: str, shares: dict[str, dict[str, tuple[Share | None, Share]]]) -> dict[tuple[str, str], float]:
    """Holm over every S but the primary one; the truth's are the positive control and no test."""
    tested = {
        (cell, name): s.p
        for cell, of in shares.items()
        for name, (s, _) in of.items()
        if s is not None and not name.startswith("truth") and (cell, name) != (first, PRIMARY)
    }
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def _summary(
    design: Design,
    there: Records,
    shares: dict[str, dict[str, tuple[Share | None, Share]]],
    corrected: dict[tuple[str, str], float],
) -> str:
    """S of some weights in each cell, with the p that passes the correction, and the gain of the critic."""
    rows = []
    for cell, found in there.items():
        gains, shown = _truth_gains(found), []
        for name in SUMMARY:
            s, gain = shares[cell][name]
            p = corrected.get((cell, name), 1.0)
            shown.append(_shown_share(s or gain, gains) + (f", p = {p:.2g}" if p < ALPHA else ""))
        rows.append([_title(design.cells[cell]), *shown])
    return table(["cell", *(f"S of {name}" for name in SUMMARY[:-1]), f"gain of the {SUMMARY[-1]}"], rows)


def _steps(
    cell: str,
    records: Sequence[dict[str, Any]],
    shares: dict[str, tuple[Share | None, Share]],
    corrected: dict[tuple[str, str], float],
) -> str:
    rows = [["dapo", _shown(mean([cosine(r, "dapo") for r in records]), 4), "", "", "", "", "", ""]]
    gains = _truth_gains(records)
    for name, (s, gain) in shares.items():
        turned = fmean(degrees(acos(min(1.0, r["cosines"][name][1]))) for r in records)
        rows.append(
            [
                name,
                _shown(mean([cosine(r, name) for r in records]), 4),
                f"{turned:.1f}",
                "" if s is None else f"{s.difference:+.4f}",
                "" if s is None else f"{s.p:.3g}",
                f"{corrected[cell, name]:.3g}" if (cell, name) in corrected else "",
                "" if s is None else _shown_share(s, gains),
                _shown_share(gain, gains),
            ]
        )
    head = ["weights", "cosine", "degrees from DAPO", "cosine over shuffled", "p", "p corrected", "S", "gain"]
    return table(head, rows)


def _truth_gains(records: Sequence[dict[str, Any]]) -> bool:
    """Whether true advantages are found to gain over DAPO's; of few checkpoints it is not asked."""
    whole = mean([cosine(r, "truth") - cosine(r, "dapo") for r in records])
    return whole.low is None or whole.low > 0


def _shown_share(of: Share, truth_gains: bool) -> str:
    """Where true advantages are not found to gain, the share is one of next to nothing: "-"."""
    return _shown(of.share, 3) if truth_gains else "-"


def _shown(one: Bootstrapped, digits: int) -> str:
    interval = "" if one.low is None else f" [{one.low:.{digits}f}, {one.high:.{digits}f}]"
    return f"{one.value:.{digits}f}{interval}"
