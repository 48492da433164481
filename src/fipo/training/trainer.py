"""What a training step works with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.beat import Beat
from fipo.objective import Algorithm
from fipo.rollout.groups import ProblemStream, Roller
from fipo.training.control import Control
from fipo.training.passes.packing import Layout
from fipo.training.policy.loss_scale import LossScale
from fipo.training.policy.mfu import Compute
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.policy.reference import Reference
from fipo.training.recipe import Recipe

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Trainer:
    recipe: Recipe
    algorithm: Algorithm
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    reference: Reference | None  # of the KL penalty, if there is one
    layout: Layout  # of what the model is trained on
    optimizer: MasterAdamW
    loss_scale: LossScale | None  # of a float16 policy
    roller: Roller
    stream: ProblemStream
    compute: Compute
    control: Control | None  # weights in place of FIPO's, in a study
    beat: Beat
    make_room: Callable[[], None] = lambda: None  # gives the sampler's memory back until it samples again

    def with_room(self, work: Callable[[], Found]) -> Found:
        """What `work` gives. If the memory does not suffice it begins again, without what the sampler holds."""
        try:
            return work()
        except torch.OutOfMemoryError:
            pass  # what failed holds its memory up to here
        self.make_room()
        return work()
