import dataclasses
import re

import pytest

from fipo.data.sources import File, ReasoningGym, SignedSums
from fipo.errors import UserError
from fipo.objective import ALGORITHMS, KNOBS, Algorithm
from fipo.objective.algorithm import OFF
from fipo.telemetry.run_directory import RunDirectory
from fipo.training import load_recipe
from fipo.training.objective import ObjectiveTable
from fipo.training.recipe import with_found_model


@pytest.fixture
def quickstart(repository):
    return repository / "recipe" / "quickstart.toml"


def flat(table, prefix=""):
    values = {}
    for key, value in table.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def refusal(path, overrides=None):
    """The one line with which a recipe is refused, after its path."""
    with pytest.raises(UserError) as error:
        load_recipe(path, overrides or {})
    message = str(error.value)
    assert "\n" not in message
    assert error.value.exit_code == 2
    return message.removeprefix(f"{path}: ")


def test_the_quickstarts_differ_in_their_name_and_their_objective_alone(repository, quickstart):
    fipo = flat(load_recipe(quickstart, {}).model_dump())
    dapo = flat(load_recipe(repository / "recipe" / "quickstart_dapo.toml", {}).model_dump())
    differing = {key for key in fipo.keys() | dapo.keys() if fipo.get(key) != dapo.get(key)}
    assert differing == {"run.name", "objective.preset"}
    assert (fipo["objective.preset"], dapo["objective.preset"]) == ("release_32b", "dapo")


def test_every_recipe_of_ours_loads(repository):
    recipes = sorted((repository / "recipe").glob("*.toml"))
    assert len(recipes) >= 2
    for path in recipes:
        assert load_recipe(path, {}).run.name == path.stem


def test_the_quickstart_trains_with_more_than_one_mini_batch(quickstart):
    """With one, every ratio is 1 and FIPO is DAPO."""
    assert load_recipe(quickstart, {}).update.mini_batches > 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_a_preset(name, quickstart):
    assert load_recipe(quickstart, {"objective.preset": name}).objective.algorithm() == ALGORITHMS[name]


# the override as typed, and what becomes of it
OVERRIDES = [
    ("run.steps", "3", lambda r: r.run.steps, 3),
    ("run.name", "a.b-c_d", lambda r: r.run.name, "a.b-c_d"),
    ("run.name", '"7"', lambda r: r.run.name, "7"),
    ("run.folder", "/somewhere/with spaces", lambda r: r.run.folder, "/somewhere/with spaces"),
    ("run.seed", "0x10", lambda r: r.run.seed, 16),
    ("update.learning_rate", "1e-6", lambda r: r.update.learning_rate, 1e-6),
    ("update.learning_rate", "1", lambda r: r.update.learning_rate, 1.0),
    ("reward.mask_truncated", "true", lambda r: r.reward.mask_truncated, True),
    ("rollout.on_short_batch", "stop", lambda r: r.rollout.on_short_batch, "stop"),
    ("rollout.top_p", "0.7", lambda r: r.rollout.top_p, 0.7),
    ("model.path", "Qwen/Qwen3-0.6B", lambda r: r.model.path, "Qwen/Qwen3-0.6B"),
    ("data.eval.count", "32", lambda r: r.data.eval, SignedSums(source="signed_sums", count=32)),
    (
        "data.train",
        '{ source = "reasoning_gym", task = "chain_sum", count = 3, options = { min_terms = 2 } }',
        lambda r: r.data.train,
        ReasoningGym(source="reasoning_gym", task="chain_sum", count=3, options={"min_terms": 2}),
    ),
    ("objective.influence_clip", "[0.9, 1.1]", lambda r: r.objective.influence_clip, (0.9, 1.1)),
    ("objective.influence_clip", "[0, 2]", lambda r: r.objective.influence_clip, (0.0, 2.0)),
    ("objective.half_life", "inf", lambda r: r.objective.half_life, float("inf")),
    ("objective.max_dual_clipped_tokens", "off", lambda r: r.objective.max_dual_clipped_tokens, "off"),
    ("objective.max_dual_clipped_tokens", "3", lambda r: r.objective.max_dual_clipped_tokens, 3),
]


