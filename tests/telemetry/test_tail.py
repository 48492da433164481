import pytest

from fipo.errors import UserError
from fipo.telemetry.tail import Tail


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def test_lines_that_are_added_are_added_to_those_before(path):
    tail = Tail(path)
    append(path, '{"step": 0}\n')
    assert tail.lines() == [{"step": 0}]
    append(path, '{"step": 1}\n{"step": 2}\n')
    assert tail.lines() == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_half_a_line_waits_for_its_other_half(path):
    tail = Tail(path)
    append(path, '{"step": 0}\n{"st')
    assert tail.lines() == [{"step": 0}]
    append(path, 'ep": 1}\n')
    assert tail.lines() == [{"step": 0}, {"step": 1}]


def test_what_was_read_is_not_read_again(path):
    tail = Tail(path)
    append(path, '{"step": 0}\n')
    tail.lines()
    with path.open("r+") as file:
        file.write('{"step": 7}')
    append(path, '{"step": 1}\n')
    assert tail.lines() == [{"step": 0}, {"step": 1}]


def test_a_resumed_run_that_went_back_is_read_anew(path):
    tail = Tail(path)
    append(path, '{"step": 0}\n{"step": 1}\n')
    tail.lines()
    new = path.with_name("new")
    new.write_text('{"step": 0}\n{"step": 1, "again": 1}\n{"step": 2}\n')
    new.replace(path)
    assert tail.lines() == [{"step": 0}, {"step": 1, "again": 1}, {"step": 2}]


def test_there_is_nothing_before_there_is_a_file(path):
    assert Tail(path).lines() == []


def test_a_damaged_line_is_named(path):
    append(path, '{"step": 0}\nnonsense\n')
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2: damaged: "):
        Tail(path).lines()
