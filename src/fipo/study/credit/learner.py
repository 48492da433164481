"""A DAPO run of a cell: groups are sampled, mini-batches of them train the policy, its drift is steered."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fipo.data.made.relay import grade_relay, questions_of, relay
from fipo.data.problem import Problem
from fipo.models.loading import load, stop_tokens
from fipo.objective import ALGORITHMS, group_advantages
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.groups import Group, ProblemStream, Roller, collect_groups
from fipo.rollout.prompts import Prompting
from fipo.rollout.sampler import SamplingParams
from fipo.seeding import derive_seed
from fipo.study.credit.design import Cell, Sampling
from fipo.telemetry.clock import Clock
from fipo.training.passes.layout import layout_of
from fipo.training.passes.logprobs import old_scores
from fipo.training.passes.packing import Pack, pack
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.update import update

DAPO = ALGORITHMS["dapo"]
MICRO_BATCH = 16384  # tokens
LATE = 4  # the last quarter of a step's updates says how far the policy drifts
SLOTS = 256
MORE = 1.4  # problems sampled for each group that is wanted: not all are mixed


class Learner:
    def __init__(self, sampling: Sampling, cell: Cell, seed: int) -> None:
        self.sampling, self.cell, self.seed = sampling, cell, seed
        self.model, tokenizer = load(cell.model)
        self.layout = layout_of(self.model, print)
        self.params = SamplingParams(temperature=1.0, max_tokens=4 * (cell.filler + 1) + 8)
        self.roller = Roller(
            sampler=make_sampler(self.model, stop_tokens=stop_tokens(self.model, tokenizer), slots=SLOTS),
            tokenizer=tokenizer,
            prompting=Prompting(),
            grade=lambda answers: [grade_relay(text, problem) for text, problem in answers],
        )
        problems = relay("train", len(questions_of("train")), seed, filler=cell.filler)
        self.stream = ProblemStream(problems, seed)
        self.optimizer = MasterAdamW(self.model, lr=sampling.learning_rate, weight_decay=0.1)

    def mixed(self, count: int, size: int, *names: str | int) -> list[Group]:
        """`count` groups of `size` responses in which success varies, from the policy of now."""
        return collect_groups(
            self.stream,
            self.roller,
            wanted=count,
            problems_per_batch=max(8, round(MORE * count)),
            group_size=size,
            max_batches=1000,
            drop_failed=False,
            params=self.params,
            seed=derive_seed(self.seed, *names),
            clock=Clock(),
        ).kept

    def sample(self, problems: Sequence[Problem], size: int, *names: str | int) -> list[Group]:
        return self.roller.groups(problems, size, self.params, derive_seed(self.seed, *names), Clock())

    def packed(self, groups: Sequence[Group], advantages: Tensor, mini_batches: int, tokens: int) -> list[list[Pack]]:
        return pack(
            groups,
            advantages,
            mini_batches=mini_batches,
            tokens_per_micro_batch=tokens,
            mask_truncated=False,
            layout=self.layout,
            device=self.model.device,
        )

    def train(self, groups: Sequence[Group], advantages: Tensor) -> float:
        """One epoch of updates over the groups [P], advantages [P, G].

        Returns the standard deviation of the FutureKL (half-life 32) in the last quarter of the mini-batches.
        """
        mini_batches = self.packed(groups, advantages, self.cell.mini_batches, MICRO_BATCH)
        old = [old_scores(self.model, packs, 1.0, _silent, entropy=False) for packs in mini_batches]
        outcomes = [
            update(
                self.model,
                self.optimizer,
                packs,
                scores,
                replace(DAPO, config=replace(DAPO.config, half_life=32.0)),
                temperature=1.0,
                token_divisor=None,
                max_grad_norm=1.0,
            )
            for packs, scores in zip(mini_batches, old, strict=True)
        ]
        late = [one.output for outcome in outcomes[-max(1, len(outcomes) // LATE) :] for one in outcome.packs]
        return float(torch.cat([output.future_kl[output.loss_mask] for output in late]).std())

    def steer(self, spread: float) -> None:
        """The next step's learning rate, at most twice and at least half of this one's."""
        factor = min(2.0, max(0.5, self.cell.spread / max(spread, 1e-9)))
        self.optimizer.param_groups[0]["lr"] *= factor

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


def advantages_of(groups: Sequence[Group]) -> Tensor:
    """DAPO's, [P, G], of rewards +1 and -1."""
    rewards = torch.tensor([[1.0 if grade.correct else -1.0 for grade in group.grades] for group in groups])
    return group_advantages(rewards)


def members(group: Group, chosen: slice) -> Group:
    """Some of the responses of a group."""
    return replace(group, responses=group.responses[chosen], texts=group.texts[chosen], grades=group.grades[chosen])


def _silent() -> None:
    pass
