"""How long the report of 200 steps with 256 rollouts each takes to write, and to open in a browser.

python bench/report.py

Opening ends when the first figures are drawn and the page has nothing left to do; the clock starts with the navigation.
CPU seconds are of the page's main thread, and hold on a busy machine too.
"""

import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine, save
from playwright.sync_api import sync_playwright

from fipo.report import write_report
from fipo.report.figures import all_figures, used_keys
from fipo.telemetry.run_directory import RunDirectory

STEPS, ROLLOUTS, GROUP, TOKENS = 200, 256, 8, 40
REPEATS = 3
LIMIT = 3.0  # seconds
DRAWN = "document.querySelector('.plot .main-svg') !== null"
IDLE = "new Promise(resolve => requestIdleCallback(() => resolve(performance.now() / 1000)))"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = big_run(Path(folder) / "big")
        begin = time.perf_counter()
        write_report([run], run.report)
        written = time.perf_counter() - begin
        size = run.report.stat().st_size / 2**20
        times = [opened(run.report) for _ in range(REPEATS)]
    wall, cpu = (statistics.median(seconds) for seconds in zip(*times, strict=True))
    print(f"{STEPS} steps of {ROLLOUTS} rollouts\n{machine()}")
    print(f"written in {written:.2f} s, {size:.1f} MiB")
    print(f"opened in {wall:.2f} s, {cpu:.2f} CPU seconds (medians of {REPEATS}; limit {LIMIT:.0f} s)")
    save("report", {"written": written, "mebibytes": size, "opened": wall, "opened_cpu": cpu, "limit": LIMIT})


def big_run(path: Path) -> RunDirectory:
    """In the format of the trainer: metrics of every figure, an evaluation every 10 steps."""
    rng = random.Random(0)
    run = RunDirectory(path)
    run.create({"run": {"name": path.name, "seed": 0, "steps": STEPS}, "objective": {"preset": "release_32b"}})
    for step in range(STEPS + 1):
        keys = [key for key in used_keys(all_figures()) if key.startswith("eval/") or step > 0]
        wanted = [key for key in keys if step % 10 == 0 or not key.startswith("eval/")]
        run.append_metrics({"step": step, **{key: rng.random() for key in wanted}})
        if step:
            run.write_rollouts(step, [rollout(step, number, rng) for number in range(ROLLOUTS)])
    return run


def rollout(step: int, number: int, rng: random.Random) -> dict[str, Any]:
    tokens = [rng.choice("0123456789+-=;#") for _ in range(TOKENS)]
    log_ratio = [rng.gauss(0, 0.01) for _ in tokens]
    correct = rng.random() < 0.5
    return {
        "step": step,
        "problem": f"signed_sums/{step}+{number // GROUP}",
        "prompt": f"{step}+{number // GROUP}=",
        "response": "".join(tokens),
        "tokens": tokens,
        "truncated": False,
        "expected": "26",
        "answer": "26" if correct else "25",
        "outcome": "correct" if correct else "wrong",
        "reason": None,
        "reward": 1.0 if correct else -1.0,
        "advantage": 1.0 if correct else -1.0,
        "mini_batch": number * 4 // ROLLOUTS,
        "in_loss": True,
        "log_ratio": log_ratio,
        "future_kl": [16 * value for value in log_ratio],
        "influence_weight": [min(1.2, max(1.0, 1 + 16 * value)) for value in log_ratio],
    }


def opened(page: Path) -> tuple[float, float]:
    """Seconds and CPU seconds, in a browser that has just started."""
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        devtools = tab.context.new_cdp_session(tab)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_function(DRAWN)
        wall: float = tab.evaluate(IDLE)
        metrics = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
        browser.close()
    return wall, metrics["ThreadTime"]


if __name__ == "__main__":
    main()
