"""One side of step_vs_trl.py: our own training step. Prints one JSON line."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from small_model import GROUP_SIZE, GROUPS, PROMPT_TOKENS, RESPONSE_TOKENS, print_side, random_prompts, small_model

import fipo
from fipo.beat import no_beat
from fipo.data.problem import Problem
from fipo.grading.grade import Grade
from fipo.models.norm import fuse_norms
from fipo.objective import ALGORITHMS
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.groups import PolicyRoller, ProblemStream
from fipo.rollout.prompts import Prompting
from fipo.telemetry.clock import Clock
from fipo.training.policy.mfu import compute_of
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.recipe import Recipe
from fipo.training.step import train_step
from fipo.training.trainer import Trainer

# As many responses as TRL's micro-batch has, behind their prompt, which counts an eighth more for each but the first
# (training/passes/packing.py).
EIGHT_RESPONSES = PROMPT_TOKENS + 8 * RESPONSE_TOKENS + 7 * (PROMPT_TOKENS // 8)


class Words:
    """A tokenizer for prompts that are lists of numbers."""

    chat_template = pad_token_id = bos_token_id = eos_token_id = None

    def encode(self, text: str, **_: bool) -> list[int]:
        return [int(word) for word in text.split()]

    def batch_decode(self, rows: Sequence[list[int]], **_: bool) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]


def grade(answers: Sequence[tuple[str, Problem]]) -> list[Grade]:
    """Right or wrong by the first token, as the other side rewards it."""
    first = [int(text.split()[0]) for text, _ in answers]
    return [Grade(outcome="correct" if token % 2 else "wrong", answer=str(token)) for token in first]


def recipe(mini_batches: int) -> Recipe:
    return Recipe.model_validate(
        {
            "run": {"name": "bench", "steps": 1},
            "model": {"path": "embedded"},
            "data": {
                "grader": "number",
                "train": {"source": "signed_sums", "count": 1},
                "eval": {"source": "signed_sums", "count": 1},
            },
            "rollout": {
                "groups": GROUPS,
                "group_size": GROUP_SIZE,
                "generation_batch": GROUPS,
                "max_generation_batches": 1,
                "max_prompt_tokens": PROMPT_TOKENS,
                "max_response_tokens": RESPONSE_TOKENS,
            },
            "objective": {"preset": "dapo"},
            "update": {
                "mini_batches": mini_batches,
                "learning_rate": 1e-4,
                "tokens_per_micro_batch": EIGHT_RESPONSES,
            },
            "eval": {"every": 1, "samples": 1},
            "checkpoint": {"every": 1},
        }
    )


def main(steps: int, mini_batches: int) -> None:
    torch.set_num_threads(1)
    model = small_model()
    fuse_norms(model)  # as where a recipe's model is loaded
    prompts = [" ".join(map(str, prompt)) for prompt in random_prompts(64)]
    problems = [Problem(id=str(i), prompt=prompt, answer="", source="bench") for i, prompt in enumerate(prompts)]
    words: Any = Words()
    trainer = Trainer(
        recipe=recipe(mini_batches),
        algorithm=ALGORITHMS["dapo"],
        model=model,
        tokenizer=words,
        reference=None,
        layout="packed",
        optimizer=MasterAdamW(model, lr=1e-4, weight_decay=0.01),
        roller=PolicyRoller(
            sampler=SlotEngine(model, stop_tokens=(), slots=GROUPS * GROUP_SIZE),
            tokenizer=words,
            prompting=Prompting(),
            grade=grade,
        ),
        stream=ProblemStream(problems, seed=0),
        loss_scale=None,
        compute=compute_of(model),
        control=None,
        beat=no_beat,
    )
    seconds = []
    for step in range(1, steps + 1):
        started = time.process_time()
        record = train_step(trainer, step, Clock())
        seconds.append(time.process_time() - started)
        assert len(record.batch.kept) == GROUPS
    print_side(seconds, f"fipo {fipo.__version__}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
