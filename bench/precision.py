"""How much of FIPO's credit is signal, and how much is rounding, for a model, a precision and a size of update.

    python bench/precision.py MODEL [--dtype bfloat16 float16] [--learning-rate 1e-6 1e-5] [--mini-batches 2 4 8 16]

MODEL is "embedded", a folder or a hub name. Its weights are rounded to bfloat16 first, as published ones are; with
`--start anywhere` each then moves to a random place in its rounding cell, where float32 masters are after some steps.
Responses are sampled and get random advantages (the rounding does not know what was right); a float32 copy is updated
mini-batch by mini-batch by the trainer's own code. Before the last mini-batch of each size its responses are scored
under the old and the new weights: in float32, which is the credit as it should be, and by each policy that a trainer
might run: weights and arithmetic in `--dtype`, the same with a float32 head, and weights alone rounded. Then once more
without any update and with other packs, as where old log-probs are recomputed.

Columns: weights that changed in the policy's dtype at all; sd of the error of a token's log-ratio x, of FutureKL F;
sd of F; correlation of F, and of f within (1, 1.2), with float32's; the share of f's variance that is rounding.
"""

import argparse
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import add_save, machine, save
from policies import FLOAT32, begin, changed, policies_in
from torch import Tensor
from transformers import PreTrainedModel

from fipo.beat import no_beat
from fipo.data.made.signed_sums import signed_sums
from fipo.data.problem import Problem
from fipo.grading.grade import Grade
from fipo.models.determinism import deterministic_operations
from fipo.models.loading import EMBEDDED, device_of, load, stop_tokens
from fipo.objective import ALGORITHMS, group_advantages
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.groups import Group, ProblemStream
from fipo.rollout.prompts import Prompting, encode
from fipo.rollout.sampler import SamplingParams
from fipo.training import load_recipe
from fipo.training.passes.layout import layout_of
from fipo.training.passes.logprobs import old_scores
from fipo.training.passes.packing import Pack, pack
from fipo.training.policy.mfu import compute_of
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.rounding import Credit, correlation, credit_of, rounding_metrics
from fipo.training.trainer import Trainer
from fipo.training.update import update

