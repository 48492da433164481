"""The frozen reference of the KL penalty: the policy as the recipe names it, before its first update."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from fipo.beat import Beat, no_beat
from fipo.training.passes.logprobs import old_scores
from fipo.training.passes.packing import Pack
from fipo.training.policy.lora import is_adapted, without_adapters
from fipo.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Reference:
    model: PreTrainedModel
    frozen: Callable[[], AbstractContextManager[None]] = nullcontext  # inside, `model` is what the recipe names

    def logprobs(self, packs: Sequence[Pack], temperature: float, beat: Beat = no_beat) -> list[Tensor]:
        """[B, K] of each pack, by the function and the kernels that score the policy: equal weights, equal bits."""
        with self.frozen():
            scores = old_scores(self.model, packs, temperature, beat, entropy=False)
        return [one.logprobs for one in scores]


def reference_of(recipe: Recipe, model: PreTrainedModel) -> Reference | None:
    """A copy of `model`, in its precision; under LoRA `model` itself, its adapters off; None without a penalty.

    To be called before training or a checkpoint changes the weights: a resumed run has the reference it began with.
    """
    if recipe.objective.kl_coef == 0:
        return None
    if is_adapted(model):
        return Reference(model=model, frozen=lambda: without_adapters(model))
    return Reference(model=copy.deepcopy(model).requires_grad_(False))