@pytest.mark.parametrize(("key", "text", "read", "expected"), OVERRIDES, ids=[f"{o[0]}={o[1]}" for o in OVERRIDES])
def test_an_override_reaches_its_key_and_no_other(key, text, read, expected, quickstart):
    plain, changed = load_recipe(quickstart, {}), load_recipe(quickstart, {key: text})
    assert read(changed) == expected != read(plain)
    before, after = flat(plain.model_dump()), flat(changed.model_dump())
    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert all(name == key or name.startswith(f"{key}.") for name in differing)


def test_an_override_builds_on_the_one_before_it(quickstart):
    overrides = {"data.train": "{ count = 5 }", "data.train.count": "6", "data": "{ prompt_format = 'chat' }"}
    data = load_recipe(quickstart, overrides).data
    assert (data.train, data.prompt_format) == (SignedSums(source="signed_sums", count=6), "chat")


def test_an_override_can_choose_another_source(quickstart):
    overrides = {"data.train.source": "file", "data.train.path": "mine.jsonl"}
    assert load_recipe(quickstart, overrides).data.train == File(source="file", path="mine.jsonl")


def test_a_recipe_can_extend_one_that_has_another_source(quickstart, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "{quickstart}"\n[data.train]\nsource = "file"\npath = "mine.jsonl"\n')
    assert load_recipe(path, {}).data.train == File(source="file", path="mine.jsonl")


def test_every_knob_of_every_algorithm_is_a_key_of_the_table():
    assert {*KNOBS, "surrogate"} <= set(ObjectiveTable.model_fields)
    own = {field.name for field in dataclasses.fields(Algorithm)} - {"config", "aggregation", "scale_by_std"}
    assert own <= set(ObjectiveTable.model_fields)


@pytest.mark.parametrize("key", ["influence_clip", "safety_threshold", "dual_clip", "max_dual_clipped_tokens"])
def test_off_is_spelled_the_same_for_whatever_can_be_switched_off(key, quickstart):
    chosen = load_recipe(quickstart, {f"objective.{key}": "off"}).objective.algorithm()
    assert getattr(chosen.config, key) == OFF[key]


def test_an_override_of_the_objective_changes_that_value_of_the_preset_alone(quickstart):
    algorithm = load_recipe(
        quickstart, {"objective.half_life": "8", "objective.preset": "dr_grpo"}
    ).objective.algorithm()
    preset = ALGORITHMS["dr_grpo"]
    assert algorithm == dataclasses.replace(preset, config=dataclasses.replace(preset.config, half_life=8.0))


def test_off_keeps_every_sequence(quickstart):
    overrides = {"objective.preset": "release_32b", "objective.max_dual_clipped_tokens": "off"}
    assert load_recipe(quickstart, overrides).objective.algorithm().config.max_dual_clipped_tokens is None


def test_a_recipe_lies_on_top_of_the_one_that_it_extends(repository, tmp_path):
    (tmp_path / "base.toml").write_bytes((repository / "recipe" / "quickstart.toml").read_bytes())
    above = tmp_path / "above.toml"
    above.write_text('extends = "base.toml"\n[rollout]\ngroups = 20\n[data.eval]\ncount = 7\n')
    base = load_recipe(tmp_path / "base.toml", {})
    recipe = load_recipe(above, {"rollout.group_size": "4"})
    before, after = flat(base.model_dump()), flat(recipe.model_dump())
    assert {key: value for key, value in after.items() if value != before[key]} == {
        "rollout.groups": 20,
        "rollout.group_size": 4,
        "data.eval.count": 7,
    }


def test_a_file_of_ones_own_is_a_source(quickstart, tmp_path):
    text = re.sub("train = .*", 'train = { source = "file", path = "mine.parquet" }', quickstart.read_text())
    recipe = tmp_path / "mine.toml"
    recipe.write_text(text)
    assert load_recipe(recipe, {}).data.train == File(source="file", path="mine.parquet")


REFUSED = [
    # unknown keys
    ({"run.step": "3"}, "unknown key run.step (did you mean steps?)"),
    ({"rollout.groupsize": "4"}, "unknown key rollout.groupsize (did you mean group_size?)"),
    ({"objective.halflife": "8"}, "unknown key objective.halflife (did you mean half_life?)"),
    ({"optimizer.lr": "1"}, "unknown key optimizer"),
    ({"updates.learning_rate": "1e-6"}, "unknown key updates (did you mean update?)"),
    ({"data.train.cont": "3"}, "unknown key data.train.cont (did you mean count?)"),
    ({"data.train.path": "x.jsonl"}, "unknown key data.train.path"),
    # wrong types
    ({"run.steps": "many"}, "run.steps: must be a valid integer, got 'many'"),
    ({"run.steps": "20.0"}, "run.steps: must be a valid integer, got 20.0"),
    ({"run.steps": "true"}, "run.steps: must be a valid integer, got True"),
    ({"run.steps": "[1, 2]"}, "run.steps: must be a valid integer, got [1, 2]"),
    ({"run.name": "7"}, "run.name: must be a valid string, got 7"),
    ({"update.learning_rate": "fast"}, "update.learning_rate: must be a valid number, got 'fast'"),
    ({"reward.mask_truncated": "yes"}, "reward.mask_truncated: must be a valid boolean, got 'yes'"),
    ({"run": "3"}, "run must be a table, got 3"),
    ({"data.train": "3"}, "data.train must be a table, got 3"),
    ({"objective.influence_clip": "[0.9]"}, "objective.influence_clip.1 is missing"),
    ({"objective.influence_clip": '["low", 1]'}, "objective.influence_clip.0: must be a valid number, got 'low'"),
    # values out of range
    ({"run.steps": "0"}, "run.steps: must be greater than 0, got 0"),
    ({"run.seed": "-1"}, "run.seed: must be greater than or equal to 0, got -1"),
    ({"rollout.group_size": "1"}, "rollout.group_size: must be greater than or equal to 2, got 1"),
    ({"rollout.top_p": "1.5"}, "rollout.top_p: must be less than or equal to 1, got 1.5"),
    ({"rollout.temperature": "0"}, "rollout.temperature: must be greater than or equal to 0.001, got 0"),
    ({"update.learning_rate": "nan"}, "update.learning_rate: must be a number, got nan"),
    ({"eval.every": "0"}, "eval.every: must be greater than 0, got 0"),
    ({"checkpoint.keep": "0"}, "checkpoint.keep: must be greater than 0, got 0"),
    ({"data.train.count": "0"}, "data.train.count: must be greater than 0, got 0"),
    # choices
    ({"run.device": "tpu"}, "run.device: must be 'auto', 'cpu' or 'cuda', got 'tpu'"),
    (
        {"data.grader": "llm"},
        "data.grader: must be one of number, exact, dapo, math, countdown, relay, reasoning_gym or module:function, "
        "got 'llm'",
    ),
    ({"data.prompt_format": "xml"}, "data.prompt_format: must be 'raw' or 'chat', got 'xml'"),
    (
        {"data.train.source": "nowhere"},
        "data.train.source must be one of 'signed_sums', 'countdown', 'relay', 'file', 'hub', 'champ', "
        "'reasoning_gym', "
        "got 'nowhere'",
    ),
    ({"data.train.source": "file"}, "data.train.path is missing"),
    # impossible combinations
    (
        {"rollout.generation_batch": "3", "rollout.max_generation_batches": "5"},
        "rollout.generation_batch * max_generation_batches must reach rollout.groups = 16, got 3 * 5",
    ),
    ({"update.mini_batches": "17"}, "update.mini_batches must be <= rollout.groups = 16, got 17"),
    (
        {"reward.overlong_buffer": "160"},
        "reward.overlong_buffer must be < rollout.max_response_tokens = 160, got 160",
    ),
    # what the objective itself refuses
    ({"objective.half_life": "-3"}, "objective: half_life must be > 0 tokens, got -3.0"),
    ({"objective.dual_clip": "1"}, "objective: dual_clip must be > 1, got 1.0"),
    (
        {"objective.influence_clip": "[-1, 0.9]"},
        "objective: influence_clip low must be >= 0, got -1.0",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_bad_value_is_refused_in_one_line_with_the_key_the_rule_and_the_value(overrides, message, quickstart):
    assert refusal(quickstart, overrides) == message


@pytest.mark.parametrize(
    "overrides",
    [
        {"update.mini_batches": "16"},
        {"reward.overlong_buffer": "127"},
        {"rollout.generation_batch": "4", "rollout.max_generation_batches": "4"},
        {"rollout.top_p": "1"},
        {"rollout.group_size": "2"},
    ],
)
def test_a_value_at_the_edge_of_its_rule_is_accepted(overrides, quickstart):
    load_recipe(quickstart, overrides)


def test_a_wrong_choice_of_preset_lists_the_presets(quickstart):
    message = refusal(quickstart, {"objective.preset": "ppo"})
    assert message.startswith("objective.preset: must be ") and message.endswith(", got 'ppo'")
    assert all(repr(name) in message for name in ALGORITHMS)


@pytest.mark.parametrize("name", ["a b", "../up", "", ".hidden", "a/b", "-x"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name, quickstart):
    message = refusal(quickstart, {"run.name": f'"{name}"'})
    assert message.startswith("run.name: ") and message.endswith(f", got {name!r}")


@pytest.mark.parametrize("value", ["1.5", "foo", "-1"])
def test_a_bad_number_of_dual_clipped_tokens_is_named_by_its_key(value, quickstart):
    message = refusal(quickstart, {"objective.max_dual_clipped_tokens": value})
    assert message.startswith(("objective.max_dual_clipped_tokens: ", "objective: max_dual_clipped_tokens must be "))


def test_a_missing_table_and_a_missing_key_are_named(quickstart, tmp_path):
    recipe = tmp_path / "short.toml"
    text = quickstart.read_text()
    recipe.write_text(text.replace('[model]\npath = "embedded"\n', ""))
    assert refusal(recipe) == "model is missing"
    recipe.write_text(text.replace('path = "embedded"\n', ""))
    assert refusal(recipe) == "model.path is missing"


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "no.toml"
    assert refusal(path) == f"no such recipe: {path}"


def test_a_base_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "above.toml"
    path.write_text('extends = "no.toml"\n')
    assert refusal(path) == f"no such recipe: {tmp_path / 'no.toml'}"


@pytest.mark.parametrize("text", ["[run", "steps = ", "run.steps = 3\nrun.steps = 4\n", "steps = 3 4", "a = 'x\n'"])
def test_what_is_not_toml_is_refused_with_the_place_in_the_file(text, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    message = refusal(path)
    assert message.startswith("not TOML: ")
    assert "line " in message or "end of document" in message


def test_a_recipe_that_is_no_text_or_no_file_is_refused(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert refusal(path).startswith("cannot read the recipe: ")
    assert refusal(tmp_path).startswith("cannot read the recipe: ")


def test_the_mistake_of_a_base_is_told_under_the_recipe_that_was_asked_for(quickstart, tmp_path):
    (tmp_path / "base.toml").write_text(quickstart.read_text().replace("groups = 16", "groups = 0"))
    path = tmp_path / "above.toml"
    path.write_text('extends = "base.toml"\n')
    assert refusal(path) == "rollout.groups: must be greater than 0, got 0"


def test_a_run_as_the_model_is_its_newest_checkpoint(quickstart, tmp_path):
    run = RunDirectory(tmp_path / "earlier")
    run.create({"run": {"name": "earlier"}})
    recipe = load_recipe(quickstart, {"model.path": str(run.path)})
    with pytest.raises(UserError, match="no checkpoint has been written yet"):
        with_found_model(recipe)
    for step in (3, 12):
        (run.checkpoints / f"step_{step:06d}").mkdir()
    assert with_found_model(recipe).model.path == str(run.checkpoints / "step_000012")
    assert with_found_model(load_recipe(quickstart, {})).model.path == "embedded"


def test_a_tracker_alone_is_taken_as_a_list_of_one(quickstart):
    assert load_recipe(quickstart, {"telemetry.trackers": "tensorboard"}).telemetry.trackers == ("tensorboard",)
    with pytest.raises(UserError, match=r"telemetry.trackers"):
        load_recipe(quickstart, {"telemetry.trackers": "tensorbord"})
