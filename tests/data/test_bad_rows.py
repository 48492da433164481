import pytest

from fipo.data.bad_rows import NAMED, BadRows
from fipo.errors import UserError


def fill(bad_rows, count):
    for number in range(1, count + 1):
        bad_rows.leave_out(f"data.jsonl, line {number}", "prompt must not be empty")


def test_without_a_budget_the_first_malformed_row_stops_the_run():
    said = []
    with pytest.raises(UserError) as error:
        BadRows(0, said.append).leave_out("data.jsonl, line 17", "prompt must not be empty")
    assert str(error.value) == (
        "data.jsonl, line 17: prompt must not be empty "
        "(malformed row 1 of this source; data.max_bad_rows = 0 may be left out)"
    )
    assert said == []


def test_as_many_rows_as_the_budget_are_left_out_and_named_and_one_more_stops_the_run():
    said = []
    bad_rows = BadRows(2, said.append)
    fill(bad_rows, 2)
    assert bad_rows.count == 2
    assert said == [f"data.jsonl, line {n}: prompt must not be empty; left out" for n in (1, 2)]
    with pytest.raises(UserError, match=r"^data\.jsonl, line 9: .* \(malformed row 3 .* data\.max_bad_rows = 2 "):
        bad_rows.leave_out("data.jsonl, line 9", "a row must be an object, got list")


@pytest.mark.parametrize("count", [NAMED, NAMED + 1, 5 * NAMED])
def test_ten_rows_are_named_and_all_are_counted(count):
    said = []
    bad_rows = BadRows(100, said.append)
    fill(bad_rows, count)
    assert len(said) == NAMED
    assert bad_rows.summary().startswith(f"{count} malformed rows left out")
    assert ("the first 10 named above" in bad_rows.summary()) == (count > NAMED)


def test_one_malformed_row_is_one_row():
    bad_rows = BadRows(100, lambda _: None)
    fill(bad_rows, 1)
    assert bad_rows.summary() == "1 malformed row left out (data.max_bad_rows = 100)"