ALGORITHM = ALGORITHMS["release_32b"]  # bounds (1, 1.2), half-life 32
GROUP = 3  # responses of a mini-batch: 24 in 8 mini-batches
QUESTIONS = (
    "A shop sells {a} pens a day for {b} days and then {c} more. How many pens is that? Think step by step.",
    "Tom is {a} years old and Ann is {b} years older. How old will both be together in {c} years?",
    "A train goes {a} km in the first hour, {b} km in the second and {c} km in the third. How far is it on average?",
    "There are {a} red, {b} blue and {c} green balls in a bag. What is the probability of a red one?",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked of one policy after one number of updates."""

    name: str
    learning_rate: float
    mini_batches: int
    changed: float
    metrics: dict[str, float]

    def row(self) -> dict[str, Any]:
        return {
            "policy": self.name,
            "learning_rate": self.learning_rate,
            "mini_batches": self.mini_batches,
            "weights_changed": self.changed,
            **self.metrics,
        }


def scored(model: PreTrainedModel, packs: Sequence[Pack]) -> list[Tensor]:
    return [scores.logprobs for scores in old_scores(model, packs, 1.0, no_beat, entropy=False)]


def credit(now: Sequence[Tensor], old: Sequence[Tensor], packs: Sequence[Pack]) -> Credit:
    parts = [credit_of(a, b, one, ALGORITHM.config) for a, b, one in zip(now, old, packs, strict=True)]
    return Credit(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def compared(used: Credit, exact: Credit) -> dict[str, float]:
    return {
        **rounding_metrics(used, exact),
        "sd_future_kl": float(used.future_kl.std()),
        "sd_exp_future_kl": float(used.future_kl.exp().std()),
        "sd_influence_weight": float(used.influence_weight.std()),
        "corr_future_kl": correlation(used.future_kl, exact.future_kl),
        "corr_influence_weight": correlation(used.influence_weight, exact.influence_weight),
    }


class Experiment:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = device_of(options.device, key="--device")
        self.model, self.tokenizer = load(options.model, self.device)
        begin(self.model, anywhere=options.start == "anywhere")
        groups = self.sampled(max(options.mini_batches) - 1 + options.responses // GROUP)
        generator = torch.Generator().manual_seed(1)
        self.advantages = group_advantages(torch.randn(len(groups), GROUP, generator=generator))
        self.groups = groups
        self.first = max(options.mini_batches) - 1  # groups that are trained on
        self.layout = layout_of(self.model, print)
        self.packs = self.packed(self.options.micro_batch)

    def sampled(self, count: int) -> list[Group]:
        sampler = make_sampler(self.model, stop_tokens=stop_tokens(self.model, self.tokenizer), slots=64)
        problems = _problems(self.options.model, count)
        chat = Prompting(prompt_format="chat" if self.tokenizer.chat_template else "raw")
        prompts = [encode(problem, self.tokenizer, chat) for problem in problems]
        params = SamplingParams(temperature=1.0, max_tokens=self.options.tokens)
        responses = sampler.sample([prompt for prompt in prompts for _ in range(GROUP)], params, seed=0)
        grade = Grade(outcome="wrong", answer=None)
        return [
            Group(
                problem=problem,
                prompt_tokens=prompt,
                responses=responses[i * GROUP : (i + 1) * GROUP],
                texts=[""] * GROUP,
                grades=[grade] * GROUP,
            )
            for i, (problem, prompt) in enumerate(zip(problems, prompts, strict=True))
        ]

    def packed(self, tokens: int) -> list[Pack]:
        """The responses that are measured, in packs of so many tokens."""
        return self._packs(slice(self.first, None), 1, tokens)[0]

    def _packs(self, part: slice, mini_batches: int, tokens: int) -> list[list[Pack]]:
        return pack(
            self.groups[part],
            self.advantages[part],
            mini_batches=mini_batches,
            tokens_per_micro_batch=tokens,
            mask_truncated=False,
            layout=self.layout,
            device=self.device,
        )

    def run(self) -> Iterator[Case]:
        """The policies after the updates of each learning rate, as they come in."""
        policies = policies_in(self.options.dtype)
        exact = scored(self.model, self.packs)
        old = {one.name: scored(one.of(self.model), self.packs) for one in policies}
        for learning_rate in self.options.learning_rate:
            for updates, model in self.updated(learning_rate):
                now = credit(scored(model, self.packs), exact, self.packs)
                for one in [FLOAT32, *policies]:
                    used = now
                    if one is not FLOAT32:
                        used = credit(scored(one.of(model), self.packs), old[one.name], self.packs)
                    yield Case(
                        name=one.name,
                        learning_rate=learning_rate,
                        mini_batches=updates + 1,
                        changed=changed(model, self.model, one.dtype),
                        metrics=compared(used, now),
                    )

    def updated(self, learning_rate: float) -> Iterator[tuple[int, PreTrainedModel]]:
        """(updates made, the policy after them), before the last mini-batch of each size that was asked for."""
        model = copy.deepcopy(self.model)
        trainer = self.trainer(model, learning_rate)
        mini_batches = self._packs(slice(self.first), self.first, self.options.micro_batch)
        for i, packs in enumerate(mini_batches):
            if update(trainer, packs, None, None).skipped:
                raise SystemExit("an update was not finite")
            if i + 2 in self.options.mini_batches:
                yield i + 1, model

    def trainer(self, model: PreTrainedModel, learning_rate: float) -> Trainer:
        recipe = Path(__file__).parents[1] / "recipe" / "quickstart.toml"
        nothing: Any = None
        return Trainer(
            recipe=load_recipe(recipe, {"rollout.max_response_tokens": str(self.options.tokens)}),
            algorithm=ALGORITHM,
            model=model,
            tokenizer=self.tokenizer,
            reference=None,
            layout=self.layout,
            optimizer=MasterAdamW(model, lr=learning_rate, weight_decay=0.1),
            loss_scale=None,
            roller=nothing,
            stream=ProblemStream([], seed=0),
            compute=compute_of(model),
            control=None,
            beat=no_beat,
        )

    def other_shapes(self) -> Iterator[dict[str, Any]]:
        """No update, and each response in a pack of its own: what log-probs differ by that are recomputed elsewhere."""
        others = self.packed(1)
        for policy in [FLOAT32, *policies_in(self.options.dtype)]:
            if policy.arithmetic == torch.float32 and policy is not FLOAT32:
                continue
            model = policy.of(self.model)
            now, old = (_by_response(scored(model, packs), packs) for packs in (others, self.packs))
            one = self._packs(slice(self.first, None), 1, 10**9)[0][0]
            used = credit_of(_in_order(now, one), _in_order(old, one), one, ALGORITHM.config)
            yield {
                "policy": policy.name,
                "sd_log_ratio": float(used.log_ratio.std()),
                "sd_future_kl": float(used.future_kl.std()),
                "sd_influence_weight": float(used.influence_weight.std()),
            }


def _by_response(logprobs: Sequence[Tensor], packs: Sequence[Pack]) -> dict[tuple[int, int], Tensor]:
    return {
        rollout: values[row][one.loss_mask[row]]
        for values, one in zip(logprobs, packs, strict=True)
        for row, rollout in enumerate(one.rollouts)
    }


def _in_order(found: dict[tuple[int, int], Tensor], one: Pack) -> Tensor:
    values = torch.cat([found[rollout] for rollout in one.rollouts])
    return values.new_zeros(one.loss_mask.shape).masked_scatter(one.loss_mask, values)


def _problems(model: str, count: int) -> list[Problem]:
    if model == EMBEDDED:
        return signed_sums("train", count)
    return [
        Problem(
            id=str(i), prompt=QUESTIONS[i % len(QUESTIONS)].format(a=3 + i, b=7 + i, c=2 * i + 5), answer="", source=""
        )
        for i in range(count)
    ]


def _line(row: dict[str, Any]) -> str:
    numbers = (
        f"{100 * row['weights_changed']:.2g}%",
        *(
            f"{row[key]:.3g}"
            for key in (
                "fipo/rounding/log_ratio",
                "fipo/rounding/future_kl",
                "sd_future_kl",
                "corr_future_kl",
                "corr_influence_weight",
                "fipo/rounding/influence_weight_share",
            )
        ),
    )
    return f"{row['learning_rate']:>8.0e} {row['mini_batches']:>3} {row['policy']:<40}" + "".join(
        f"{number:>9}" for number in numbers
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the rounding in FIPO's credit.")
    parser.add_argument("model")
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float16"], choices=["bfloat16", "float16"])
    parser.add_argument("--learning-rate", nargs="+", type=float, default=[1e-6, 2e-6, 5e-6, 1e-5])
    parser.add_argument("--mini-batches", nargs="+", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--responses", type=int, default=24, help="that are measured")
    parser.add_argument("--tokens", type=int, default=128, help="of a response at most")
    parser.add_argument("--micro-batch", type=int, default=1024, help="tokens in a forward pass")
    parser.add_argument("--start", default="exact", choices=["exact", "anywhere"])
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--name", default="precision", help="of the file")
    add_save(parser)
    options = parser.parse_args()
    deterministic_operations()
    experiment = Experiment(options)
    tokens = sum(len(one.tokens) for one in experiment.packs)
    print(f"{options.model}, starting {options.start}; {tokens} tokens measured\n{machine()}")
    print(f"{'rate':>8} {'m':>3} {'policy':<40}  changed   err x    err F     sd F   corr F   corr f  f noise")
    shapes = []
    for shape in experiment.other_shapes():
        shapes.append(shape)
        sds = "  ".join(f"{key[3:]} {value:.2g}" for key, value in shape.items() if key != "policy")
        print(f"no update, other packs {shape['policy']:<29} sd of {sds}", flush=True)
    rows = []
    for case in experiment.run():
        rows.append(case.row())
        print(_line(rows[-1]), flush=True)
        path = save(
            options.name,
            {"options": vars(options), "measured_tokens": tokens, "other_packs": shapes, "updates": rows},
            kept=options.save,
        )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
