"""One side of step_vs_trl.py: TRL's GRPOTrainer. Prints one JSON line."""

import sys
import time
import warnings

import torch
import trl
from datasets import Dataset
from small_model import GROUP_SIZE, GROUPS, RESPONSE_TOKENS, WORDS, print_side, random_prompts, small_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, TrainerCallback, logging


def main(steps: int, mini_batches: int) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    seconds: list[float] = []

    class Stopwatch(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.started = time.process_time()

        def on_step_end(self, *_, **__):
            seconds.append(time.process_time() - self.started)

    config = trl.GRPOConfig(
        output_dir="/tmp/trl_out",
        loss_type="dapo",
        num_generations=GROUP_SIZE,
        max_completion_length=RESPONSE_TOKENS,
        per_device_train_batch_size=min(8, GROUPS * GROUP_SIZE // mini_batches),
        gradient_accumulation_steps=max(1, GROUPS * GROUP_SIZE // mini_batches // 8),
        steps_per_generation=max(1, GROUPS * GROUP_SIZE // mini_batches // 8) * mini_batches,
        epsilon=0.2,
        epsilon_high=0.28,
        beta=0.0,
        learning_rate=1e-4,
        max_steps=steps * mini_batches,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        lr_scheduler_type="constant",
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    words = {"<pad>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, WORDS)}, "<eos>": WORDS}  # <eos>: never sampled
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    prompts = [" ".join(f"w{token}" for token in prompt) for prompt in random_prompts(64)]
    trainer = trl.GRPOTrainer(
        model=small_model(),
        reward_funcs=lambda completion_ids, **_: [float(tokens[0] % 2) for tokens in completion_ids],
        args=config,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>", padding_side="left"
        ),
        callbacks=[Stopwatch()],
    )
    sys.stdout = sys.stderr
    trainer.train()
    sys.stdout = sys.__stdout__
    rollouts = [sum(seconds[i : i + mini_batches]) for i in range(0, len(seconds), mini_batches)]
    print_side(rollouts, f"trl {trl.__version__}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
