"""Trainers on a tiny random model whose rollouts are chosen by the test, and our own trainer on the same rows."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tests.conftest import random_model
from tests.training.helpers import trainer_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from fipo.data.problem import Problem
from fipo.integrations.trl import FIPOTrainer, FIPOTrainingConfig
from fipo.integrations.trl.groups import PER_ROW, rows_of
from fipo.rollout.groups import Group
from fipo.rollout.sampler import Response
from fipo.training.passes.logprobs import old_scores
from fipo.training.passes.packing import pack
from fipo.training.update import UpdateOutcome, update

VOCABULARY, LONGEST = 48, 12
LEARNING_RATE = 0.02
Rollouts = dict[str, list[list[int]]]  # the responses to each prompt


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, VOCABULARY)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="<eos>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", padding_side="left")


def random_rollouts(prompts: int, group_size: int, *, seed: int = 0, constant: Sequence[int] = ()) -> Rollouts:
    """An even first token is a correct answer; in the groups `constant` every response is wrong."""
    rng = random.Random(seed)
    rollouts: Rollouts = {}
    for p in range(prompts):
        prompt = " ".join(f"w{rng.randrange(2, VOCABULARY)}" for _ in range(rng.randint(1, 4))) + f" w{p + 2}"
        rollouts[prompt] = [
            [
                2 * rng.randrange(2, 20) + (0 if j % 2 == 0 and p not in constant else 1),
                *(rng.randrange(2, VOCABULARY) for _ in range(rng.randint(0, LONGEST - 2))),
                1,
            ]
            for j in range(group_size)
        ]
    return rollouts


def correct(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [1.0 if tokens[0] % 2 == 0 else -1.0 for tokens in completion_ids]


def make_trainer(
    folder: Path,
    rollouts: Rollouts,
    *,
    model: PreTrainedModel | None = None,
    rewards: Any = correct,
    sampler: bool = True,
    logprobs: bool = False,
    host: tuple[type, type] = (FIPOTrainer, FIPOTrainingConfig),
    **options: Any,
) -> Any:
    """Plain SGD, every gradient let through, float64; `options` go into the config.

    sampler: whether the responses are the given ones. logprobs: whether log-probs come with them.
    host: the trainer and its config.
    """
    group_size = len(next(iter(rollouts.values())))
    settings = {
        "output_dir": str(folder),
        "num_generations": group_size,
        "max_completion_length": LONGEST,
        "per_device_train_batch_size": 4,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,
        "shuffle_dataset": False,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        **options,
    }
    policy = model if model is not None else random_model(scale=4.0).double()

    def chosen(prompts: list[str], _: Any) -> dict[str, Any]:
        seen: Counter[str] = Counter()
        completions = []
        for prompt in prompts:
            completions.append(rollouts[prompt][seen[prompt]])
            seen[prompt] += 1
        ids = [tokenizer()(prompt)["input_ids"] for prompt in prompts]
        reported = [[-0.1 * (token % 60) for token in tokens] for tokens in completions] if logprobs else None
        return {"prompt_ids": ids, "completion_ids": completions, "logprobs": reported}

    trainer_class, config_class = host
    dataset = Dataset.from_list([{"prompt": prompt, "answer": "4"} for prompt in rollouts])
    return trainer_class(
        model=policy,
        reward_funcs=rewards,
        args=config_class(**settings),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=tokenizer(),
        optimizers=(torch.optim.SGD(policy.parameters(), lr=settings["learning_rate"]), None),
        rollout_func=chosen if sampler else None,
    )


def logged(trainer: FIPOTrainer) -> list[dict[str, float]]:
    """The logs of the optimizer steps."""
    return [entry for entry in trainer.state.log_history if "grad_norm" in entry]


def our_update(model: PreTrainedModel, trainer: FIPOTrainer, *, tokens: int = 64) -> list[UpdateOutcome]:
    """What our own trainer makes of the mini-batches that a FIPOTrainer has just trained on."""
    size = trainer.args.gradient_accumulation_steps
    buffered = trainer._buffered_inputs
    packs = []
    for start in range(0, len(buffered), size):
        rows = []
        for micro_batch in buffered[start : start + size]:
            whole = {name: value for name, value in micro_batch.items() if name in PER_ROW}
            rows += rows_of(whole, range(len(whole["advantages"])))
        groups = [
            Group(
                problem=Problem(id=str(i), prompt="", answer="", source="test"),
                prompt_tokens=row.prompt.tolist(),
                responses=[
                    Response(
                        tokens=row.completion.tolist(),
                        logprobs=[0.0] * len(row.completion),
                        truncated=not bool(row.mask.any()),
                    )
                ],
                texts=[""],
                grades=[],
            )
            for i, row in enumerate(rows)
        ]
        packs += pack(
            groups,
            torch.tensor([[row.advantage] for row in rows]),
            mini_batches=1,
            tokens_per_micro_batch=tokens,
            mask_truncated=True,
            layout="padded",
            device=torch.device("cpu"),
        )
    old = [old_scores(model, part, trainer.temperature, lambda: None) for part in packs[1:]]
    ours = trainer_of(
        model,
        trainer.algorithm,
        torch.optim.SGD(model.parameters(), lr=trainer.args.learning_rate),
        max_grad_norm=trainer.args.max_grad_norm,
        longest=LONGEST,
        temperature=trainer.temperature,
    )
    return [update(ours, part, scores, None) for part, scores in zip(packs, [None, *old], strict=True)]
