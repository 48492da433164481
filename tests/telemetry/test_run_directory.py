import json
import tomllib

import pytest

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "runs" / "first")
    run.create({"run": {"name": "first", "seed": 0}})
    return run


def test_metrics_come_back_in_order_with_every_bit(run):
    lines = [{"step": step, "reward/mean": 0.1 * step, "policy/kl": 1e-17 / 3} for step in range(5)]
    for line in lines:
        run.append_metrics(line)
    assert run.read_metrics() == lines


def test_each_step_is_one_json_object_on_a_line(run):
    run.append_metrics({"step": 1, "reward/mean": -0.5})
    run.append_metrics({"step": 2, "reward/mean": 0.5})
    lines = run.metrics.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_a_run_without_metrics_yet_has_none(run):
    assert run.read_metrics() == []


def test_a_line_that_a_killed_process_left_unfinished_is_not_read(run):
    run.append_metrics({"step": 1, "reward/mean": 0.5})
    with run.metrics.open("a") as file:
        file.write('{"step": 2, "reward/me')
    assert run.read_metrics() == [{"step": 1, "reward/mean": 0.5}]


def test_a_resumed_run_writes_on_after_an_unfinished_line(run):
    run.append_metrics({"step": 0})
    with run.metrics.open("a") as file:
        file.write('{"step": 1, "reward/me')
    rewind(run, 0)
    run.append_metrics({"step": 1})
    assert run.read_metrics() == [{"step": 0}, {"step": 1}]


def test_the_configuration_comes_back_from_readable_toml(tmp_path):
    run = RunDirectory(tmp_path / "second")
    values = {"run": {"name": "ä", "seed": 3}, "update": {"learning_rate": 5e-05}, "clip": {"bounds": [1.0, 1.2]}}
    run.create(values)
    assert run.read_config() == values
    assert tomllib.loads(run.config.read_text(encoding="utf-8")) == values


def test_a_run_is_not_overwritten_and_the_message_says_what_to_do(run):
    with pytest.raises(UserError) as error:
        RunDirectory(run.path).create({})
    assert str(error.value) == (
        f"{run.path}: a run is already there; add --resume to continue it, or choose another --run.name"
    )


def test_a_run_that_failed_before_it_began_leaves_its_name_free(tmp_path):
    run = RunDirectory(tmp_path / "first")
    run.rollouts.mkdir(parents=True)
    run.create({})
    assert run.rollouts.is_dir() and run.checkpoints.is_dir()


def test_a_folder_that_is_no_run_is_named(tmp_path, run):
    assert RunDirectory.existing(run.path).read_config()["run"]["name"] == "first"
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError) as error:
            RunDirectory.existing(path)
        assert str(error.value) == f"{path}: not a run directory (it has no config.toml)"


RECORDS = [
    {
        "step": 3,
        "response": "12-7=5#5",
        "tokens": ["12-7", "=5", "#5"],
        "outcome": "correct",
        "log_ratio": [0.0, 1e-6, -0.25],
    },
    {"step": 3, "response": "line\nbreaks\r\u2028\u2029\x85\x0b\x0c\x1c and \x00 ∑ 😀", "log_ratio": []},
]


def test_rollouts_come_back_as_they_were_written_whatever_their_text(run):
    run.write_rollouts(3, RECORDS)
    assert run.read_rollouts(3) == RECORDS
    assert (run.rollouts / "step_000003.jsonl").is_file()


def test_a_lone_surrogate_is_written_and_read_back(run):
    run.write_rollouts(3, [{"answer": "\ud800 and \udfff", "response": "∑"}])
    assert run.read_rollouts(3) == [{"answer": "\ud800 and \udfff", "response": "∑"}]


def test_a_damaged_line_is_named(run):
    run.append_metrics({"step": 1})
    with run.metrics.open("ab") as file:
        file.write(b"\0\0\0\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: damaged"):
        run.read_metrics()


