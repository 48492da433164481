"""Hugging Face TRL's GRPOTrainer with the FIPO objective: `FIPOTrainer` and its `FIPOTrainingConfig`.

trainer = FIPOTrainer(
    model="Qwen/Qwen3-0.6B",
    reward_funcs=[grader_reward("math"), overlong_penalty(4096, buffer=1024)],
    args=FIPOTrainingConfig("out", preset="release_32b", mini_batches=4, max_completion_length=4096),
    train_dataset=dataset,  # columns prompt and answer
)
trainer.train()

docs/integrations.md says what differs from our own trainer. Nothing else of ours imports this module.
"""

from fipo.integrations.trl.version import require_trl

require_trl()

from fipo.integrations.trl.config import FIPOTrainingConfig  # noqa: E402
from fipo.integrations.trl.rewards import grader_reward, overlong_penalty  # noqa: E402
from fipo.integrations.trl.trainer import FIPOTrainer  # noqa: E402

__all__ = ["FIPOTrainer", "FIPOTrainingConfig", "grader_reward", "overlong_penalty"]
