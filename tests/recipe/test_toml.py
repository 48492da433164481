"""The recipes that we ship: each of them loads, and each baseline is matched."""

from pathlib import Path

import pytest

from fipo.evaluation.config import load_eval_recipe
from fipo.training import load_recipe

FOLDER = Path(__file__).parents[2] / "recipe"
TWINS = sorted(FOLDER.glob("*_dapo.toml"))
CONTEXT = {"Qwen/Qwen2.5-0.5B": 32768, "Qwen/Qwen2.5-Math-1.5B": 4096, "Qwen/Qwen2.5-Math-7B": 4096}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid_has_the_name_of_its_file_and_fits_its_model(path: Path) -> None:
    recipe = load_recipe(path, {})
    assert recipe.run.name == path.stem
    assert recipe.update.mini_batches > 1
    context = CONTEXT.get(recipe.model.path)
    assert context is None or recipe.rollout.max_prompt_tokens + recipe.rollout.max_response_tokens <= context


@pytest.mark.parametrize("path", TWINS, ids=lambda path: path.stem)
def test_a_dapo_twin_differs_from_its_partner_in_the_objective_and_the_name_alone(path: Path) -> None:
    partner = load_recipe(path.with_name(path.name.replace("_dapo", "")), {})
    twin = load_recipe(path, {})
    assert twin.objective.preset == "dapo" != partner.objective.preset
    run = twin.run.model_copy(update={"name": partner.run.name})
    assert twin.model_copy(update={"run": run, "objective": partner.objective}) == partner


@pytest.mark.parametrize("size", ["0.5b_gsm8k", "1.5b_math", "7b_math_lora"])
def test_every_recipe_for_a_gpu_has_a_dapo_twin(size: str) -> None:
    assert FOLDER / f"qwen2.5_{size}_dapo.toml" in TWINS


@pytest.mark.parametrize("path", sorted((FOLDER / "eval").glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_for_an_evaluation_is_valid_and_leaves_room_for_its_prompts(path: Path) -> None:
    recipe = load_eval_recipe(path, {})
    assert recipe.output.name == path.stem
    context = CONTEXT.get(recipe.model.path) if recipe.model else None
    assert context is None or 1024 + recipe.sampling.max_response_tokens <= context
