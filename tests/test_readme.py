import re
import runpy


def test_the_snippet_of_the_readme_runs_as_it_stands_and_prints_numbers(repository, tmp_path, capsys):
    [snippet] = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "snippet.py"
    script.write_text(snippet)
    runpy.run_path(str(script))
    printed = capsys.readouterr().out
    assert "tensor([[" in printed
    assert re.search(r"'fipo/influence_weight/mean': \d\.\d+", printed)
    assert "Mean(" not in printed


def test_the_readme_is_short(repository):
    assert len((repository / "README.md").read_text().splitlines()) <= 120


def test_every_page_stands_in_the_index(repository):
    index = (repository / "docs" / "README.md").read_text()
    assert [page.name for page in (repository / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]
