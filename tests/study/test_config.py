import pytest

from fipo.errors import UserError
from fipo.study.config import load_study

TWO = '[arms.fipo]\n[arms.dapo]\nrecipe = { objective = { preset = "dapo" } }\n'


def test_every_arm_has_a_run_with_every_seed_and_pairs_come_together(write_study):
    _, jobs = load_study(write_study(TWO), {})
    assert [job.name for job in jobs] == ["fipo_seed_0", "dapo_seed_0", "fipo_seed_1", "dapo_seed_1"]
    assert [job.recipe.run.seed for job in jobs] == [0, 0, 1, 1]


def test_arms_differ_in_what_they_name_and_in_the_name_of_their_runs_alone(write_study):
    _, jobs = load_study(write_study(TWO), {})
    fipo, dapo = (job.recipe.model_dump() for job in jobs[:2])
    assert {key for key in fipo if fipo[key] != dapo[key]} == {"run", "objective"}
    assert {key for key in fipo["run"] if fipo["run"][key] != dapo["run"][key]} == {"name"}


def test_an_arm_may_have_fewer_seeds(write_study):
    _, jobs = load_study(write_study(TWO + "seeds = 1\n"), {})
    assert [job.name for job in jobs] == ["fipo_seed_0", "dapo_seed_0", "fipo_seed_1"]


def test_seeds_can_be_fresh_ones_also_where_an_arm_has_fewer(write_study):
    study, jobs = load_study(write_study(TWO + "seeds = 1\n"), {"study.first_seed": "7"})
    assert [job.name for job in jobs] == ["fipo_seed_7", "dapo_seed_7", "fipo_seed_8"]
    assert study.runs == 3


def test_keys_of_the_study_can_be_overridden(write_study):
    study, jobs = load_study(write_study(TWO), {"study.seeds": "1"})
    assert (study.study.seeds, len(jobs)) == (1, 2)


def test_ten_thousand_seeds_are_read_at_once(write_study):
    _, jobs = load_study(write_study(TWO), {"study.seeds": "10000"})
    assert len(jobs) == 20_000 and jobs[-1].name == jobs[-1].recipe.run.name == "dapo_seed_9999"
    assert len({id(job.recipe.objective) for job in jobs}) == 2  # validated once for each arm


REFUSED = [
    (TWO, '[["fipo", "grpo"]]', "study.contrasts must name arms (fipo, dapo), got 'grpo'"),
    (TWO + "seeds = 3\n", '[["fipo", "dapo"]]', "arms.dapo.seeds must be <= study.seeds = 2, got 3"),
    (TWO + 'control = "reversed"\n', '[["fipo", "dapo"]]', "arms.dapo.control: "),
    (
        TWO + "[arms.x]\nrecipe = { run = { seed = 3 } }\n",
        '[["fipo", "x"]]',
        "arms.x.recipe.run.seed is what the study",
    ),
    (TWO + "[arms.x]\nrecipe = { run = 3 }\n", '[["fipo", "x"]]', "arms.x.recipe.run must be a table, got 3"),
    (TWO + '[arms.x]\nlearning_rate_times_mean_f_of = "y"\n', '[["fipo", "x"]]', "must name another arm, got 'y'"),
    (TWO + "[arms.x]\nrecipe = { update = { lr = 1 } }\n", '[["fipo", "x"]]', "arm x: unknown key update.lr"),
    (
        TWO + "[arms.x]\nrecipe = { rollout = { max_generation_batches = 2 } }\n",
        '[["fipo", "x"]]',
        "arm x: rollout.max_generation_batches must be 1, so that all arms see the same problems, got 2",
    ),
]


@pytest.mark.parametrize(("arms", "contrasts", "message"), REFUSED, ids=[row[2][:40] for row in REFUSED])
def test_what_cannot_be_is_refused_in_one_line_before_any_work(arms, contrasts, message, write_study):
    with pytest.raises(UserError) as refused:
        load_study(write_study(arms, contrasts), {})
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert "study.toml" in str(refused.value)
