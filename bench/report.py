"""The report of a long run: how long it takes to write, how large it is, how soon a browser shows it.

python bench/report.py [--steps 200] [--rollouts 256] [--tokens 200]
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import add_save, save
from playwright.sync_api import sync_playwright

from fipo.report import write_report
from fipo.report.figures import all_figures, used_keys
from fipo.telemetry.run_directory import RunDirectory

GROUP = 8
MINI_BATCHES = 4
OBJECTIVE = {"half_life": 32.0, "influence_clip": [0.8, 1.2], "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 10.0}
DISTINCT = 4  # steps; the others repeat them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rollouts", type=int, default=256, help="a step")
    parser.add_argument("--tokens", type=int, default=200, help="a response, on average")
    add_save(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = synthetic_run(Path(folder) / "long", options.steps, options.rollouts, options.tokens)
        recorded = sum(path.stat().st_size for path in run.rollout_files().values())
        started = time.perf_counter()
        write_report([run], run.report)
        writing = time.perf_counter() - started
        result = {
            "steps": options.steps,
            "rollouts_a_step": options.rollouts,
            "mean_tokens": options.tokens,
            "recorded_mb": round(recorded / 1e6),
            "report_mb": round(run.report.stat().st_size / 1e6, 1),
            "seconds_to_write": round(writing, 1),
            **opening(run.report),
        }
    print(json.dumps(result, indent=2))
    save("report", result, kept=options.save)


def synthetic_run(path: Path, steps: int, rollouts: int, tokens: int) -> RunDirectory:
    """With the shapes and the spread of a real run's rollouts, and none of its learning."""
    run = RunDirectory(path)
    run.create(
        {
            "update": {"mini_batches": MINI_BATCHES},
            "telemetry": {"rollout_groups": rollouts // GROUP},
            "resolved": {"objective": OBJECTIVE},
        }
    )
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(1, 8))) for _ in range(3000)]
    vocabulary = [f" {word}" for word in words] + [".", ",", "\n", " =", "+", *"0123456789"]
    frequencies = [1 / (rank + 10) for rank in range(len(vocabulary))]
    distinct = [
        [
            _rollout(group, chance, chance.choices(vocabulary, frequencies, k=max(2, round(chance.gauss(tokens, 60)))))
            for group in range(rollouts // GROUP)
            for _ in range(GROUP)
        ]
        for _ in range(min(DISTINCT, steps))
    ]
    for step in range(steps + 1):
        keys = [key for key in used_keys(all_figures()) if step % 10 == 0 or not key.startswith("eval/")]
        run.append_metrics({"step": step, **{key: chance.random() for key in keys}})
    for step in range(1, steps + 1):
        run.write_rollouts(step, ({"step": step, **record} for record in distinct[step % len(distinct)]))
    return run


def _rollout(group: int, chance: random.Random, tokens: list[str]) -> dict[str, Any]:
    correct = chance.random() < 0.5
    mini_batch = group % MINI_BATCHES
    moved = 0.02 * mini_batch
    log_ratio = [float(f"{chance.gauss(0, moved) * chance.random() ** 3 * 4:.6g}") for _ in tokens]
    kl, total = [], 0.0
    for value in reversed(log_ratio):
        total = value + total * 2 ** (-1 / OBJECTIVE["half_life"])
        kl.append(float(f"{total:.6g}"))
    kl.reverse()
    return {
        "problem": f"synthetic/{group}",
        "prompt": f"Problem {group}: " + "".join(tokens[:40]),
        "response": "".join(tokens),
        "tokens": tokens,
        "truncated": False,
        "expected": "7",
        "answer": "7" if correct else "8",
        "outcome": "correct" if correct else "wrong",
        "reason": None,
        "reward": 1.0 if correct else -1.0,
        "advantage": 0.935414 if correct else -0.935414,
        "mini_batch": mini_batch,
        "left_out": None,
        "log_ratio": log_ratio,
        "future_kl": kl,
        "influence_weight": [min(1.2, max(0.8, float(f"{2.718281828**value:.6g}"))) for value in kl],
        "marks": {},
    }


def opening(report: Path) -> dict[str, float]:
    """Seconds until the first figures and a group's tokens are drawn, until another step's are, and to search all."""
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        started = time.perf_counter()
        page.goto(report.as_uri(), wait_until="commit")
        page.wait_for_selector(".plot .main-svg", timeout=60_000)
        page.wait_for_selector("#credit-responses .credit-token", timeout=60_000)
        opened = time.perf_counter()
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        title = page.inner_text("#credit-title")
        page.click("#credit-previous")
        page.wait_for_function("title => document.getElementById('credit-title').textContent !== title", arg=title)
        stepped = time.perf_counter()
        page.fill("#credit-text", "no such text")
        page.wait_for_function(
            "() => (([_, n, all]) => n === all)"
            "(/searched (\\d+) of (\\d+)/.exec(document.getElementById('credit-found').textContent) ?? [0, 0, 1])",
            timeout=60_000,
        )
        searched = time.perf_counter()
        browser.close()
    return {
        "seconds_to_open": round(opened - started, 2),
        "cpu_seconds_to_open": round(metrics["ThreadTime"], 2),
        "seconds_to_another_step": round(stepped - opened, 2),
        "seconds_to_search_all": round(searched - stepped, 2),
    }


if __name__ == "__main__":
    main()
