import pytest
import torch

from fipo.objective import ALGORITHMS, Tokens, algorithm, metric_values, policy_loss


def test_a_function_can_be_any_surrogate(make_inputs, run):
    def mine(tokens, cfg):
        return torch.maximum(
            -tokens.advantages * tokens.ratio,
            -tokens.advantages * tokens.ratio.clamp(1 - cfg.clip_low, 1 + cfg.clip_high),
        )

    (out, gradient), (grpo, same) = (
        run(make_inputs(1), algorithm("grpo", surrogate=mine)),
        run(make_inputs(1), ALGORITHMS["grpo"]),
    )
    assert torch.equal(out.loss, grpo.loss)
    assert torch.equal(gradient, same)
    assert not any("clip_fraction" in key for key in metric_values(out.metrics()))


def test_it_sees_zeros_off_the_mask_and_the_weighted_advantages(make_inputs):
    inputs, seen = make_inputs(2), []

    def spy(tokens: Tokens, cfg):
        seen.append(tokens)
        return tokens.logprobs

    out = policy_loss(inputs, algorithm("paper_7b", surrogate=spy))
    [tokens] = seen
    for tensor in (tokens.log_ratio, tokens.advantages, tokens.logprobs, tokens.old_logprobs):
        assert tensor.shape == (6, 40)
        assert (tensor[~inputs.loss_mask] == 0).all()
    assert torch.equal(tokens.advantages, out.advantages * out.influence_weights)
    assert (out.influence_weights[inputs.loss_mask] != 1).any()
    assert tokens.logprobs.requires_grad and tokens.ratio.requires_grad and not tokens.old_logprobs.requires_grad


def test_losses_of_another_shape_are_refused(make_inputs):
    with pytest.raises(ValueError, match=r"^a surrogate must return losses of shape \[6, 40\], got \[6\]$"):
        policy_loss(make_inputs(3), algorithm("dapo", surrogate=lambda tokens, cfg: tokens.ratio.sum(1)))
