"""Every number that a recipe takes has an upper bound, or a reason why it has none."""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import annotated_types
import pytest

from fipo.evaluation.config import EvalRecipe
from fipo.integrations.verl.launch.recipe import LaunchRecipe
from fipo.recipe.table import Table
from fipo.study.config import Study
from fipo.training.recipe import Recipe

UNBOUNDED = {
    "seed": "any whole number of TOML's 64 bits is a seed",
    "half_life": "inf is no decay",
    "influence_clip": "log-ratios are clamped, so no weight goes beyond e^20 tokens' worth",
    "safety_threshold": "inf is off",
    "safety_floor": "FIPOConfig: in [0, 1]",
    "clip_low": "FIPOConfig: in [0, 1]",
    "clip_high": "inf is no clip",
    "dual_clip": "inf is off",
    "ratio_cap": "inf is no cap, and log-ratios are clamped",
    "importance_mask": "inf is no bound",
    "max_dual_clipped_tokens": "no response has so many tokens, which is off",
}


def numbers(table: type[Table], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(key, whether it has an upper bound) of every number."""
    for name, field in table.model_fields.items():
        yield from found(field.annotation, list(field.metadata), f"{prefix}{name}")


def found(annotation: Any, metadata: list[Any], key: str) -> Iterator[tuple[str, bool]]:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        yield from found(inner, metadata + more, key)
    elif origin in (Union, UnionType, list, tuple, dict):
        for choice in get_args(annotation):
            yield from found(choice, metadata, key)
    elif isinstance(annotation, type) and issubclass(annotation, Table):
        yield from numbers(annotation, f"{key}.")
    elif annotation in (int, float):
        limits = [limit for one in metadata for limit in getattr(one, "metadata", [one])]
        yield key, any(isinstance(limit, annotated_types.Le | annotated_types.Lt) for limit in limits)


@pytest.mark.parametrize("recipe", [Recipe, EvalRecipe, Study, LaunchRecipe])
def test_every_number_has_an_upper_bound_or_a_reason_why_not(recipe: type[Table]) -> None:
    bounded = dict(numbers(recipe))
    assert len(bounded) > 3
    assert {
        key for key, is_bounded in bounded.items() if not is_bounded and key.split(".")[-1] not in UNBOUNDED
    } == set()
