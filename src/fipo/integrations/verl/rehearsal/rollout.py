"""A rollout engine for verl that decodes with transformers, one request at a time: small, for rehearsals."""

import os
from collections.abc import Iterable
from typing import Any

import ray
import torch
from torch import Tensor
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput


def server_name(replica_rank: int) -> str:
    return f"fipo_cpu_server_{replica_rank}"


class CPUServer:
    """Holds a copy of the policy and answers verl's agent loop."""

    def __init__(self, path: str, response_length: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self._model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self._eos = AutoTokenizer.from_pretrained(path).eos_token_id
        self._response_length = response_length
        self._step: int | None = None

    async def generate(
        self, request_id: str, prompt_ids: Iterable[int], sampling_params: dict[str, Any], **_: Any
    ) -> TokenOutput:
        limit = sampling_params.get("max_tokens") or sampling_params.get("max_new_tokens") or self._response_length
        temperature = float(sampling_params.get("temperature", 1.0))
        tokens, logprobs = self._decode(list(prompt_ids), limit, temperature, float(sampling_params.get("top_p", 1.0)))
        return TokenOutput(
            token_ids=tokens, log_probs=logprobs, stop_reason="completed", extra_fields={"global_steps": self._step}
        )

    @torch.no_grad()
    def _decode(self, prompt: list[int], limit: int, temperature: float, top_p: float) -> tuple[list[int], list[float]]:
        """Tokens with their log-probabilities under softmax(logits / T), before top-p, as vLLM reports them."""
        fresh, cache = torch.tensor([prompt]), None
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < limit:
            out = self._model(input_ids=fresh, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            scores = torch.log_softmax(out.logits[0, -1] / (temperature or 1.0), dim=-1)
            token = int(scores.argmax()) if temperature == 0 else int(torch.multinomial(nucleus(scores, top_p), 1))
            tokens.append(token)
            logprobs.append(float(scores[token]))
            if token == self._eos:
                break
            fresh = torch.tensor([[token]])
        return tokens, logprobs

    async def load_weights(self, weights: dict[str, Tensor], step: int | None) -> None:
        missing, unexpected = self._model.load_state_dict(weights, strict=False)
        tied = self._model.config.tie_word_embeddings
        missing = [name for name in missing if not (tied and name == "lm_head.weight")]
        if missing or unexpected:
            raise RuntimeError(f"the trainer's weights must be the rollout's: missing {missing}, unknown {unexpected}")
        self._step = step

    async def wake_up(self, tags: Any = None) -> None: ...

    async def sleep(self) -> None: ...

    async def clear_kv_cache(self) -> None: ...

    async def release_kv_cache(self) -> None: ...

    async def resume_kv_cache(self) -> None: ...

    async def abort_all_requests(self, reject_request: bool = False) -> None: ...

    async def resume_generation(self) -> None: ...


def nucleus(scores: Tensor, top_p: float) -> Tensor:
    """The probabilities of the fewest tokens that together reach top_p, [V], not normalised."""
    probabilities, order = scores.exp().sort(descending=True)
    kept = probabilities.cumsum(0) - probabilities < top_p
    return torch.zeros_like(scores).scatter(0, order, probabilities * kept)


class CPUReplica(RolloutReplica):  # type: ignore[misc, unused-ignore]
    async def launch_servers(self) -> None:
        name = server_name(self.replica_rank)
        actor = ray.remote(CPUServer).options(name=name, num_cpus=0, max_concurrency=64)
        server = actor.remote(os.path.expanduser(self.model_config.path), self.config.response_length)
        await server.sleep.remote()
        self.servers = [server]
        self._server_handle = server
        self._server_address = f"ray://{name}"


class CPURollout(BaseRollout):  # type: ignore[misc, unused-ignore]
    """The training worker's side: sends the weights to its server."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        rank, size = int(os.environ["RANK"]), self.config.tensor_model_parallel_size
        self._replica_rank = rank // size if replica_rank == -1 else replica_rank
        self._leads = rank % size == 0

    async def resume(self, tags: Any) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(self, weights: Iterable[tuple[str, Tensor]], global_steps: Any = None, **_: Any) -> None:
        # Every rank drains it: gathering a sharded parameter takes all of them.
        copies = {name: weight.detach().to("cpu", torch.float32).clone() for name, weight in weights}
        if self._leads:
            await ray.get_actor(server_name(self._replica_rank)).load_weights.remote(copies, global_steps)
