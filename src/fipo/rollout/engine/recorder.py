"""Recorded decode steps: a CUDA graph, or on the CPU a TorchScript trace. Most of an eager step is Python.

Both repeat the kernels of one eager run, with that run's shapes and addresses and without Python. Steps of few
sizes are recorded, so sizes are rounded up. A step that looks at a value on the host (a mixture of experts that
loops over the experts in use) cannot be recorded and stays eager.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fipo.models.memory import out_of_memory
from fipo.rollout.engine.decode import State, StepShape, decode_step
from fipo.rollout.engine.slots import SlotCache

TRACED_WEIGHTS = 10_000_000  # in larger models arithmetic takes the time, and a trace takes megabytes a layer
EAGER_STEPS = 4  # of a shape before it is recorded; CUDA graphs need some, and rare shapes are not worth more

Replay = Callable[[], object]


def round_up(size: int, *, parts: int, least: int) -> int:
    """The next of `parts` sizes per doubling, all multiples of `least`: with 2 and 4 they are 4, 8, 12, 16, 24, 32."""
    part = max(least, (1 << (size - 1).bit_length()) // (2 * parts))
    return -(-size // part) * part


class Recorder:
    """Runs decode steps over one cache with one set of weights, `steps` between two looks of the host."""

    def __init__(
        self, model: PreTrainedModel, cache: SlotCache, steps: int, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.model = model
        self.cache = cache
        self.state = State(cache.storage, steps)
        self.fingerprint = fingerprint(model)
        self.uses: Counter[StepShape] = Counter()
        self.replays: dict[StepShape, Replay] = {}
        weights = sum(parameter.numel() for parameter in model.parameters())
        self.say = say
        cuda = model.device.type == "cuda"
        self.recordable = cuda or weights <= TRACED_WEIGHTS
        modules = [] if cuda or not self.recordable else list(model.modules())
        self._places = [(module, name) for module in modules for name, _ in module.named_parameters(recurse=False)]
        self._weights = tuple(_by_column(*place) for place in self._places)
        self._step = partial(decode_step, model, cache)
        self._stream = torch.cuda.Stream(model.device) if cuda else None
        self._pool = torch.cuda.graph_pool_handle() if cuda else None

    def refresh(self) -> None:
        """Decode with the weights as they are now."""
        for (module, name), weight in zip(self._places, self._weights, strict=True):
            own = module.get_parameter(name)
            if weight.data_ptr() != own.data_ptr():
                weight.copy_(own)

    def run(self, shape: StepShape) -> None:
        """One step. A shape that has come up often enough is recorded, if it can be."""
        if (known := self.replays.get(shape)) is not None:
            known()
            return
        self.uses[shape] += 1
        if self.uses[shape] != EAGER_STEPS or not self.recordable:
            self._eager(shape)
            return
        replay = self._trace(shape) if self._stream is None else self._capture(shape, self._stream)
        if replay is not None:
            self.replays[shape] = replay

    def _give_up(self, error: Exception) -> None:
        """No step is recorded any more, for one could not be. Raises what says so if it was for want of memory."""
        cause: BaseException | None = error
        while cause is not None:  # the end of a capture fails as well, and hides why
            if out_of_memory(cause):
                raise cause
            cause = cause.__context__
        self.recordable = False
        reason = " ".join(str(error).split())
        self.say(f"note: decode steps are not recorded, which is slower: {type(error).__name__}: {reason:.100}")

    def _eager(self, shape: StepShape) -> None:
        if self._stream is None:
            with _weights(self._places, self._weights):
                self._step(shape, *self.state.tensors())
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step(shape, *self.state.tensors())
        torch.cuda.current_stream().wait_stream(self._stream)

    def _trace(self, shape: StepShape) -> Replay | None:
        """Run a step and record it. Weights are arguments: a trace keeps what it computes of anything else."""
        state, weights = self.state.tensors(), self._weights

        def step(state: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> Tensor:
            with _weights(self._places, weights):
                chosen: Tensor = self._step(shape, *state)
            return chosen

        before = [tensor.clone() for tensor in self.state.moving()]
        try:
            with _looks(torch.jit.TracerWarning) as looks:
                traced = _traced(step, (state, weights))
        except Exception as error:
            self._give_up(error)
            for tensor, value in zip(self.state.moving(), before, strict=True):
                tensor.copy_(value)
            self._eager(shape)
            return None
        if looks:
            return None

        def replay() -> None:
            with torch.jit.optimized_execution(False):  # as it was run, to the last bit
                traced(state, weights)

        return replay

    def _capture(self, shape: StepShape, stream: torch.cuda.Stream) -> Replay | None:
        """Run a step under watch and record the next. Graphs share memory, for none leaves there what another reads."""
        with _looks(UserWarning) as looks:
            mode = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("warn")
            try:
                self._eager(shape)
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        if any("called a synchronizing CUDA operation" in str(look.message) for look in looks):
            return None
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=stream):
                self._step(shape, *self.state.tensors())
        except Exception as error:
            self._give_up(error)
            return None
        return graph.replay


def _traced(step: Callable[..., Tensor], arguments: tuple[tuple[Tensor, ...], ...]) -> Callable[..., Tensor]:
    """A trace that goes when it is no longer used: torch keeps those of `torch.jit.trace`, megabytes each, for ever."""
    graph, _ = torch._C._create_graph_by_tracing(step, arguments, lambda _: "", True, False, None, [])
    _fold_sizes(graph)
    traced: Callable[..., Tensor] = torch._C._create_function_from_graph("decode_step", graph)
    return traced


def _fold_sizes(graph: Any) -> None:
    """Make the sizes in a trace, which are always the same, constants: a third of its operations compute nothing else.

    torch keeps such passes to its own optimiser, which would change bits as well.
    """
    torch._C._jit_pass_peephole(graph, False)
    torch._C._jit_pass_constant_propagation(graph)
    torch._C._jit_pass_dce(graph)


@contextmanager
def _looks(kind: type[Warning]) -> Iterator[list[warnings.WarningMessage]]:
    """The warnings of one kind that the block gives: those by which torch tells that values were looked at."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", kind)
        looks: list[warnings.WarningMessage] = []
        yield looks
        looks += [warning for warning in caught if issubclass(warning.category, kind)]


def _by_column(module: nn.Module, name: str) -> Tensor:
    """A parameter, that of a linear layer as a copy column by column.

    Few rows times such a matrix take half to nine tenths of the time: BLAS need not turn it at each product.
    """
    weight: Tensor = module.get_parameter(name).detach()
    return weight.t().contiguous().t() if type(module) is nn.Linear and name == "weight" else weight


@contextmanager
def _weights(places: Sequence[tuple[nn.Module, str]], weights: Sequence[Tensor]) -> Iterator[None]:
    """Inside, these are the modules' parameters."""
    before = [module._parameters[name] for module, name in places]
    try:
        _put(places, weights)
        yield
    finally:
        _put(places, before)


def _put(places: Sequence[tuple[nn.Module, str]], weights: Sequence[Any]) -> None:
    for (module, name), weight in zip(places, weights, strict=True):
        module._parameters[name] = weight


def fingerprint(model: PreTrainedModel) -> tuple[object, ...]:
    """What must not change under recorded steps: where the weights are, and whether there is dropout."""
    return model.training, *(tensor.data_ptr() for tensor in [*model.parameters(), *model.buffers()])
