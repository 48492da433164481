"""Whether a recipe fits into a machine's memory, and if it does not, what would make it smaller, and by how much."""

from collections.abc import Callable
from dataclasses import dataclass

from fipo.doctor.findings import Finding, Level
from fipo.doctor.recipe.machine import Machine, amount
from fipo.doctor.recipe.memory import MemoryEstimate, estimate
from fipo.doctor.recipe.outline import Outline, outline_of
from fipo.errors import MissingExtra, UserError
from fipo.models.loading import dtype_of
from fipo.training.policy.table import LoraTable
from fipo.training.recipe import Recipe

TIGHT = 0.85  # of the memory there is: the estimate may be that wrong
WORTH_SAYING = 0.01  # of the peak

Change = tuple[str, Recipe]  # what to write into the recipe, and the recipe with it


@dataclass(frozen=True, kw_only=True)
class Fit:
    recipe: Recipe
    outline: Outline
    machine: Machine
    eval_problems: int
    process: int  # bytes that Python and its libraries take

    @property
    def estimate(self) -> MemoryEstimate:
        return self._estimate(self.recipe)

    def findings(self) -> list[Finding]:
        """None if there is room; else one that says so, and one for each thing that would need less."""
        peak, room = self.estimate.peak, self.machine.memory
        if peak <= TIGHT * room:
            return []
        level: Level = "warning" if peak <= room else "problem"
        text = (
            f"memory {'is tight' if level == 'warning' else 'does not suffice'}: about {amount(peak)} are needed "
            f"(in {self.estimate.phase[0]}), and there are {amount(room)} ({self.machine.source})"
        )
        return [Finding(level=level, keys=(), text=text), *self.advice(level)]

    def advice(self, level: Level) -> list[Finding]:
        """What each change alone would free, the most first, and then all of them together."""
        peak = self.estimate.peak
        useful = []
        lines = []
        for change in CHANGES:
            if changed := change(self.recipe, self.machine):
                try:
                    freed = self._freed(peak, changed[1])
                except MissingExtra as missing:
                    text = f"{changed[0]} would help; to see how much: {missing.command}"
                    lines.append(Finding(level=level, keys=(), text=text))
                    continue
                if freed > WORTH_SAYING * peak:
                    useful.append((freed, changed[0], change))
        useful.sort(key=lambda one: -one[0])
        unknown = bool(lines)
        lines = [self._line(level, text, peak - freed, freed) for freed, text, _ in useful] + lines
        together = self.recipe
        for _, _, change in useful:
            if changed := change(together, self.machine):
                together = changed[1]
        least = self._estimate(together).peak if useful else peak
        if len(useful) > 1:
            lines.append(self._line(level, "all of these together", least, peak - least))
        if least > self.machine.memory and not unknown:
            text = "what remains is the model: a smaller one, shorter responses, or a machine with more memory"
            lines.append(Finding(level=level, keys=(), text=text))
        return lines

    def _freed(self, peak: float, changed: Recipe) -> float:
        """How many bytes less it takes; 0 where it cannot be had. Raises MissingExtra where nobody can say yet."""
        try:
            return peak - self._estimate(changed).peak
        except MissingExtra:
            raise
        except UserError:  # adapters of a model without linear layers
            return 0.0

    def _line(self, level: Level, text: str, needed: float, freed: float) -> Finding:
        verdict = "which fits" if needed <= self.machine.memory else "which does not fit yet"
        if level == "warning":
            verdict = "which leaves room" if needed <= TIGHT * self.machine.memory else "which is still tight"
        return Finding(level=level, keys=(), text=f"{text} would free {amount(freed)}: {amount(needed)}, {verdict}")

    def _estimate(self, recipe: Recipe) -> MemoryEstimate:
        device = self.machine.device
        outline = self.outline
        if recipe.model != self.recipe.model:
            outline = outline_of(recipe.model.path, dtype_of(recipe.model.dtype, device), recipe.model.lora)
        return estimate(recipe, outline, device, eval_problems=self.eval_problems, process=self.process)


def recompute(recipe: Recipe, _: Machine) -> Change | None:
    if recipe.update.gradient_checkpointing:
        return None
    return "update.gradient_checkpointing = true", _with(recipe, "update", gradient_checkpointing=True)


def smaller_micro_batches(recipe: Recipe, _: Machine) -> Change | None:
    now = recipe.update.tokens_per_micro_batch
    longest = recipe.rollout.max_prompt_tokens + recipe.rollout.max_response_tokens
    tokens = max(now // 4, longest)  # one sequence is never cut
    if tokens >= now:
        return None
    return f"update.tokens_per_micro_batch = {tokens}", _with(recipe, "update", tokens_per_micro_batch=tokens)


def fewer_slots(recipe: Recipe, _: Machine) -> Change | None:
    slots = max(8, recipe.rollout.decode_batch // 4)
    if slots >= recipe.rollout.decode_batch:
        return None
    return f"rollout.decode_batch = {slots}", _with(recipe, "rollout", decode_batch=slots)


def small_state(recipe: Recipe, _: Machine) -> Change | None:
    if recipe.update.optimizer != "adamw":
        return None
    return 'update.optimizer = "adamw_8bit"', _with(recipe, "update", optimizer="adamw_8bit")


def half_precision(recipe: Recipe, machine: Machine) -> Change | None:
    if machine.device.type != "cuda" or recipe.model.dtype != "float32":
        return None
    return 'model.dtype = "float16"', _with(recipe, "model", dtype="float16", matmul="float32")


def adapters(recipe: Recipe, _: Machine) -> Change | None:
    if recipe.model.lora is not None:
        return None
    lora = LoraTable()
    return f"model.lora = {{ rank = {lora.rank} }}", _with(recipe, "model", lora=lora)


def four_bit_base(recipe: Recipe, _: Machine) -> Change | None:
    lora = recipe.model.lora or LoraTable()
    if lora.base == "4bit":
        return None
    changed = lora.model_copy(update={"base": "4bit"})
    return f'model.lora = {{ rank = {lora.rank}, base = "4bit" }}', _with(recipe, "model", lora=changed)


def no_reference(recipe: Recipe, _: Machine) -> Change | None:
    if recipe.objective.kl_coef == 0 or recipe.model.lora is not None:
        return None
    return "objective.kl_coef = 0", _with(recipe, "objective", kl_coef=0.0)


CHANGES: tuple[Callable[[Recipe, Machine], Change | None], ...] = (
    recompute,
    smaller_micro_batches,
    fewer_slots,
    small_state,
    half_precision,
    adapters,
    four_bit_base,
    no_reference,
)


def _with(recipe: Recipe, table: str, **values: object) -> Recipe:
    return recipe.model_copy(update={table: getattr(recipe, table).model_copy(update=values)})
