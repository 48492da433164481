import pytest

from fipo.grading.latex.finding import final_answers

# response, what is read first
READ = [
    ("It is \\boxed{5}.", "5"),
    ("Thus \\boxed 5.", "5"),
    ("Thus \\fbox{5}.", "5"),
    ("\\boxed{\\frac{1}{\\sqrt{4}}}", "\\frac{1}{\\sqrt{4}}"),
    ("\\boxed{**5**}", "5"),
    ("I first got \\boxed{10}, but that is wrong; it is \\boxed{12}.", "12"),
    ("\\boxed{10}\n\n\\boxed{12}", "12"),
    ("\\boxed{5} Final answer: \\boxed{}", "5"),  # the last one that is complete
    ("\\boxed{3} and \\boxed{4}", "3, 4"),
    ("\\boxed{3}, \\boxed{4}", "3, 4"),
    ("\\boxed{1} \\boxed{2} \\boxed{12}", "1, 2, 12"),
    ("\\boxed{3}, and $\\boxed{4}$", "3, 4"),
    ("\\boxed{12\\,}", "12"),
    ("\\boxed{12\\ }", "12"),
    ("\\boxed{12~.}", "12"),
    ("\\boxed{12\\;\\!,}", "12"),
    ("\\boxed{12\\\\}", "12"),
    ("The answer is at least 12.", "at least 12"),
    ("Answer: **at most 12**", "at most 12"),
    ("The answer is at most $12$, as shown", "at most $12$"),
    ("<answer>7</answer> \\boxed{5}", "7"),
    ("<answer>7</answer> or <answer> 8 </answer>", "8"),
    ("<answer></answer> it is \\boxed{5}", "5"),
    ("<answer>\\boxed{5}</answer>", "5"),
    ("Answer: **1/2**", "1/2"),
    ("The answer is 5, since 2+3 = 5.", "5"),
    ("The answer is **61** people.", "61"),
    ("### Final Answer\n\n**61**", "61"),
    ("The final answer is $61$. I hope it is correct.", "$61$"),
    ("Answer: 5\nNo.\nAnswer: 6", "6"),
    ("#### 18", "18"),
    ("The answer is:\n\n12", "12"),
    ("The final answer is:\n\n$$12$$", "$$12$$"),
    ("The answer is (B).", "(B)"),
    ("The answer is (1, 2), as shown", "(1, 2)"),
    ("<answer>5</answer></answer>", "5"),
    ("so it is `x**2`", "x**2"),
    ("so it is $x+1$", "x+1"),
    ("so it is \\(x+1\\) or 7", "7"),
    ("This was checked with 2*30+1 = 61.", "61"),
    ("so **x+1**", "x+1"),
    ("2\\cdot 10^{-7}", "2\\cdot 10^{-7}"),
]


@pytest.mark.parametrize(("response", "answer"), READ)
def test_the_last_complete_answer_is_read(response, answer):
    assert final_answers(response)[0] == answer


@pytest.mark.parametrize(
    "response",
    [
        "",
        "no idea",
        "\\boxed{}",
        "<answer></answer>",
        "I think of 34. <answer></answer>",
        "It is \\boxed{5}. Then \\boxed{6",
        "It is \\boxed{5}. Final answer: \\boxed{",
        "<answer>5</answer> no, <answer>6",
        "The answer is:\n\n",
        "So it is more than 12",
        "So it is at least $12$.",
    ],
)
def test_an_answer_that_is_cut_off_or_empty_is_none_and_nothing_before_it_counts(response):
    assert final_answers(response) == []


def test_a_long_row_of_marks_takes_no_time():
    assert final_answers("\\boxed{5" + "*. \\," * 100_000 + "}") == ["5"]


def test_boxes_with_words_between_them_may_be_a_list_too():
    assert final_answers("One root is \\boxed{3}. The other one is \\boxed{4}.") == ["4", "3, 4"]
