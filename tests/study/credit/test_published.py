"""The tables of docs/evidence/credit_truth are what its archived records say, of the committed design."""

import pytest
from tests.study.credit.conftest import ROOT

from fipo.errors import UserError
from fipo.study.credit.archive import add_record, read_records
from fipo.study.credit.design import load_design
from fipo.study.credit.outcome import markdown

DESIGN = ROOT / "recipe" / "study" / "credit_truth.toml"


@pytest.fixture
def design(monkeypatch):
    monkeypatch.chdir(ROOT)
    return load_design(DESIGN, {})


def test_the_published_tables_are_those_of_the_archived_records(design):
    records = {name: read_records(design.archive(name), design.fingerprint(name)) for name in design.cells}
    assert any(records.values())
    assert markdown(design, records) == (design.folder / "outcome.md").read_text()


def test_every_record_is_a_checkpoint_of_the_design_with_all_its_groups(design):
    for name in design.cells:
        records = read_records(design.archive(name), design.fingerprint(name))
        numbers = [record["number"] for record in records]
        assert numbers == sorted(set(numbers)) and set(numbers) <= set(range(design.credit.checkpoints))
        assert all(len(record["groups"]) == design.credit.groups for record in records)


def test_records_come_back_in_their_order_and_another_designs_are_refused(tmp_path):
    path = tmp_path / "cell.jsonl.gz"
    assert read_records(path, "one") == []
    for number in (2, 0):
        add_record(path, "one", {"number": number, "spread": 0.123456789})
    assert [record["number"] for record in read_records(path, "one")] == [0, 2]
    assert read_records(path, "one")[0]["spread"] == 0.1234568
    with pytest.raises(UserError, match="was measured by another design"):
        read_records(path, "other")
