"""`fipo train` with trackers, by their real libraries."""

from pathlib import Path

import pytest
from tests.telemetry.tracker_readers import READERS, need
from tests.training.helpers import run_recipe
from tests.training.test_loop import metrics_without_times, weights_hash

from fipo.errors import UserError


def test_an_unknown_tracker_is_refused_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(UserError, match=r"telemetry.trackers.*'swanlab' or 'trackio', got 'tb'"):
        run_recipe(folder, "run", telemetry__trackers='["tb"]')


@pytest.mark.slow
def test_all_trackers_hold_what_metrics_jsonl_holds_and_change_nothing_of_the_run(folder: Path) -> None:
    for name in READERS:
        need(name)
    tracked = run_recipe(folder, "tracked", run__steps="2", telemetry__trackers=str(list(READERS)).replace("'", '"'))
    plain = run_recipe(folder, "plain", run__steps="2")
    assert metrics_without_times(tracked) == metrics_without_times(plain)
    assert weights_hash(tracked) == weights_hash(plain)
    lines = {line.pop("step"): line for line in tracked.read_metrics()}
    for name, read in READERS.items():
        assert read(tracked.trackers / name) == {step: pytest.approx(line, rel=1e-6) for step, line in lines.items()}
