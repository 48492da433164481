import random

from fipo.training.passes.segments import LEAST_SHARED, Row, Segment, row_of, spans_of

EXAMPLES = list(range(100, 100 + LEAST_SHARED))


def read(row: Row, i: int, response: list[int]) -> list[int]:
    """Sequence number i, put together from what the segment of its last token sees."""
    last = row.before[i][-1] + 1 if len(response) > 1 else None
    for span in spans_of(row.segments):
        text = [row.tokens[j] for start, end in span.seen for j in range(start, end)]
        if (last is None and text[-1:] == response) or (last is not None and span.start <= last < span.end):
            return text
    raise AssertionError(f"no segment holds response {i}")


def test_a_group_shares_its_prompt() -> None:
    last = LEAST_SHARED - 1
    row = row_of([(EXAMPLES, [3]), (EXAMPLES, [4, 5]), (EXAMPLES, [6])])
    assert row.tokens == [*EXAMPLES, 3, 4, 5, 6]
    assert row.segments == [Segment(length=LEAST_SHARED), *(Segment(length=n, parent=0) for n in (1, 2, 1))]
    assert row.before == [[last], [last, last + 2], [last]]


def test_a_short_prompt_stands_before_each_of_its_responses() -> None:
    row = row_of([([1, 2], [3]), ([1, 2], [4, 5])])
    assert row.tokens == [1, 2, 3, 1, 2, 4, 5]
    assert row.segments == [Segment(length=3), Segment(length=4)]
    assert row.before == [[1], [4, 5]]


def test_a_prompt_with_one_response_is_one_segment_with_it() -> None:
    row = row_of([([1, 2], [3, 4]), ([5], [6])])
    assert row.segments == [Segment(length=4), Segment(length=2)]
    assert row.before == [[1, 2], [4]]


def test_the_head_of_all_prompts_stands_once_if_it_is_long_enough() -> None:
    row = row_of([([*EXAMPLES, 1, *EXAMPLES], [2, 3]), ([*EXAMPLES, 1, *EXAMPLES], [4]), ([*EXAMPLES, 5], [6])])
    assert row.tokens == [*EXAMPLES, 1, *EXAMPLES, 2, 3, 4, 5, 6]
    assert [segment.parent for segment in row.segments] == [None, 0, 1, 1, 0]
    short = row_of([([*EXAMPLES[:-1], 1], [2]), ([*EXAMPLES[:-1], 5], [6])])
    assert [segment.parent for segment in short.segments] == [None, None]


def test_a_prompt_may_be_the_head_of_another() -> None:
    row = row_of([(EXAMPLES, [1]), (EXAMPLES, [2]), ([*EXAMPLES, 3], [4])])
    assert row.tokens == [*EXAMPLES, 1, 2, 3, 4]
    last = len(EXAMPLES) - 1
    assert row.before == [[last], [last], [last + 3]]


def test_positions_count_the_ancestors() -> None:
    spans = spans_of([Segment(length=3), Segment(length=2, parent=0), Segment(length=4), Segment(length=1, parent=1)])
    assert [span.past for span in spans] == [0, 3, 0, 5]
    assert spans[3].seen == [(0, 3), (3, 5), (9, 10)]


def test_every_sequence_can_be_read_from_its_row() -> None:
    rng = random.Random(0)
    for _ in range(50):
        prompts = [rng.choice([EXAMPLES, []]) + [rng.randrange(9)] * rng.randint(1, 3) for _ in range(3)]
        if rng.random() < 0.5:
            prompts = [EXAMPLES + rng.choice([EXAMPLES, []]) + prompt for prompt in prompts]
        sequences = [
            (prompt, [1000 + 10 * i + j for j in range(rng.randint(1, 4))])
            for i, prompt in enumerate(p for p in prompts for _ in range(rng.randint(1, 3)))
        ]
        row = row_of(sequences)
        for i, (prompt, response) in enumerate(sequences):
            assert read(row, i, response) == prompt + response
            assert [row.tokens[place] for place in row.before[i]] == [prompt[-1], *response[:-1]]
