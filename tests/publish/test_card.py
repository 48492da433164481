import yaml

from fipo.publish.card import model_card, what_was_trained
from fipo.telemetry.run_directory import RunDirectory


def begun(folder, **model):
    run = RunDirectory(folder)
    run.create(
        {
            "model": {"path": "Qwen/Qwen2.5-0.5B", **model},
            "data": {"train": {"source": "hub", "name": "openai/gsm8k"}, "eval": {"source": "champ"}, "grader": "math"},
            "eval": {"samples": 4},
            "objective": {"preset": "release_7b"},
            "versions": {"torch": "2.13.0"},
        }
    )
    for step in range(30):
        value = step / 100
        ends = {"eval/ci/avg_at_k/low": value / 2, "eval/ci/avg_at_k/high": 2 * value}
        run.append_metrics({"step": step, "eval/avg_at_k": value, **ends})
    return run


def test_a_card_says_what_was_trained_on_what_and_with_which_versions(tmp_path):
    card = model_card(begun(tmp_path / "run"), name="mine", step=29)
    assert "# mine" in card and "`release_7b` for 29 steps (all weights), on `openai/gsm8k`, graded by `math`" in card
    assert "- torch 2.13.0" in card
    assert '[objective]\npreset = "release_7b"' in card


def test_the_header_is_what_the_hub_reads(tmp_path):
    header = yaml.safe_load(model_card(begun(tmp_path / "run"), name="mine", step=1).split("---")[1])
    assert header["base_model"] == "Qwen/Qwen2.5-0.5B" and header["library_name"] == "transformers"
    local = model_card(begun(tmp_path / "other", path=str(tmp_path)), name="mine", step=1)
    assert "base_model" not in local


def test_the_curve_has_intervals_and_at_most_a_dozen_rows_with_the_last_one(tmp_path):
    card = model_card(begun(tmp_path / "run"), name="mine", step=29)
    rows = [line for line in card.partition("## Curve")[2].partition("## ")[0].splitlines() if line.startswith("| ")]
    assert rows[0] == "| step | avg@4, % |" and rows[-1] == "| 29 | 29.0 [14.5, 58.0] |"
    assert len(rows) <= 13 + 1


def test_what_the_run_did_after_the_checkpoint_is_left_out(tmp_path):
    card = model_card(begun(tmp_path / "run"), name="mine", step=10)
    assert "| 10 | 10.0 [5.0, 20.0] |" in card and "| 11 |" not in card and "after step 10" in card


def test_a_base_in_4_bits_is_said_to_be_dequantised():
    lora = {"rank": 8, "base": "4bit"}
    said = what_was_trained({"model": {"lora": lora}})
    assert said == "adapters of rank 8, merged into the base dequantised from 4 bits (NF4)"
