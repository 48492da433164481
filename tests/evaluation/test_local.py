from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.helpers import recipe_in

from fipo.evaluation import local
from fipo.evaluation.local import LocalModel


@pytest.mark.parametrize(("overrides", "expected"), [({}, None), ({"sampling__max_prompt_tokens": "40"}, 64)])
def test_memory_is_taken_at_once_only_for_prompts_of_a_length_that_was_asked_for(
    overrides: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not for all positions that the model has, which would be terabytes."""
    reserved: list[int | None] = []

    def make_sampler(*_: Any, longest: int | None, **__: Any) -> None:
        reserved.append(longest)

    monkeypatch.setattr(local, "make_sampler", make_sampler)
    recipe = recipe_in(tmp_path, **overrides)
    assert recipe.model is not None
    LocalModel(recipe, recipe.model, lambda _: None)
    assert reserved == [expected]
