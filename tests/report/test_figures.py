import itertools
import re

from fipo.report.figures import CHAPTERS, all_figures, used_keys


def documented(text):
    """The keys between backticks, `a/{b,c}` as both."""
    for name in re.findall(r"`([a-z_0-9{},/]+)`", text):
        parts = [part.strip("{}").split(",") for part in re.split(r"(\{[^}]*\})", name)]
        yield from ("".join(choice) for choice in itertools.product(*parts))


def test_every_key_of_a_figure_is_defined_in_the_documentation(repository):
    text = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert set(used_keys(all_figures())) <= set(documented(text))


def test_every_training_curve_of_the_paper_is_there_but_the_maximum(repository):
    text = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = text.split("## The training curves of the paper")[1].split("##")[0]
    assert set(documented(table)) - set(used_keys(all_figures())) == {"response_length/max"}


def test_each_figure_says_in_one_sentence_what_to_look_for():
    assert all(re.fullmatch(r"[A-Z1][^.!?]*\.", figure.look_for) for figure in all_figures())


def test_the_spread_of_f_in_use_stands_beside_the_one_before_its_bounds():
    spread = next(figure for figure in all_figures() if figure.title.startswith("Spread of f"))
    assert spread.needs() == ["fipo/raw_influence_weight/std", "fipo/influence_weight/std"]


def test_titles_are_different():
    titles = [figure.title for figure in all_figures()] + [chapter.title for chapter in CHAPTERS]
    assert len({title.lower() for title in titles}) == len(titles)
