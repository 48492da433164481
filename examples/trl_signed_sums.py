"""FIPO in Hugging Face TRL, on a CPU in some minutes: the embedded model of 0.8M parameters learns signed sums.

make .venv-trl/.ready && .venv-trl/bin/python examples/trl_signed_sums.py
"""

import argparse
import tempfile
import warnings
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging

from fipo.data.made.signed_sums import Split, signed_sums
from fipo.integrations.trl import FIPOTrainer, FIPOTrainingConfig, grader_reward, overlong_penalty
from fipo.models.loading import EMBEDDED, load

RESPONSE_TOKENS = 96


def dataset(split: Split, count: int) -> Dataset:
    problems = signed_sums(split, count)
    return Dataset.from_list([{"prompt": problem.prompt, "answer": problem.answer} for problem in problems])


class OneLine(TrainerCallback):
    """Of all that TRL logs, what a person reads."""

    def on_log(self, *state: Any, logs: dict[str, float], **_: Any) -> None:
        if "fipo/mini_batch_3/influence_weight/mean" not in logs:
            return
        print(
            f"correct {logs['grade/correct']:.1%}, reward {logs['reward']:.3f}, entropy {logs['policy/entropy']:.3f}, "
            f"groups kept {logs['groups/kept']:.0f} of {logs['groups/generated']:.0f}, influence weight in the "
            f"first mini-batch {logs['fipo/mini_batch_0/influence_weight/mean']:.4f} and in the last "
            f"{logs['fipo/mini_batch_3/influence_weight/mean']:.4f}",
            flush=True,
        )


def main(generations: int) -> tuple[float, float]:
    """The share of correct answers to held-out problems before and after."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.set_verbosity_error()
    model, tokenizer = load(EMBEDDED)
    tokenizer.padding_side = "left"
    with tempfile.TemporaryDirectory() as folder:
        trainer = FIPOTrainer(
            model=model,
            reward_funcs=[grader_reward("number"), overlong_penalty(RESPONSE_TOKENS, buffer=16)],
            args=FIPOTrainingConfig(
                output_dir=folder,
                preset="release_32b",
                mini_batches=4,  # optimizer steps per generation batch
                per_device_train_batch_size=32,  # 4 x 32 responses: 16 groups of 8
                num_generations=8,
                num_generations_eval=4,
                max_completion_length=RESPONSE_TOKENS,
                max_steps=4 * generations,
                learning_rate=3e-4,
                lr_scheduler_type="constant_with_warmup",
                warmup_steps=4,
                per_device_eval_batch_size=256,
                logging_steps=4,
                use_cpu=True,
                bf16=False,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=dataset("train", 4096),
            eval_dataset=dataset("eval", 64),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(OneLine)
        before = trainer.evaluate()["eval_grade/correct"]
        trainer.train()
        after = trainer.evaluate()["eval_grade/correct"]
    print(f"correct on 64 held-out problems, 4 responses each: {before:.1%} before, {after:.1%} after")
    return before, after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=6, help="generation batches, four optimizer steps each")
    main(parser.parse_args().generations)
