"""Train every scenario on however many processes this was started on: python some_processes.py FOLDER."""

import json
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.integrations.trl.helpers import correct, logged, make_trainer, random_rollouts

from fipo.integrations.trl import grader_reward

SCENARIOS = {
    "filter": {"max_dual_clipped_tokens": 0, "clip_low": 0.05, "clip_high": 0.05, "dual_clip": 1.05},
    "sequence_means": {"preset": "grpo"},
    "refill": {"constant": [0, 2, 3]},
    "short": {"constant": [0, 2, 3, 4, 5], "max_generation_batches": 3},
    "graded": {
        "rewards": [correct, grader_reward("number", workers=1)],
        "logprobs": True,
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_clip_max": 1.1,
    },
}


def main(folder: Path, scenario: str) -> None:
    options = dict(SCENARIOS[scenario])
    rollouts = random_rollouts(6, 4, constant=options.pop("constant", []))
    ranks = PartialState(cpu=True).num_processes
    trainer = make_trainer(
        folder,
        rollouts,
        per_device_train_batch_size=4 // ranks,  # two groups of four in each mini-batch
        gradient_accumulation_steps=2,
        mini_batches=1,
        num_iterations=2,
        max_steps=3,
        **options,
    )
    folder.mkdir(parents=True, exist_ok=True)
    trainer.train()
    (folder / f"{trainer.accelerator.process_index}.json").write_text(json.dumps(logged(trainer)))
    weights = {name: each.detach().clone() for name, each in trainer.model.named_parameters()}
    save_file(weights, folder / f"{trainer.accelerator.process_index}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in SCENARIOS:
        main(Path(sys.argv[1]) / name, name)
