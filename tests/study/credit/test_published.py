"""The tables of docs/evidence/credit_truth are what its archived records say, of the committed design."""

import numpy as np
import pytest
from tests.study.credit.conftest import ROOT

from fipo.errors import UserError
from fipo.study.credit.archive import add_record, read_records
from fipo.study.credit.design import load_design
from fipo.study.credit.estimands import correlation, cosine, of_groups
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


def test_what_the_page_says_of_single_checkpoints_is_in_the_records(design):
    page = " ".join((ROOT / "docs" / "evidence" / "credit_truth.md").read_text().split())
    sums, primary = (read_records(design.archive(name), design.fingerprint(name)) for name in ("sums_r4", "r32_l8"))

    of = {name: np.array([cosine(one, name) for one in sums]) for name in ("dapo", "fipo 1.0-1.2", "truth")}
    twin = np.array([cosine(one, "fipo 1.0-1.2/shuffled") for one in sums])
    gains, truth = of["fipo 1.0-1.2"] - twin, of["truth"] - of["dapo"]
    rest = np.arange(len(gains)) != gains.argmax()
    three = np.sort(gains)[2]
    said = f"One checkpoint gives {gains.max():.3f} of the gains' sum of {gains.sum():.3f}, three give {three:.4f} at "
    said += f"most; without the one S would be {gains[rest].sum() / truth[rest].sum():.3f}"
    assert said.replace(" 0.", " .") in page
    below = f"({(twin - of['dapo']).mean():.4f} of {gains.mean():.4f})"
    assert below.replace("0.0", ".0") in page

    spreads = np.array([one["spread"] for one in primary])
    own = [correlation(of_groups([one], "x, A")) for one in primary]
    between = f"between {spreads.min():.2f} and {spreads.max():.2f} in the primary cell"
    assert between.replace(" 0.", " .") in page
    assert f"correlate by {np.corrcoef(spreads, own)[0, 1]:.2f}".replace("-0.", "-.") in page


def test_records_come_back_in_their_order_and_another_designs_are_refused(tmp_path):
    path = tmp_path / "cell.jsonl.gz"
    assert read_records(path, "one") == []
    for number in (2, 0):
        add_record(path, "one", {"number": number, "spread": 0.123456789})
    assert [record["number"] for record in read_records(path, "one")] == [0, 2]
    assert read_records(path, "one")[0]["spread"] == 0.1234568
    with pytest.raises(UserError, match="was measured by another design"):
        read_records(path, "other")
