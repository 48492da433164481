"""The credit section in a real browser: fixture `open_page` fails a test for console errors and requests."""

import math
import re

import pytest
from tests.report.rollouts import RESOLVED, group

from fipo.report import write_report
from fipo.telemetry.run_directory import RunDirectory

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=\"console.error('ran')\"><script>console.error('ran')</script>"
MARKED = {  # log-ratios by advantage: among them every mark, and a response for the sequence filter
    1.0: [0.5, 0.0, -0.02, 3.0],
    -1.0: [0.01, -0.5, 2.5, 0.02, 1.5, -0.3],
    -2.0: [2.5, 2.5, 0.01],
}
SENTENCES = {  # of which token in the response of so many
    "clipped_high": (4, 0, "Clipped: the advantage is positive and the ratio 1.649 is above 1 + clip_high = 0.28."),
    "clipped_low": (6, 1, "Clipped: the advantage is negative and the ratio 0.607 is below 1 - clip_low = 0.2."),
    "dual_clipped": (6, 2, "Dual-clipped: the advantage is negative and the ratio 12.2 is above dual_clip = 10."),
    "not_summed": (4, 3, "Not summed: the ratio 20.1 is above dual_clip = 10."),
    "weight_clipped_high": (4, 0, "is above influence_clip (0.8, 1.2)."),
    "weight_clipped_low": (6, 5, "exp(FutureKL) = 0.741 is below influence_clip (0.8, 1.2)."),
    "safety_capped": (6, 4, "above safety_threshold = 3. f is held between safety_floor = 0.8 and 1."),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three steps of two mini-batches; the last problem of step 3 has every mark, and a masked response."""
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "first")
    run.create({"run": {"name": "first"}, **RESOLVED})
    quiet = {1.0: [0.001, 0.002], -1.0: [0.001, -0.002, 0.001]}
    for step in (1, 2):
        run.write_rollouts(step, [*group(step, mini_batch=0), *group(step, "sums/quiet", log_ratios=quiet)])
    hostile = group(3, "sums/hostile", log_ratios=quiet, response=f"Needle {HOSTILE}", prompt=HOSTILE)
    hostile[0]["tokens"] = [HOSTILE, " \n\t"]
    masked = group(3, "sums/marked", log_ratios={1.0: [0.1, 0.2]}, trained=False, tokens=["a", "b"])
    run.write_rollouts(3, [*hostile, *group(3, "sums/marked", log_ratios=MARKED), *masked])
    return run


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("reports") / "report.html"
    write_report([run], out)
    return out


@pytest.fixture
def page(open_page, report):
    return ready(open_page(report))


def ready(page):
    page.wait_for_selector("#credit-responses .credit-response")
    return page


def choose(page, problem):
    """Open the first response of this problem in the list."""
    page.locator("#credit-rows tr", has_text=problem).first.click()
    page.wait_for_function(
        "problem => document.getElementById('credit-title').textContent.includes(problem)", arg=problem
    )


def tip_of(token):
    token.hover()
    tip = token.page.locator("#credit-tip")
    tip.wait_for(state="visible")
    cells = tip.locator("td").all_inner_texts()
    return dict(zip(cells[::2], cells[1::2], strict=True)), tip.locator("p").all_inner_texts()


def problems(page):
    return page.locator("#credit-rows td:nth-child(2)").all_inner_texts()


def test_it_opens_at_the_group_whose_weights_differ_most_and_not_at_the_last_step(open_page, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create({"run": {"name": "run"}, **RESOLVED})
    run.write_rollouts(1, group(1, "sums/wide", mini_batch=1, log_ratios={1.0: [0.1, 0.0], -1.0: [-0.1, 0.1]}))
    run.write_rollouts(2, group(2, "sums/dull", mini_batch=2))
    write_report([run], run.report)
    page = ready(open_page(run.report))
    assert page.inner_text("#credit-title") == "Step 1, sums/wide: 2 responses, expected 7"
    assert page.input_value("#credit-step") == "1" and page.input_value("#credit-mini-batch") == "1"
    assert problems(page) == ["sums/wide"] * 2
    assert page.locator("#credit-rows tr[aria-current=true]").count() == 1
    assert page.evaluate("scrollY") == 0


def test_it_opens_with_the_filters_set_to_where_the_group_is(page):
    assert page.input_value("#credit-step") == "3"
    assert page.input_value("#credit-mini-batch") == "1"
    assert page.inner_text("#credit-title") == "Step 3, sums/marked: 4 responses, expected 7"
    assert page.inner_text("#credit-found") == "6 of 14 stored rollouts"
    assert "14 of 14 recorded rollouts, from 3 of 3 steps." in page.inner_text("#credit .credit-count")


def test_the_tooltip_has_the_numbers_of_the_rollouts_file_with_few_digits(page, run):
    record = next(r for r in run.read_rollouts(3) if r["problem"] == "sums/marked" and r["advantage"] == -1.0)
    response = page.locator("#credit-responses .credit-response", has_text="6 tokens")
    for i in range(6):
        shown, _ = tip_of(response.locator(".credit-token").nth(i))
        assert shown["token"] == f'"t{i}"' and shown["position"] == f"{i + 1} of 6"
        known = {"log-ratio": "log_ratio", "FutureKL": "future_kl", "weight f": "influence_weight"}
        numbers = {name: record[key][i] for name, key in known.items()}
        numbers |= {"ratio": math.exp(numbers["log-ratio"]), "exp(FutureKL)": math.exp(numbers["FutureKL"])}
        numbers |= {"advantage": -1.0, "advantage x f": -numbers["weight f"]}
        for name, number in numbers.items():
            assert float(shown[name]) == pytest.approx(number, abs=0.0005 if abs(number) < 10 else 0.05)
            assert len(shown[name].lstrip("-")) <= 5 and not shown[name].startswith((".", "-."))


def test_the_tooltip_says_in_words_what_the_numbers_mean(page):
    tokens = page.locator("#credit-responses .credit-response", has_text="6 tokens").locator(".credit-token")
    assert tip_of(tokens.nth(1))[1][:4] == [
        "Its response is worse than the others, pushed down (advantage -1).",
        "Since it was sampled, this step's earlier updates have made this token 39% less likely.",
        "Taken together, it and what follows (the near counts more) became likelier.",
        "So FIPO makes its push 20% stronger: f is 1.2.",
    ]
    assert "So FIPO makes its push 20% weaker: f is 0.8." in tip_of(tokens.nth(5))[1]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_tooltip_covers_nothing_of_the_response_that_it_explains(width, open_page, report):
    page = ready(open_page(report, width=width))
    for place in ("#credit-gallery", "#credit-responses"):
        texts = page.locator(f"{place} .credit-tokens", has=page.locator(".credit-token"))
        for text in texts.all():
            text.scroll_into_view_if_needed()
            tip_of(text.locator(".credit-token").first)
            tip, own = page.locator("#credit-tip").bounding_box(), text.bounding_box()
            beside = tip["x"] + tip["width"] <= own["x"] or own["x"] + own["width"] <= tip["x"]
            assert beside or tip["y"] + tip["height"] <= own["y"] or own["y"] + own["height"] <= tip["y"]
            assert tip["x"] >= 0 and tip["x"] + tip["width"] <= width


def test_a_response_says_how_far_its_weights_went(page):
    choose(page, "sums/hostile")
    said = page.locator("#credit-responses .credit-response", has_text="2 tokens").inner_text()
    assert "right, answer 7, reward 1, 2 tokens" in said
    assert "better than the others, pushed up (advantage +1); f is 1.00: not moved" in said
    choose(page, "sums/marked")
    assert "f from 0.80 to 1.20" in page.inner_text("#credit-responses")


def test_a_marked_token_says_why(page):
    for mark, (tokens, i, sentence) in SENTENCES.items():
        token = page.locator(".credit-response", has_text=f"{tokens} tokens").locator(".credit-token").nth(i)
        assert mark in token.get_attribute("class").split()
        _, said = tip_of(token)
        assert any(sentence in one for one in said), mark


def test_a_response_that_was_left_out_is_grey_and_says_why(page):
    untrained = page.locator(".credit-response.credit-untrained")
    reasons = untrained.locator(".credit-reason").all_inner_texts()
    assert sorted(reasons) == [
        "Filtered: more dual-clipped tokens than max_dual_clipped_tokens = 1, "
        "so the response left the loss. Its weights changed nothing.",
        "Masked: it reached the length limit, so none of its tokens is trained on and none has credit.",
    ]
    colours = untrained.locator(".credit-token").evaluate_all(
        "all => all.map(e => getComputedStyle(e).backgroundColor)"
    )
    assert set(colours) == {"rgba(0, 0, 0, 0)"}
    shown, said = tip_of(untrained.filter(has_text="Masked").locator(".credit-token").first)
    assert set(shown) == {"token", "position"} and said[0].startswith("Masked:")


def test_the_first_mini_batch_is_1_by_construction_and_says_so(page):
    page.select_option("#credit-step", "1")
    page.select_option("#credit-mini-batch", "0")
    page.wait_for_function("document.getElementById('credit-title').textContent.startsWith('Step 1, sums/1')")
    assert "mini-batch 1 of 2: f is 1 here by construction" in page.inner_text("#credit-responses")
    assert page.inner_text("#credit-legend") == "f is 1 at every token here, so nothing is coloured."
    assert page.locator("#credit-responses :is(.credit-high, .credit-low)").count() == 0


def test_colours_follow_the_chosen_quantity(page):
    token = page.locator("#credit-responses .credit-response", has_text="6 tokens").locator(".credit-token").nth(1)
    assert "credit-low" not in token.get_attribute("class")  # f is above 1 by the tokens that follow
    assert "influence_clip is 0.8 to 1.2" in page.inner_text("#credit-legend")
    page.select_option("#credit-quantity", "log_ratio")
    assert "credit-low" in token.get_attribute("class")
    assert "in this group; no colour: 0; log of the ratio's clip is -0.223 to 0.247" in page.inner_text(
        "#credit-legend"
    )
    page.select_option("#credit-quantity", "advantage_weight")
    assert page.locator("[aria-current] .credit-high, [aria-current] .credit-low").count() > 0
    assert "pushed down" in page.inner_text("#credit-legend")


def test_filters_and_steps_narrow_the_list(page):
    page.click("#credit-previous")
    assert set(problems(page)) == {"sums/quiet"} and page.input_value("#credit-step") == "2"
    page.select_option("#credit-step", "")
    page.select_option("#credit-mini-batch", "")
    assert len(problems(page)) == 14
    page.select_option("#credit-result", "outcome correct")
    assert len(problems(page)) == 7
    page.select_option("#credit-result", "below")
    assert len(problems(page)) == 7
    page.fill("#credit-shortest", "3")
    page.fill("#credit-longest", "4")
    page.keyboard.press("Enter")
    assert page.locator("#credit-rows td:nth-child(4)").all_inner_texts() == ["3"] * 4
    page.fill("#credit-problem", "QUIET")
    page.wait_for_function("document.querySelectorAll('#credit-rows tr').length === 2")


def test_the_list_is_sorted_by_a_click_on_a_heading(page):
    lengths = page.locator("#credit-rows td:nth-child(4)")
    page.click("#credit [data-sort=length]")
    assert lengths.all_inner_texts() == ["6", "4", "3", "3", "2", "2"]
    page.click("#credit [data-sort=length]")
    assert lengths.all_inner_texts() == ["2", "2", "3", "3", "4", "6"]
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("tokens")


def test_search_is_over_every_stored_step_and_says_how_far_it_is(page):
    page.fill("#credit-text", "needle")
    page.wait_for_function("document.getElementById('credit-found').textContent.endsWith('searched 3 of 3 steps')")
    assert page.inner_text("#credit-found").startswith("2 rollouts with this text")
    assert page.input_value("#credit-step") == ""
    page.fill("#credit-text", "t1")
    page.wait_for_function("document.getElementById('credit-found').textContent.startsWith('12 rollouts')")


def test_text_from_a_model_is_text(page):
    choose(page, "sums/hostile")
    assert page.inner_text("#credit-prompt") == HOSTILE
    tokens = page.locator(".credit-response", has_text="2 tokens").locator(".credit-token")
    assert tokens.first.inner_text() == HOSTILE
    assert page.locator("#credit img").count() == 0


def test_white_space_is_to_be_seen(page):
    choose(page, "sums/hostile")
    token = page.locator(".credit-response", has_text="2 tokens").locator(".credit-token").nth(1)
    assert token.text_content() == "·↵\n⇥"


def test_the_keyboard_opens_a_response_and_moves_along_its_tokens(page):
    page.locator("#credit-rows tr").nth(1).press("Enter")
    page.wait_for_selector("#credit-rows tr:nth-child(2)[aria-current=true]")
    page.locator(".credit-response[aria-current] .credit-token").first.focus()
    page.keyboard.press("ArrowRight")
    assert "position\t2 of" in page.inner_text("#credit-tip")
    page.keyboard.press("Escape")
    assert page.locator("#credit-tip").is_hidden()


def test_a_mouse_at_rest_takes_nothing_from_the_keyboard(page):
    tokens = page.locator("#credit-responses .credit-response", has_text="6 tokens").locator(".credit-token")
    tokens.nth(5).hover()
    tokens.nth(0).focus()
    page.evaluate("scrollBy(0, 300)")
    page.wait_for_timeout(300)  # until the browser has told the page what came to lie under the mouse
    assert "position\t1 of 6" in page.inner_text("#credit-tip")
    assert tokens.nth(0).get_attribute("aria-describedby") == "credit-tip"


def test_a_part_of_a_character_is_explained(open_page, tmp_path):
    run = RunDirectory(tmp_path / "parts")
    run.create({"run": {"name": "parts"}})
    run.write_rollouts(1, group(1, log_ratios={1.0: [0.1, 0.2]}, tokens=["\ufffd", "b"], response="b"))
    write_report([run], run.report)
    tokens = ready(open_page(run.report)).locator("#credit-responses .credit-token")
    assert tip_of(tokens.nth(0))[1][-1] == "\ufffd is a part of a character whose bytes lie in several tokens."
    assert not any("bytes" in said for said in tip_of(tokens.nth(1))[1])


def test_a_ranked_token_opens_its_response_and_is_in_focus(page):
    page.select_option("#credit-step", "1")
    table = page.locator("#credit-ranked > div", has_text="Most attenuated, single tokens")
    row = table.locator("tbody tr").first
    weight = row.locator("td").nth(2).inner_text()
    row.locator("button").click()
    page.wait_for_function("document.activeElement.classList.contains('credit-token')")
    assert page.inner_text("#credit-title").startswith("Step 3, sums/marked")
    assert f"weight f\t{weight}" in page.inner_text("#credit-tip")


def test_on_a_phone_a_tap_explains_a_token_and_nothing_is_wider_than_the_screen(open_page, report):
    page = ready(open_page(report, width=390, dark=True))
    page.locator("#credit-responses .safety_capped").first.tap()
    box = page.locator("#credit-tip").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_open_group_is_printed_without_the_filters(page):
    page.emulate_media(media="print")
    assert page.locator("#credit-group").is_visible()
    assert page.locator("#credit .credit-controls").is_hidden() and page.locator("#credit .credit-list").is_hidden()


def test_a_long_response_is_drawn_in_parts(open_page, tmp_path):
    run = RunDirectory(tmp_path / "long")
    run.create({"run": {"name": "long"}})
    run.write_rollouts(1, group(1, log_ratios={1.0: [0.001] * 2000}))
    write_report([run], run.report)
    page = ready(open_page(run.report))
    tokens = page.locator("#credit-responses .credit-token")
    assert tokens.count() == 1500
    page.click("#credit-responses >> text=show more of 2000 tokens")
    assert tokens.count() == 2000


def test_rollouts_of_verl_are_shown_with_what_they_have(open_page, tmp_path):
    run = RunDirectory(tmp_path / "cluster")
    run.create({"run": {"name": "cluster"}, "verl": {"metrics": []}})
    credited = group(1)
    for record in credited:
        for name in ("problem", "outcome", "reward", "expected", "answer", "reason", "truncated"):
            del record[name]
    run.write_rollouts(1, credited)
    run.write_rollouts(2, [{"step": 2, "prompt": "2+2=", "response": "four", "expected": "4", "reward": -1.0}])
    write_report([run], run.report)
    page = ready(open_page(run.report))
    assert page.inner_text("#credit-title") == "Step 1, sums/1 = : 2 responses"
    first = page.locator(".credit-response").first.locator("div").all_inner_texts()
    assert first[:2] == [
        "better than the others, pushed up (advantage +1); f from 1.01 to 1.03: hardly moved",
        "mini-batch 2",
    ]
    page.select_option("#credit-mini-batch", "")
    page.select_option("#credit-step", "2")
    page.wait_for_function("document.getElementById('credit-title').textContent.startsWith('Step 2')")
    assert re.split(r"\n+", page.inner_text("#credit-responses")) == [
        "reward -1",
        "four",
        "No tokens recorded: text only.",
    ]


def test_several_runs_are_chosen_by_name(open_page, run, tmp_path):
    second = RunDirectory(tmp_path / "second")
    second.create({"run": {"name": "second"}, **RESOLVED})
    second.write_rollouts(7, group(7, "sums/second"))
    write_report([run, second], tmp_path / "report.html")
    page = ready(open_page(tmp_path / "report.html"))
    page.select_option("#credit-run", label="second")
    page.wait_for_function("document.getElementById('credit-title').textContent.startsWith('Step 7, sums/second')")
    assert page.inner_text("#credit-found") == "2 of 2 stored rollouts"


def test_where_credit_is_known_the_true_advantage_stands_under_the_tokens(page, open_page, tmp_path):
    assert page.locator("#credit-quantity option[value=true_advantage]").count() == 0
    assert not page.locator("#credit-truth").is_visible()
    run = RunDirectory(tmp_path / "relay")
    run.create({"run": {"name": "relay"}, **RESOLVED})
    records = group(1, "relay/3741:0", log_ratios={1.0: [0.1, 0.1, 0.1], -1.0: [-0.1, -0.1, -0.1]})
    for record, truth in zip(records, ([0.25, 0.0, 0.5], [0.25, -0.4, 0.0]), strict=True):
        record["true_advantage"] = truth
    run.write_rollouts(1, records)
    write_report([run], tmp_path / "report.html")
    known = ready(open_page(tmp_path / "report.html"))
    assert known.locator("#credit-truth").is_visible()
    wrong = known.locator(".credit-response", has_text="advantage -1").locator(".credit-token")
    assert [("truth-low" in c, "truth-high" in c) for c in (wrong.nth(i).get_attribute("class") for i in range(3))] == [
        (False, True),
        (True, False),
        (False, False),
    ]
    assert tip_of(wrong.nth(1))[0]["true advantage"] == "-0.4"
    known.select_option("#credit-quantity", "true_advantage")
    assert "credit-low" in wrong.nth(1).get_attribute("class")
    assert "it made a wrong end likelier" in known.inner_text("#credit-legend")


def plain_run(path, objective=RESOLVED, **records):
    run = RunDirectory(path)
    run.create({"run": {"name": path.name}, **objective})
    run.write_rollouts(1, group(1, **records))
    return run


def with_bounds(path, low, high):
    """A run with these bounds of f: its weights, and the marks of what lies outside 0.8 and 1.2."""
    run = RunDirectory(path)
    objective = RESOLVED["resolved"]["objective"] | {"influence_clip": [low, high]}
    run.create({"run": {"name": path.name}, **RESOLVED, "resolved": {"objective": objective}})
    records = group(1, log_ratios=MARKED)
    for record in records:
        record["influence_weight"] = [min(max(weight, low), high) for weight in record["influence_weight"]]
        record["left_out"] = None
    run.write_rollouts(1, records)
    return run


def test_where_a_bound_lets_nothing_be_attenuated_that_card_is_coloured_before_the_bounds(open_page, tmp_path):
    run = RunDirectory(tmp_path / "upwards")
    run.create({"run": {"name": "upwards"}, **RESOLVED})
    for step, log_ratios in enumerate(({1.0: [0.1, 0.1]}, {1.0: [-0.1, -0.1]}), start=1):
        records = group(step, log_ratios=log_ratios)
        for record in records:
            record["influence_weight"] = [max(weight, 1.0) for weight in record["influence_weight"]]
        run.write_rollouts(step, records)
    write_report([run], run.report)
    up, down = ready(open_page(run.report)).locator("#credit-gallery .credit-card").all()
    assert (up.locator(".credit-high").count(), up.locator(".credit-low").count()) == (2, 0)
    assert (down.locator(".credit-high").count(), down.locator(".credit-low").count()) == (0, 2)
    assert "the colour shows f as it would be." in down.inner_text()


def of_dapo(path):
    """As DAPO's rollouts are recorded: every weight 1, and the marks of what would have been outside its bounds."""
    return with_bounds(path, 1.0, 1.0)


def test_a_token_at_a_lower_bound_of_1_is_not_underlined_and_says_why_f_is_1(open_page, tmp_path):
    run = with_bounds(tmp_path / "upwards", 1.0, 1.2)
    write_report([run], run.report)
    responses = ready(open_page(run.report)).locator("#credit-responses")
    assert responses.locator(".weight_clipped_high").count() > 0
    assert responses.locator(".weight_clipped_low").count() == 0
    token = responses.locator(".credit-response", has_text="6 tokens").locator(".credit-token").nth(5)
    assert tip_of(token)[1][-1] == "Weight at its bound: exp(FutureKL) = 0.741 is below influence_clip (1, 1.2)."


def test_a_run_of_dapo_shows_no_weight_at_a_bound_and_is_coloured_by_its_log_ratios(open_page, tmp_path):
    run = of_dapo(tmp_path / "dapo")
    assert any(record["marks"].get("weight_clipped_high") for record in run.read_rollouts(1))
    write_report([run], run.report)
    page = ready(open_page(run.report))
    assert page.locator("#credit-responses .weight_clipped_high, #credit-responses .weight_clipped_low").count() == 0
    assert "f at a bound" not in page.inner_text("#credit-group")
    assert page.input_value("#credit-quantity") == "log_ratio"
    assert page.locator("#credit-quantity option[value=influence_weight]").count() == 0
    assert page.inner_text("#credit-gallery") == "This run's objective has no weights: f is 1 at every token."
    shown = page.inner_text("#credit").lower()
    for furniture in ("amplified", "attenuated", "spread of f", "future kl", "by construction"):
        assert furniture not in shown
    assert len(page.locator("#credit-rows tr").first.locator("td").all()) == 5
    assert page.locator("#credit-responses .not_summed").count() == 0
    assert "This objective has no weights: f is 1." in tip_of(page.locator("#credit-responses .credit-token").first)[1]


def test_a_run_with_weights_is_shown_before_one_without(open_page, tmp_path):
    runs = [of_dapo(tmp_path / "dapo"), plain_run(tmp_path / "fipo", log_ratios={1.0: [0.3, 0.2], -1.0: [-0.3, 0.1]})]
    write_report(runs, tmp_path / "report.html")
    page = ready(open_page(tmp_path / "report.html"))
    assert page.locator("#credit-run option:checked").inner_text() == "fipo"


def test_the_gallery_shows_three_groups_and_opens_one(page):
    cards = page.locator("#credit-gallery .credit-card")
    assert cards.locator("h4").all_inner_texts()[:2] == ["Most amplified", "Most attenuated"]
    assert "sums/marked = → 7" in cards.first.inner_text()
    assert cards.first.locator(".credit-high").count() > 0
    page.select_option("#credit-step", "1")
    cards.first.locator("button", has_text="all").click()
    page.wait_for_function("document.getElementById('credit-title').textContent.startsWith('Step 3, sums/marked')")
    _, said = tip_of(cards.first.locator(".credit-token").first)
    assert said[0].startswith("Its response is worse than the others")


def test_weights_that_hardly_moved_have_hardly_any_colour(open_page, tmp_path):
    run = plain_run(tmp_path / "still", log_ratios={1.0: [0.006, 0.0], -1.0: [0.0, 0.001]})
    write_report([run], run.report)
    page = ready(open_page(run.report))
    assert "f from 1.00 to 1.01: hardly moved" in page.inner_text("#credit-legend")
    strengths = page.locator("#credit-responses .credit-token").evaluate_all(
        "all => all.map(one => parseFloat(one.style.getPropertyValue('--strength')))"
    )
    assert 0 < max(strengths) < 10  # of 60


def test_on_a_phone_no_table_is_cut(open_page, report):
    page = ready(open_page(report, width=390))
    for table in (".credit-list table", "#credit-ranked table"):
        boxes = page.locator(f"#credit {table}, {table}").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().right)"
        )
        assert boxes and max(boxes) <= 390
