import pytest

from fipo.grading.latex.verdict import same_answer
from fipo.grading.latex.words import scaled


@pytest.mark.parametrize(
    "said",
    [
        *(
            "at least 12",
            "at most 12",
            "more than 12",
            "fewer than 12",
            "up to 12",
            "not 12",
            "cannot be 12",
            "over 12",
        ),
        *(
            "half of 12",
            "twice 12",
            "all but 12",
            "other than 12",
            "between 12",
            "exceeds 12",
            "minus 12",
            "negative 12",
        ),
        *("12 million", "12 thousand", "12 dozen", "12 squared", "12 tenths", "12 less than 20", "12 at least"),
    ],
)
def test_words_that_make_another_answer_of_a_number_are_not_left_out(said):
    assert not same_answer("12", rf"\text{{{said}}}")
    assert same_answer(said, said)


@pytest.mark.parametrize(
    "said",
    [
        *(
            "The answer is 12",
            "The least value is 12",
            "exactly 12",
            "equal to 12",
            "about 12",
            "12 more",
            "12 left over",
        ),
        *("12 quarters", "12 per hour", "12 pairs of shoes", "12 square feet", "most likely 12", "12 units"),
    ],
)
def test_other_words_are(said):
    assert same_answer("12", rf"\text{{{said}}}")


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ("12000000", "12 million"),
        ("1200000", r"1.2\text{ million}"),
        ("300000", "3 hundred thousand"),
        ("24", "2 dozens"),
        ("-12", r"\text{minus }12"),
        ("5 million", "5000000"),
    ],
)
def test_words_that_are_a_factor_or_a_sign_are_computed(right, said):
    assert same_answer(right, said)


def test_what_is_no_factor_stays():
    assert scaled(["million", "Euros"]) == (10**6, ["Euros"])
    assert scaled(["euros"]) == (1, ["euros"])