@pytest.mark.parametrize("line", ["[1]", '{"reward/mean": 1.0}', '{"step": "one"}'])
def test_a_line_that_is_of_no_step_is_named(line, run):
    run.metrics.write_text(line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1: must be an object with a step, got "):
        run.read_metrics()


@pytest.mark.parametrize("content", [b"[run\n", b"\xff"])
def test_a_damaged_configuration_is_named(run, content):
    run.config.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.toml: damaged: "):
        run.read_config()


def test_a_copy_of_a_checkpoint_under_another_name_is_none(run):
    for name in ("step_000003", "step_000003_backup", "step_3", "step_1000000", "step_999999"):
        (run.checkpoints / name).mkdir()
    assert [path.name for path in run.all_checkpoints()] == ["step_000003", "step_999999", "step_1000000"]
    assert run.newest_checkpoint().name == "step_1000000"


def test_rollouts_of_a_step_may_be_none(run):
    run.write_rollouts(3, [])
    assert run.read_rollouts(3) == []


def test_writing_rollouts_again_replaces_them(run):
    run.write_rollouts(3, RECORDS)
    run.write_rollouts(3, RECORDS[:1])
    assert run.read_rollouts(3) == RECORDS[:1]


def written(run, steps):
    for step in steps:
        run.append_metrics({"step": step, "reward/mean": step / 3})
        run.write_rollouts(step, RECORDS)


def rewind(run, step):
    run.rewind([line for line, _ in run.whole_steps()[: step + 1]])


@pytest.mark.parametrize("step", [-1, 0, 2, 4, 9])
def test_rewinding_forgets_exactly_what_came_after_a_step(run, step):
    written(run, range(5))
    before = run.read_metrics()
    rewind(run, step)
    kept = [number for number in range(5) if number <= step]
    assert run.read_metrics() == [before[number] for number in kept]
    assert sorted(path.name for path in run.rollouts.iterdir()) == [f"step_{number:06d}.jsonl" for number in kept]


def test_rewinding_and_writing_again_gives_the_same_bytes(run):
    written(run, range(5))
    whole = run.metrics.read_bytes()
    rewind(run, 2)
    written(run, (3, 4))
    assert run.metrics.read_bytes() == whole


def test_rewinding_leaves_no_other_file_and_no_checkpoint_behind(run):
    (run.checkpoints / "step_000009").mkdir()
    written(run, range(3))
    rewind(run, 1)
    assert sorted(path.name for path in run.path.iterdir()) == [
        "checkpoints",
        "config.toml",
        "metrics.jsonl",
        "rollouts",
    ]
    assert run.all_checkpoints() == [run.checkpoints / "step_000009"]


def test_a_run_without_metrics_can_be_rewound(run):
    run.rewind([])
    assert run.read_metrics() == []


def test_checkpoints_are_listed_oldest_first_without_unfinished_ones(run):
    for name in ("step_000100", "step_000020", ".step_000120.tmp", "step_000003"):
        (run.checkpoints / name).mkdir()
    assert [path.name for path in run.all_checkpoints()] == ["step_000003", "step_000020", "step_000100"]


WHOLE = b'{"step": 0, "a": 1}\n{"step": 1, "a": 0.5}\n{"step": 2, "a": 2}\n'


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (WHOLE, 3),
        (b"", 0),
        (b"\0" * len(WHOLE), 0),
        (WHOLE[:-5], 2),
        (WHOLE * 2, 3),
        (WHOLE.replace(b'"step": 1', b'"step": true'), 1),
        (WHOLE.replace(b'"step": 1', b'"step": 1.0'), 1),
        (WHOLE.replace(b'"step": 1', b'"step": 0'), 1),
        (WHOLE.replace(b'"step": 1', b'"step": -1'), 1),
        (WHOLE.replace(b'"step": 1', b'"step": 2'), 1),
        (WHOLE.replace(b"0.5", b'"0.5"'), 1),
        (WHOLE.replace(b"0.5", b"null"), 1),
        (WHOLE.replace(b"0.5", b"true"), 1),
        (WHOLE.replace(b"0.5", b"NaN"), 1),
        (WHOLE.replace(b"0.5", b'"\xff"'), 1),
        (WHOLE.replace(b"\n", b"\n\n", 1), 1),
        (b"[" * 100_000 + b"\n", 0),
    ],
)
def test_steps_are_whole_up_to_the_first_line_that_is_not_the_next_one(run, content, count):
    run.metrics.write_bytes(content)
    assert [line for line, _ in run.whole_steps()] == WHOLE.splitlines()[:count]
    assert [values["step"] for _, values in run.whole_steps()] == list(range(count))


@pytest.mark.parametrize("line", ['{"step": true}', '{"step": 1, "a": "b"}', '{"step": 1, "a": [1]}', "[" * 100_000])
def test_a_line_of_metrics_that_is_no_step_with_numbers_is_named(run, line):
    run.metrics.write_text(line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 1: "):
        run.read_metrics()


def test_rewinding_leaves_what_is_not_ours(run):
    written(run, range(3))
    (run.rollouts / "step_x.jsonl").write_text("x")
    (run.rollouts / "step_000009").mkdir()
    (run.path / ".x.tmp").mkdir()
    rewind(run, 1)
    assert sorted(path.name for path in run.rollouts.iterdir()) == [
        "step_000000.jsonl",
        "step_000001.jsonl",
        "step_000009",
        "step_x.jsonl",
    ]
    assert not (run.path / ".x.tmp").exists()


def test_a_folder_of_rollouts_that_somebody_removed_is_made_again(run):
    run.rollouts.rmdir()
    run.write_rollouts(1, RECORDS)
    assert run.read_rollouts(1) == RECORDS


@pytest.mark.parametrize("content", ["resolved = 1\n", "a = 1\n[run]\n", "a = " + "[" * 5000, '[run]\nname = "\xff'])
def test_a_configuration_of_another_shape_is_damaged(run, content):
    run.config.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.toml: damaged: "):
        run.read_config()


def test_what_grades_failed_of_is_kept_by_step_and_forgotten_with_it(run):
    assert run.read_failures() == []
    run.append_failures(1, "2 grades failed")
    run.append_failures(3, "all of 4 grades failed", all_failed=True)
    assert [line["step"] for line in run.read_failures()] == [1, 3]
    run.rewind([b'{"step": 0}', b'{"step": 1}'])
    assert run.read_failures() == [{"step": 1, "what": "2 grades failed", "all_failed": False}]
    run.forget_failures()
    assert not run.failed_grades.exists()


def test_a_line_that_says_of_no_failed_grade_is_refused(run):
    run.failed_grades.write_text('{"step": 1}\n')
    with pytest.raises(UserError, match=r"failed_grades\.jsonl, line 1: must say what failed, got \{'step': 1\}"):
        run.read_failures()
