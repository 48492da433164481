"""The tables of docs/evidence/credit_truth are what its archived records say, of the committed design."""

import numpy as np
import pytest
from tests.study.credit.conftest import ROOT

from fipo.errors import UserError
from fipo.study.credit.archive import add_record, read_records
from fipo.study.credit.design import load_design
from fipo.study.credit.estimands import correlation, cosine, of_groups, share
from fipo.study.credit.outcome import markdown
from fipo.study.credit.signals import BOUNDS

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


def test_a_cell_is_in_the_tables_when_it_is_whole(design):
    records = {name: [] for name in design.cells}
    for name in ("r32_l8", "r4_l8"):
        records[name] = read_records(design.archive(name), design.fingerprint(name))
    without = markdown(design, records | {"r4_l8": []})
    begun = markdown(design, records | {"r4_l8": records["r4_l8"][:3]})
    assert "In so far: 1 of 14 cells.\n" in without
    assert "In so far: 1 of 14 cells; begun, and in no table: r4_l8 with 3 of 12 checkpoints.\n" in begun
    assert begun.splitlines()[3:] == without.splitlines()[3:]
    assert "4 responses an update, L = 8" in markdown(design, records)


def gains_of(design, name):
    """[12] each: gains of f over its shuffled twin, of true advantages over DAPO, of the twin over DAPO."""
    records = read_records(design.archive(name), design.fingerprint(name))
    weights = ("dapo", "fipo 1.0-1.2", "fipo 1.0-1.2/shuffled", "truth")
    dapo, fipo, twin, truth = (np.array([cosine(one, each) for one in records]) for each in weights)
    return fipo - twin, truth - dapo, twin - dapo


def without_the_largest(gains, truth):
    rest = np.arange(len(gains)) != gains.argmax()
    return gains[rest].sum() / truth[rest].sum()


def as_written(text):
    return text.replace("-0.", "-.").replace(" 0.", " .")


def test_what_the_page_says_of_single_checkpoints_is_in_the_records(design):
    page = " ".join((ROOT / "docs" / "evidence" / "credit_truth.md").read_text().split())
    (gains, truth, twin), (again, truth_again, twin_again) = (
        gains_of(design, f"sums_r4{more}") for more in ("", "_again")
    )
    said = (
        f"One checkpoint gives {gains.max():.3f} of the gains' sum of {gains.sum():.3f}, three give "
        f"{np.sort(gains)[2]:.4f} at most; without the one S would be {without_the_largest(gains, truth):.3f}",
        f"above 0 in {(again > 0).sum()} of 12, p = ",
        f"without the largest of its gains {without_the_largest(again, truth_again):.3f}",
        f"below DAPO ({twin.mean():.4f} of {gains.mean():.4f}; {twin_again.mean():.4f} of {again.mean():.4f})",
        f"what true advantages gain over DAPO is {truth.mean():.3f} and {truth_again.mean():.3f}, and in "
        f"{(truth < 0).sum()} and {(truth_again < 0).sum()} of 12 checkpoints they are behind it",
    )
    assert [text for text in said if as_written(text).replace("(-0.", "(-.") not in page] == []

    primary = read_records(design.archive("r32_l8"), design.fingerprint("r32_l8"))
    spreads = np.array([one["spread"] for one in primary])
    own = [correlation(of_groups([one], "x, A")) for one in primary]
    assert as_written(f"between {spreads.min():.2f} and {spreads.max():.2f} in the primary cell") in page
    assert as_written(f"correlate by {np.corrcoef(spreads, own)[0, 1]:.2f}") in page


def test_what_evidence_says_of_the_cells_is_in_the_records(design):
    page = " ".join((ROOT / "docs" / "evidence.md").read_text().split())
    cells = {name: read_records(design.archive(name), design.fingerprint(name)) for name in design.cells}
    relays = {name: records for name, records in cells.items() if "sums" not in name and "_l0" not in name}
    primary, sums, again = (cells[name] for name in ("r32_l8", "sums_r4", "sums_r4_again"))

    def s_of(records, name="fipo 1.0-1.2"):
        return share(records, name, f"{name}/shuffled")

    def gain(records, name):
        return share(records, name, "dapo").share.value

    def interval(of):
        return f"{of.value:.3f} [{of.low:.3f}, {of.high:.3f}]"

    others = [s_of(records).share.value for name, records in relays.items() if name != "r32_l8"]
    averaged, on_sums = (
        [gain(records, f"fipo {bounds}/averaged") for records in some for bounds in BOUNDS]
        for some in (relays.values(), (sums, again))
    )
    suffix = [gain(records, "suffix") for records in relays.values()]
    base = [s_of(records, "signed against the base").share.value for records in (*relays.values(), again)]
    said = (
        f"S of (1.0, 1.2) is {interval(s_of(primary).share)}, p = {s_of(primary).p:.2f}**",
        f"and {interval(s_of(primary, 'truth 1.0-1.2').share)} for true advantages in the same bounds",
        f"in eight more {min(others):.3f} to {max(others):.3f} (shared seeds)",
        f"S is {interval(s_of(sums).share)}, p = 0.0005, on fresh seeds {interval(s_of(again).share)}, p = 0.004",
        f"against DAPO {interval(share(sums, 'fipo 1.0-1.2', 'dapo').share)}, "
        f"{interval(share(again, 'fipo 1.0-1.2', 'dapo').share)}.",
    )
    assert [text for text in said if text not in page] == []
    of_l8, of_l64 = ([s_of(cells[f"r{n}_{length}"]).share.value for n in (4, 32, 256)] for length in ("l8", "l64"))
    in_the_table = (
        f"| no: {of_l8[0]:.3f} with 4, {of_l8[1]:.3f} with 32, {of_l8[2]:.3f} with 256 (L = 8; "
        f"L = 64: {', '.join(f'{one:.3f}' for one in of_l64)}) |",
        f"| averaged {min(averaged):.2f} to {max(averaged):.2f} on relays, "
        f"suffix {min(suffix):.2f} to {max(suffix):.2f}; on sums {min(on_sums):.2f} to {max(on_sums):.2f}, "
        f"{gain(sums, 'suffix'):.2f} and {gain(again, 'suffix'):.2f} |",
        f"signed log-ratio to the base has {base[-1]:.1f}, on relays from {max(base[:-1]):.2f} to {min(base):.2f} |",
    )
    assert [text for text in map(as_written, in_the_table) if text not in page] == []
    assert all(gain(r, "fipo 0.8-1.2") > max(gain(r, f"fipo {b}") for b in ("1.0-1.2", "0-10")) for r in (sums, again))


def test_records_come_back_in_their_order_and_another_designs_are_refused(tmp_path):
    path = tmp_path / "cell.jsonl.gz"
    assert read_records(path, "one") == []
    for number in (2, 0):
        add_record(path, "one", {"number": number, "spread": 0.123456789})
    assert [record["number"] for record in read_records(path, "one")] == [0, 2]
    assert read_records(path, "one")[0]["spread"] == 0.1234568
    with pytest.raises(UserError, match="was measured by another design"):
        read_records(path, "other")
