"""What a run with TRL says once: weights that stay at 1, dynamic sampling that judges by a reward of many values."""

import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from tests.integrations.trl.helpers import correct, make_trainer, random_rollouts

from fipo.integrations.trl.said_once import SaidOnce

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def said(caplog: pytest.LogCaptureFixture, folder: Path, **options: Any) -> list[str]:
    """Of two generations with two mini-batches each."""
    settings = {"mini_batches": 2, "max_steps": 4, **options}
    with caplog.at_level(logging.WARNING, logger="fipo"):
        make_trainer(folder, random_rollouts(4, 4), **settings).train()
    return [record.getMessage() for record in caplog.records if record.name == "fipo"]


def test_a_learning_rate_at_which_the_weights_stay_at_1_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = said(caplog, tmp_path, learning_rate=1e-9)
    assert line.startswith("learning_rate 1e-09: in the last of 2 mini-batches the weights f are 1 up ")
    assert "\n" not in line


@pytest.mark.parametrize("options", [{}, {"learning_rate": 1e-9, "preset": "dapo"}])
def test_weights_that_move_or_are_not_wanted_are_not_spoken_of(
    options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert said(caplog, tmp_path, **options) == []


def test_the_weights_of_a_warm_up_are_not_judged(caplog: pytest.LogCaptureFixture) -> None:
    once = SaidOnce(speaks=True)
    once.weights(1e-6, mini_batches=2, learning_rate=1e-7, of=1e-6)
    assert not caplog.records
    once.weights(1e-6, mini_batches=2, learning_rate=1e-6, of=1e-6)
    assert len(caplog.records) == 1


def partial_credit(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [len(tokens) / 12 for tokens in completion_ids]


def test_dynamic_sampling_judged_by_a_reward_of_many_values_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (line,) = said(caplog, tmp_path, rewards=[partial_credit, correct])
    assert line.startswith("dynamic_sampling judges by the reward function partial_credit, which gave ")


@pytest.mark.parametrize("options", [{"accuracy_reward": "correct"}, {"dynamic_sampling": False}])
def test_an_accuracy_of_two_values_is_not_warned_of(
    options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert said(caplog, tmp_path, rewards=[partial_credit, correct], **options) == []
