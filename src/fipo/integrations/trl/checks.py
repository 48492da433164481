"""What FIPOTrainer refuses before any work."""

from datasets import Dataset
from trl import GRPOTrainer

from fipo.integrations.trl.scaling import check_scaling

AVERAGED = ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP")  # ways to distribute that average gradients and leave them to us


def check_host(trainer: GRPOTrainer) -> None:
    """Raises ValueError, one line, for a launcher, an option, a model or a dataset that it cannot work with."""
    args, launcher = trainer.args, trainer.accelerator.distributed_type.name
    if launcher not in AVERAGED:
        raise ValueError(
            f"the launcher must be one of {', '.join(AVERAGED)}, got {launcher}: gradients are divided once"
        )
    check_scaling(trainer)
    if args.optim in ("lomo", "adalomo"):
        raise ValueError(f"optim must not update during the backward pass, got {args.optim}")
    if trainer.aux_loss_enabled:
        raise ValueError("router_aux_loss_coef must be 0: the objective has no term for the router")
    if args.vllm_importance_sampling_correction and not (trainer.use_vllm or trainer.rollout_func):
        raise ValueError(
            "vllm_importance_sampling_correction must be off without use_vllm and without a rollout_func: "
            "nothing else reports the sampler's log-probs"
        )
    wanted = args.generation_batch_size // args.num_generations
    if isinstance(trainer.train_dataset, Dataset) and len(trainer.train_dataset) < wanted:
        raise ValueError(
            f"train_dataset must have at least {wanted} rows, a generation batch, got {len(trainer.train_dataset)}"
        )
    if args.dynamic_sampling:
        accuracy_column(trainer)
        if not isinstance(trainer.train_dataset, Dataset):
            kind = type(trainer.train_dataset).__name__
            raise ValueError(f"dynamic_sampling must be off unless train_dataset is a Dataset, got {kind}")


def accuracy_column(trainer: GRPOTrainer) -> int:
    """Which reward function says whether an answer is correct. Raises ValueError for a name that is none of theirs."""
    name, names = trainer.args.accuracy_reward, trainer.reward_func_names
    if name is None and names:
        return 0
    if name not in names:
        raise ValueError(f"accuracy_reward must be one of {', '.join(names) or 'no names'}, got {name!r}")
    return names.index(name)
