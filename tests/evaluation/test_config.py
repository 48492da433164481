import pytest
from tests.evaluation.helpers import RECIPE, of_server, recipe_in

from fipo.errors import UserError
from fipo.evaluation.config import PRESETS, load_eval_recipe


def test_every_recipe_of_ours_loads_and_names_its_results_after_itself(repository):
    recipes = sorted((repository / "recipe" / "eval").glob("*.toml"))
    assert len(recipes) >= 2
    for path in recipes:
        assert load_eval_recipe(path, {}).output.name == path.stem


def test_the_papers_protocol_is_32_samples_at_temperature_1_and_top_p_07(repository):
    sampling = load_eval_recipe(repository / "recipe" / "eval" / "aime_paper.toml", {}).sampling
    assert (sampling.samples, sampling.temperature, sampling.top_p, sampling.top_k) == (32, 1.0, 0.7, 0)


def test_a_preset_gives_the_values_that_are_not_given_beside_it(tmp_path):
    text = RECIPE.replace("samples = 3", 'preset = "paper"')
    assert recipe_in(tmp_path, text).sampling.samples == PRESETS["paper"]["samples"]
    sampling = recipe_in(tmp_path, text, sampling__samples="4").sampling
    assert (sampling.samples, sampling.top_p) == (4, 0.7)


REFUSED = [
    ("", {"sampling.sample": "3"}, "unknown key sampling.sample (did you mean samples?)"),
    ("", {"sampling.preset": "papr"}, "sampling.preset: must be 'paper', got 'papr'"),
    ("", {"sampling.preset": "3"}, "sampling.preset: must be 'paper', got 3"),
    ("", {"sampling.samples": "0"}, "sampling.samples: must be greater than 0, got 0"),
    ("", {"sampling": "3"}, "sampling must be a table, got 3"),
    ("", {"sampling.top_p": "1.5"}, "sampling.top_p: must be less than or equal to 1, got 1.5"),
    (
        '[server]\nurl = "http://127.0.0.1:8000/v1"\nmodel = "x"\n',
        {},
        "exactly one of the tables [model] and [server] must be given, got both",
    ),
]


@pytest.mark.parametrize(("more", "overrides", "message"), REFUSED, ids=[row[2] for row in REFUSED])
def test_a_bad_value_is_refused_in_one_line(more, overrides, message, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE + more)
    with pytest.raises(UserError) as refused:
        load_eval_recipe(path, overrides)
    assert str(refused.value) == f"{path}: {message}"


def test_somebody_must_answer(tmp_path):
    with pytest.raises(
        UserError, match=r"exactly one of the tables \[model\] and \[server\] must be given, got neither"
    ):
        recipe_in(tmp_path, RECIPE[RECIPE.index("[data]") :])


def test_the_tokens_of_a_servers_prompts_cannot_be_limited(tmp_path):
    with pytest.raises(UserError, match=r"sampling\.max_prompt_tokens is for \[model\]"):
        recipe_in(tmp_path, of_server("http://127.0.0.1:8000/v1"), sampling__max_prompt_tokens="7")


ADDRESSES = [
    "http://127.0.0.1:8000/v1",
    "https://a-b.example.com/v1/",
    "http://[::1]:8000/v1",
    "http://vllm_1:80/a%20b",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_an_address_of_a_server_is_taken_as_it_is(url, tmp_path):
    assert recipe_in(tmp_path, of_server(url)).server.url == url


NO_ADDRESSES = [
    *("127.0.0.1:8000/v1", "ftp://x/v1", "http://me:secret@x/v1", "http://x/v1?key=secret", "http://x/v1#secret"),
    *(
        "http://",
        "http:///v1",
        "http://[::1",
        "http://[v1.a]/",
        "http://a..b/v1",
        "http://.:1/v1",
        f"http://{'a' * 64}/v1",
    ),
    *("http://x:/v1", "http://x:0/v1", "http://x:99999/v1", "http://x:-1/v1", "http://x:abc/v1", "http://x:\u0661/v1"),
    *("http://\u2603/v1", "http://x/\u2603", "http://x/ y", "http://x%0d%0a/v1", "http://a\\\\b/v1", "http://x;y/v1"),
]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_the_address_of_a_server_is_one_of_http_without_credentials(url, tmp_path):
    with pytest.raises(UserError, match=r"server\.url: must be http:// or https://, a host, ") as refused:
        recipe_in(tmp_path, of_server(url))
    assert "me:secret" not in str(refused.value)
