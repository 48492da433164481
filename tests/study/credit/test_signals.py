from itertools import pairwise

import pytest
import torch
from tests.study.credit.test_truth import measured  # noqa: F401

from fipo.study.credit.critic import gae
from fipo.study.credit.gradients import cosines, target_gradient
from fipo.study.credit.signals import BOUNDS, weights
from fipo.training.passes.logprobs import score


@pytest.fixture(scope="module")
def sets(measured):  # noqa: F811
    return dict(weights(measured, shuffles=2, seed=0))


def test_dapo_is_one_everywhere_and_comes_first(sets):
    assert next(iter(sets)) == "dapo"
    assert torch.all(sets["dapo"] == 1)


def test_weights_keep_to_their_bounds(sets):
    for name, (low, high) in BOUNDS.items():
        for kind in ("fipo", "truth"):
            assert float(sets[f"{kind} {name}"].min()) >= low
            assert float(sets[f"{kind} {name}"].max()) <= high


def test_twins_are_the_same_weights_on_other_tokens_of_the_same_response(sets, measured):  # noqa: F811
    for name in ("fipo 0-10", "past", "truth 0-10"):
        for b, mask in enumerate(measured.loss_mask):
            assert sorted(sets[f"{name}/shuffled_1"][b][mask].tolist()) == sorted(sets[name][b][mask].tolist())
    assert not torch.equal(sets["fipo 0-10"], sets["fipo 0-10/shuffled_0"])


def test_what_replaces_the_advantage_is_it_when_multiplied_with_dapos(sets, measured):  # noqa: F811
    assert torch.allclose(sets["truth"] * measured.advantages, measured.truth, atol=1e-6)


def test_the_truth_in_bounds_amplifies_the_mistake_and_the_digits_that_saved_the_day(sets, measured):  # noqa: F811
    deserving = measured.truth * measured.advantages > 0.1
    assert deserving.any()
    assert torch.all(sets["truth 1.0-1.2"][deserving] > 1)


def test_the_generalised_advantage_goes_from_steps_of_the_value_to_the_reward(measured):  # noqa: F811
    """V(s_(t+1)) - V(s_t) at the end, with R last; earlier ones discounted by .95."""
    found = gae(measured.critic, measured.rewards, measured.loss_mask)
    b = 0
    n = int(measured.loss_mask[b].sum())
    v = [*measured.critic[b, :n].tolist(), float(measured.rewards[b])]
    steps = [after - before for before, after in pairwise(v)]
    for t in range(n):
        assert found[b, t] == pytest.approx(sum(0.95**h * step for h, step in enumerate(steps[t:])), abs=1e-5)


def test_the_step_of_the_true_advantages_is_the_target_of_the_same_responses(sampled, sets):
    target = target_gradient(sampled.model, [sampled.pack], [sampled.truth.advantages])
    with torch.no_grad():
        old = score(sampled.model, sampled.pack, 1.0, entropy=False).logprobs
    few = {name: sets[name] for name in ("dapo", "truth", "fipo 1.0-1.2")}
    found = cosines(sampled.model, sampled.pack, sampled.parts, old, few, target)
    assert found["truth"][0] == pytest.approx(1.0, abs=1e-4)
    assert found["dapo"][1] == pytest.approx(1.0)
    assert 0 < found["dapo"][0] < 0.99
    assert found["fipo 1.0-1.2"][1] > 0.99
    assert len(sampled.parts) > 3
    for name, at_once in cosines(sampled.model, sampled.pack, [sampled.pack], old, few, target).items():
        assert found[name] == pytest.approx(at_once, abs=1e-5)
